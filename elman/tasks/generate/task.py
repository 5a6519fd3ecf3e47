"""`elman train generate`: sequences from a latent variable, from a label or from a vector."""

from typing import Any

from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.files import write_text
from elman.data.text.corpus import ProgressCallback
from elman.models.common.from_vector import FromVector
from elman.models.common.latent import SequenceVAE
from elman.models.common.loss import Loss
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.base.figures import draw_sheet
from elman.tasks.generate.options import GenerateOptions
from elman.tasks.generate.predictor import SequenceGenerator
from elman.tasks.generate.processor import GenerateProcessor
from elman.train.custom_cell import cell_class


class Generation(ExampleTask[GenerateOptions]):
    """Texts or series of numbers, whole, from what they have in common."""

    name = "generate"
    title = "a generator"
    help = """Train a model that writes sequences: from a latent variable, a label or a vector.

    [bold]elman train generate[/]                                8x8 digits, row by row
    [bold]elman train generate names.txt --word-dropout 0.5[/]   a text a line
    [bold]elman train generate names.csv --conditional[/]        from the label of each text
    [bold]elman train generate curves.npz --distribution normal[/]
    [bold]elman train generate curves.npz --conditional --vectors[/]   from y, [N, D]
    """
    files_help = "Text, a line each; CSV, TSV, JSONL, parquet; .ts, .npz. [dim]default: digits[/]"
    options_type = GenerateOptions
    processor_type = GenerateProcessor
    processor: GenerateProcessor
    predictor_type = SequenceGenerator

    # From files to a model

    @classmethod
    def check(cls, options: GenerateOptions, files: list[str]) -> None:
        super().check(options, files)
        cell = cell_class(options.cell)
        given = {"vector_size": options.latent, "num_classes": 2}
        _model(options, "text", {"vocab_size": 2, "end": 1}, given, cell)

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        return super().prepare(report) | self.processor.fit_encoded()

    def build(self, cell: type[Cell]) -> SequenceVAE | FromVector:
        p, inputs = self.processor, self.processor.inputs
        p.length  # noqa: B018  (raises where it is damaged, before anything is written with it)
        size = inputs.size if inputs.units is None else {**inputs.size, "end": inputs.units.end_id}
        given = p.conditioning.size(self.options.latent) if self.options.conditional else None
        return _model(self.options, p.kind, size, given, cell)

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        o, t = self.options, batch.tensors
        if o.conditional:
            return super().loss(model, batch, state, progress)
        rise = min(progress / o.anneal, 1.0) if o.anneal else 1.0
        return model.loss(t["x"], t["x_lengths"], o.beta * rise)

    def monitor(self, scores: dict[str, float]) -> float:
        """What training minimises in the end: with the weight of the KL divergence."""
        if self.options.conditional:
            return super().monitor(scores)
        return scores["reconstruction_nats"] + self.options.beta * scores["kl_nats"]

    # The end

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder = self.load(cell), self.run.folder
        examples = self.final_scores(trained, console)
        decode, some = self.processor.inputs.decode, range(min(10, len(examples)))
        given = [decode(examples[i]["x"]) for i in some]
        rows = trained.overview(given, self.options.seed)
        if self.processor.kind == "text":
            samples = folder / "samples.txt"
            sections = ("\n".join([f"# {name}", *texts]) for name, texts in rows)
            write_text(samples, "\n\n".join(sections) + "\n")
            console.rule(str(samples))
            console.print(samples.read_text("utf-8"), markup=False, highlight=False)
            console.rule()
        else:
            samples = folder / "samples.png"
            draw_sheet(samples, rows)
        self.point_to(console, samples.name, uses=["sample RUN --count 5"])


def _model(
    options: GenerateOptions,
    kind: str,
    size: dict[str, int],
    given: dict[str, Any] | None,
    cell: type[Cell],
) -> SequenceVAE | FromVector:
    how: dict[str, Any] = {
        **size,
        "hidden_size": options.hidden,
        "num_layers": options.layers,
        "word_dropout": options.word_dropout,
        **options.stack(cell),
    }
    how |= {"embedding_size": options.embedding} if kind == "text" else {"distribution": kind}
    if given is not None and options.conditional:
        return FromVector(**given, **how)
    return SequenceVAE(options.latent, free_bits=options.free_bits, **how)
