"""`elman train lm`: a text in, a language model out."""

from typing import Any

from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batches
from elman.data.core.files import write_text
from elman.data.text.corpus import ProgressCallback, Streams
from elman.models import LanguageModel
from elman.tasks.lm.options import LanguageModelOptions
from elman.tasks.lm.predictor import TextGenerator
from elman.tasks.lm.processor import LanguageProcessor
from elman.train.custom_cell import cell_class
from elman.train.task import Task


class LanguageModelling(Task[LanguageModelOptions]):
    """A text, read from end to end in streams side by side, with the state carried on."""

    name = "lm"
    title = "a language model"
    help = """Train a language model on text, and write with it.

    [bold]elman train lm[/]                                        the embedded text, 10 epochs
    [bold]elman train lm a.txt b.txt --minutes 10[/]               your own
    [bold]elman train lm --cell gru --cell-option update=replace[/]
    [bold]elman train lm --cell mine.py:MyCell[/]                  a cell of your own
    """
    files_help = "UTF-8 text, one file or many. [dim]default: Python's own documentation[/]"
    options_type = LanguageModelOptions
    processor_type = LanguageProcessor
    processor: LanguageProcessor
    predictor_type = TextGenerator
    unit = "token"

    @classmethod
    def check(cls, options: LanguageModelOptions, files: list[str]) -> None:
        _model(options, 2, cell_class(options.cell))

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        return self.processor.fit(report)

    def build(self, cell: type[Cell]) -> LanguageModel:
        return _model(self.options, self.processor.tokenizer.vocab_size, cell)

    def batches(self) -> tuple[Batches, Batches]:
        o = self.options
        train, valid = (
            self.processor.part(name).ids(self.run.folder) for name in ("train", "valid")
        )
        # A short validation part is read in fewer streams rather than in ones without a past.
        wanted = max(1, len(valid) // (4 * o.bptt))
        rows = min(o.batch_size, wanted - wanted % o.processes or 1)
        return Streams(train, o.batch_size, o.bptt), Streams(valid, rows, o.bptt)

    def summary(self) -> str:
        train, valid = self.processor.part("train"), self.processor.part("valid")
        text = (
            f"{train.tokens:,} training and {valid.tokens:,} validation tokens of "
            f"{self.processor.tokenizer.vocab_size} kinds ({self.options.tokenizer})"
        )
        if train.unknown or valid.unknown:
            text += (
                f", of them outside the vocabulary and read as one: {train.unknown:,} in "
                f"training, {valid.unknown:,} in validation"
            )
        return text

    def show(self, scores: dict[str, float]) -> str:
        text = f"{scores['loss_nats']:.4f} nats  {scores['bits_per_char']:.3f} bits/char"
        if "perplexity" in scores:
            text += f"  perplexity {scores['perplexity']:,.1f}"
        return text

    def finish(self, cell: type[Cell], console: Console) -> None:
        """Write what the best weights write, and print it."""
        loaded, folder = self.load(cell), self.run.folder
        sample = "".join(loaded.generate(length=1000, temperature=0.7, seed=self.options.seed))
        write_text(folder / "sample.txt", (loaded.prompt + sample).lstrip("\n") + "\n")
        console.rule(f"{folder / 'sample.txt'}, at temperature 0.7")
        console.print((folder / "sample.txt").read_text("utf-8"), markup=False, highlight=False)
        console.rule()
        self.point_to(console, "sample.txt", uses=['sample RUN --prompt "..."'])


def _model(options: LanguageModelOptions, vocab_size: int, cell: type[Cell]) -> LanguageModel:
    return LanguageModel(
        vocab_size,
        options.hidden,
        options.layers,
        embedding_size=options.embedding,
        tie_weights=options.tie,
        **options.stack(cell),
    )
