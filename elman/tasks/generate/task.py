"""`elman train generate`: sequences from a latent variable, from a label or from a vector."""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.files import write_text
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.series.labelled import LabelledSeries
from elman.data.text.corpus import ProgressCallback
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, unknown
from elman.models.common.from_vector import FromVector
from elman.models.common.latent import SequenceVAE
from elman.models.common.loss import Loss
from elman.settings import option
from elman.tasks.base.examples import ExampleTask, batched, load_best
from elman.tasks.base.figures import draw_sheet
from elman.tasks.base.independent import Independent
from elman.tasks.base.inputs import InputOptions, Inputs, Record, value_of
from elman.tasks.generate.conditioning import (
    Given,
    LabelConditioning,
    VectorConditioning,
    given_from_json,
)
from elman.tasks.generate.predictor import SequenceGenerator
from elman.train.custom_cell import cell_argument, cell_class

DISTRIBUTIONS = ("binary", "normal")
#: The tighter bound at the end is taken on so many examples at most.
BOUNDED = 500
#: What only a model with a latent variable has, or only one with labels.
OF_LATENT = ("beta", "anneal", "free_bits", "importance")
OF_LABELS = ("skip_unknown_labels", "vectors")


@dataclass(frozen=True)
class GenerateOptions(InputOptions):
    """What `elman train generate` takes beside the files."""

    epochs: int | None = option(
        None, "Passes over the training part. [dim]default: 60, or none with --minutes[/]",
        "Length",
    )  # fmt: skip
    tokenizer: str = option("char", f"Units: {', '.join(SENTENCE_TOKENIZERS)}.", "Text")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a label that training does not know.", "Data"
    )
    conditional: bool = option(False, "Write what belongs to a given label.", "Model")
    vectors: bool = option(
        False,
        "With --conditional: a label is a vector, numbers with spaces or commas between; in .npz y "
        "is [N, D].",
        "Data",
    )
    distribution: str | None = option(
        None,
        f"Of numbers: {', '.join(DISTRIBUTIONS)}. [dim]default: binary for zeros and ones and for "
        "the embedded digits[/]",
        "Model",
    )
    hidden: int = option(128, "Units in each layer.", "Model")
    latent: int = option(16, "Size of the latent variable, or of a label's vector.", "Model")
    beta: float = option(1.0, "Weight of the KL divergence in the end.", "Regularisers")
    anneal: float = option(
        0.5, "Share of the training over which that weight rises from 0.", "Regularisers"
    )
    free_bits: float = option(
        0.0, "Nats of KL in each dimension that cost nothing more.", "Regularisers"
    )
    word_dropout: float = option(
        0.3, "Share of the previous items that are hidden in training.", "Regularisers"
    )
    importance: int = option(
        64, "Draws for each sequence for a tighter bound at the end; 0: no such bound.", "Watching"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(latent=self.latent)
        for name, most in (("beta", math.inf), ("anneal", 1), ("importance", math.inf)):
            value = getattr(self, name)
            if not 0 <= value <= most or value == math.inf:
                limit = "" if most == math.inf else f" and at most {most}"
                raise OptionError(f"{name} must be 0 or above{limit}, got {value}")
        if self.distribution not in (None, *DISTRIBUTIONS):
            raise unknown("distribution", self.distribution, DISTRIBUTIONS)
        default = {f.name: f.default for f in fields(self)}
        for name in OF_LATENT if self.conditional else OF_LABELS:
            if getattr(self, name) != default[name]:
                what = "a latent variable" if self.conditional else "--conditional"
                raise OptionError(f"{name} is for a model with {what}, which this one has not")
        if self.vectors and self.skip_unknown_labels:
            raise OptionError("skip_unknown_labels: of vectors none is unknown; leave it out")

    @property
    def passes(self) -> int | None:
        bounded = not self.epochs == self.minutes == self.steps == None  # noqa: E711
        return self.epochs if bounded else 60


class Generation(ExampleTask[GenerateOptions, Record]):
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

    # From files to a model

    @classmethod
    def check(cls, options: GenerateOptions, files: list[str]) -> None:
        super().check(options, files)
        cell = cell_class(options.cell)
        given = {"vector_size": options.latent, "num_classes": 2}
        _model(options, "text", {"vocab_size": 2, "end": 1}, given, cell)

    def read(self, files: list[str]) -> RecordSource[Record]:
        chosen = files or [str(embedded_file("digits.csv.gz"))]
        more = {"vectors": self.options.vectors} if self.options.holds_numbers(chosen) else {}
        return self.options.read(
            chosen, self.options.conditional, **more, **({} if files else self.embedded)
        )

    @property
    def embedded(self) -> dict[str, Any]:
        """How files like the embedded one are read, where it is trained on."""
        return {} if self.files else {"step_size": self.options.step_size or 8}

    def learn(self, train: RecordSource[Record], report: ProgressCallback) -> dict[str, Any]:
        kind = self._kind(train)
        inputs = Inputs.fit(train, self.options, specials=["end"], binary=kind == "binary")
        inputs.save(self.run.folder / "inputs.json")
        found: dict[str, Any] = {"kind": kind}
        if self.options.conditional:
            fit = VectorConditioning.fit if self.options.vectors else LabelConditioning.fit
            found |= fit((record.label, record.where) for record in train).to_json()
        return found

    def _kind(self, train: RecordSource[Record]) -> str:
        """What the items are: "text", or of which distribution."""
        chosen = self.options.distribution
        if not isinstance(next(iter(train), None), LabelledSeries):
            if chosen is not None:
                raise OptionError(
                    f"distribution is of numbers, and {train.about} holds texts, whose units have "
                    "a softmax; leave it out, or say --kind numbers"
                )
            return "text"
        if chosen is None and self.files:
            ones = all(((r.values == 0) | (r.values == 1)).all() for r in train)  # type: ignore[union-attr]
            return "binary" if ones else "normal"
        return chosen or "binary"

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        found = super().prepare(report)
        train, kind = self.examples("train"), found["kind"]
        rows, sizes = (np.asarray(row["x"]) for row in train), train.sizes("x")
        if self.inputs.units is not None:
            units = self.inputs.units
            baseline = Independent.of_texts(rows, units.vocab_size, units.end_id)
        else:
            size = self.inputs.size["input_size"]
            baseline = Independent.of_frames(kind, rows, int(sizes.max()), size)
        baseline.save(self.run.folder / "baseline.json")
        return {**found, "length": int(sizes.max() if kind == "text" else np.median(sizes))}

    def encode(self, record: Record, source: RecordSource[Record]) -> Mapping[str, Any] | None:
        x = self.cut(self.inputs.encode(value_of(record)), record, source)
        if x is None or not self.options.conditional:
            return None if x is None else {"x": x}
        skipped = source.skipped if self.options.skip_unknown_labels else None
        label = self.given_to_it.value(record.label, record.where, skipped)
        return None if label is None else {"x": x, "label": label}

    @property
    def given_to_it(self) -> Given:
        """What a conditional model writes from."""
        return self.once("given", lambda: given_from_json(self.found))

    @property
    def inputs(self) -> Inputs:
        """What the model reads of a record."""
        return self.once("inputs", lambda: Inputs.load(self.run.folder / "inputs.json"))

    def build(self, cell: type[Cell]) -> SequenceVAE | FromVector:
        size, units = self.inputs.size, self.inputs.units
        if units is not None:
            size = {**size, "end": units.end_id}
        given = self.given_to_it.size(self.options.latent) if self.options.conditional else None
        return _model(self.options, self.found["kind"], size, given, cell)

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        o, t = self.options, batch.tensors
        if o.conditional:
            # Over sequences, as with a latent variable, so that the losses can be compared.
            total = model.loss(_given(t), t["x"], t["x_lengths"]).total
            return Loss(total, t["x"].shape[1])
        rise = min(progress / o.anneal, 1.0) if o.anneal else 1.0
        return model.loss(t["x"], t["x_lengths"], o.beta * rise)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        x, lengths = t["x"], t["x_lengths"]
        items = lengths.sum() + model.decoder.items.ends * len(lengths)
        sums = {"count": float(len(lengths)), "items": float(items)}
        if self.options.conditional:
            return {**sums, "total": float(model.loss(_given(t), x, lengths).total)}, None
        with _fixed_noise(self.options.seed, x):
            log_prob, kl = model.elbo_parts(x, lengths)
        parts = {"reconstruction": float(-log_prob), "kl": float(kl)}
        return {**sums, **parts, "total": parts["reconstruction"] + parts["kl"]}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        parts = [name for name in ("reconstruction", "kl") if name in sums]
        found = {f"{part}_nats": sums[part] / max(sums["count"], 1) for part in parts}
        each = sums["total"] / max(sums["items"], 1)
        return {**super().scores(sums), **found, self._each: each}

    @property
    def _each(self) -> str:
        return f"nats_per_{'token' if self.found['kind'] == 'text' else 'frame'}"

    def monitor(self, scores: dict[str, float]) -> float:
        """What training minimises in the end: with the weight of the KL divergence."""
        if self.options.conditional:
            return super().monitor(scores)
        return scores["reconstruction_nats"] + self.options.beta * scores["kl_nats"]

    def score(
        self, model: Any, examples: Examples, report: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """The scores, and -log p(x) by importance sampling: an upper bound, tighter than the loss.

        It is taken on at most `BOUNDED` examples, evenly spread.
        """
        scores = super().score(model, examples, report)
        if self.options.conditional or not self.options.importance:
            return scores
        chosen = np.unique(np.linspace(0, len(examples) - 1, BOUNDED).astype(int)).tolist()
        total, done = 0.0, 0
        for rows in batched((examples[i] for i in chosen), self.options.batch_size):
            t = collate(rows).tensors
            with torch.inference_mode(), _fixed_noise(self.options.seed, t["x"]):
                bound = model.log_likelihood(t["x"], t["x_lengths"], self.options.importance)
            total, done = total - float(bound.sum()), done + len(rows)
            if report is not None:
                report("drawing for a tighter bound", done, len(chosen))
        return {**scores, "bound_nats": total / done}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Items that know nothing of each other."""
        model = Independent.load(self.run.folder / "baseline.json")
        total = sum(model.nats(np.asarray(row["x"])) for row in examples)
        items = examples.sizes("x").sum() + (len(examples) if model.kind == "text" else 0)
        each = {self._each: total / max(int(items), 1)}
        return {"name": "independent items", "loss_nats": total / len(examples), **each}

    # The end

    def load(self, cell: type[Cell]) -> SequenceGenerator:
        return SequenceGenerator(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder = self.load(cell), self.run.folder
        examples = self.final_scores(trained, console)
        given = [self.inputs.decode(examples[i]["x"]) for i in range(min(10, len(examples)))]
        rows = trained.overview(given, self.options.seed)
        if self.found["kind"] == "text":
            samples = folder / "samples.txt"
            sections = ("\n".join([f"# {name}", *texts]) for name, texts in rows)
            write_text(samples, "\n\n".join(sections) + "\n")
            console.rule(str(samples))
            console.print(samples.read_text("utf-8"), markup=False, highlight=False)
            console.rule()
        else:
            samples = folder / "samples.png"
            draw_sheet(samples, rows)
        more = f"elman sample {folder}{cell_argument(self.options.cell)} --count 5"
        for line in (f"see:    {folder / 'curves.png'}, {samples}", f"more:   {more}"):
            console.print(line, highlight=False, markup=False)


def _given(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """[B] labels, or [B, D] vectors, which lie in a batch as sequences do."""
    label = tensors["label"]
    return label.T if label.dim() == 2 else label


@contextmanager
def _fixed_noise(seed: int, x: torch.Tensor) -> Iterator[None]:
    """Draws that x decides: what is measured twice is the same, and training is left alone."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed ^ zlib.crc32(x.cpu().numpy().tobytes()))
        yield


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
