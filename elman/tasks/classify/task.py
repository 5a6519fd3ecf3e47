"""`elman train classify`: a sequence in, a label out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console

from elman.cells import Cell
from elman.data.audio.samples import Sound
from elman.data.audio.sound_files import are_sounds, labelled_sounds
from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.text.corpus import ProgressCallback
from elman.data.text.labels import Labels
from elman.errors import OptionError, require_probability, unknown
from elman.layers.pooling import KINDS as POOLINGS
from elman.models.common.classifier import Classifier
from elman.models.common.loss import Loss
from elman.models.common.scores import accuracy, accuracy_counts
from elman.settings import option
from elman.tasks.base.audio import FILE as HEARING
from elman.tasks.base.audio import AudioProcessor, SoundInputs
from elman.tasks.base.audio_options import SoundOptions, at_speeds
from elman.tasks.base.examples import ExamplePredictor, ExampleTask, answered, batched, load_best
from elman.tasks.base.figures import draw_confusion
from elman.tasks.base.inputs import KINDS, InputOptions, Inputs, Record, value_of
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines, stack_stream
from elman.train.custom_cell import cell_class


@dataclass(frozen=True)
class ClassifyOptions(InputOptions, SoundOptions):
    """What `elman train classify` takes beside the files."""

    kinds = (*KINDS, "sounds")

    kind: str = option("auto", f"What the files hold: {', '.join(kinds)}.", "Data")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a label that training does not know.", "Data"
    )
    min_count: int | None = option(
        None, "Units seen less often are read as the unknown one, which so is learnt. "
        "[dim]default: 2 of words, else 1[/]", "Text",
    )  # fmt: skip
    bidirectional: bool = option(True, "Read from both ends.", "Model")
    pooling: str = option("max", f"How steps become one vector: {', '.join(POOLINGS)}.", "Model")
    word_dropout: float = option(
        0.0, "Share of the units that are hidden from the model in training.", "Regularisers"
    )
    label_smoothing: float = option(
        0.0, "Share of the truth that goes to all labels alike.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability(word_dropout=self.word_dropout, label_smoothing=self.label_smoothing)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)

    @property
    def least_count(self) -> int:
        return self.min_count or (2 if self.tokenizer in ("word", "token") else 1)


class Classification(ExampleTask[ClassifyOptions, Record | Sound]):
    """Texts, series of numbers, pictures or sounds, each with one label."""

    name = "classify"
    title = "a classifier"
    help = """Train a classifier of texts, of series of numbers, of pictures or of sounds.

    [bold]elman train classify[/]                            8x8 digits, read row by row
    [bold]elman train classify reviews.csv[/]                a text and a label in each row
    [bold]elman train classify mr.pos mr.neg[/]              a file for each label, a text a line
    [bold]elman train classify train.ts --test test.ts[/]    series of numbers, of sktime
    [bold]elman train classify dna.csv --tokenizer char[/]
    [bold]elman train classify photos/ --size 32[/]          a folder of pictures for each label
    [bold]elman train classify train-images-idx3-ubyte.gz --step-size 1[/]   pixel by pixel
    [bold]elman train classify commands/[/]                  a folder of sounds for each label
    """
    files_help = (
        "CSV, TSV, JSONL, parquet; .ts, .npz, idx; for each label a text file, or a folder of "
        "sounds or pictures. [dim]default: 8x8 digits[/]"
    )
    options_type = ClassifyOptions
    criterion = "accuracy"
    larger_is_better = True

    # From files to a model

    @classmethod
    def check(cls, options: ClassifyOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 2, {"vocab_size": 2}, 1, cell_class(options.cell))

    def read(self, files: list[str]) -> RecordSource[Any]:
        o = self.options
        if not files:
            return o.read([embedded_file("digits.csv.gz")], **self.embedded)
        if o.kind == "sounds" or (o.kind == "auto" and are_sounds(files, **o.table)):
            columns: dict[str, Any] = {"file_column": o.file_column, "label_column": o.label_column}
            return labelled_sounds(files, **columns, skip_bad=o.skip_bad, **o.table)
        return o.read(files)

    def sources(self) -> dict[str, RecordSource[Record | Sound]]:
        parts = super().sources()
        return {**parts, "train": at_speeds(parts["train"], self.options.speed)}

    @property
    def embedded(self) -> dict[str, Any]:
        """How files like the embedded one are read, where it is trained on."""
        return {} if self.files else {"step_size": self.options.step_size or 8}

    def learn(
        self, train: RecordSource[Record | Sound], report: ProgressCallback
    ) -> dict[str, Any]:
        o = self.options
        if isinstance(next(iter(train), None), Sound):
            AudioProcessor.learn(train, o, report).save(self.run.folder)  # type: ignore[arg-type]
        else:
            if o.augmentation.changes or o.speed:
                raise OptionError("speed, warp, gain, noise and masks change sounds alone")
            Inputs.fit(train, o).save(self.run.folder / "inputs.json")
        return Labels.fit((record.label for record in train), train.about).to_json()

    def encode(
        self, record: Record | Sound, source: RecordSource[Record | Sound]
    ) -> Mapping[str, Any] | None:
        skipped = source.skipped if self.options.skip_unknown_labels else None
        label = self.labels.id(record.label, record.where, skipped)
        if label is None:
            return None
        inputs = self.inputs
        if isinstance(record, Sound):
            assert isinstance(inputs, SoundInputs)
            x = inputs.hearing(record, source.skipped, self.options.skip_bad)
        else:
            x = inputs.encode(value_of(record))
        x = None if x is None else self.cut(x, record, source)
        return None if x is None else {"x": x, "label": label}

    @property
    def labels(self) -> Labels:
        """The labels by their numbers."""
        return self.once("labels", lambda: Labels.from_json(self.found))

    @property
    def inputs(self) -> Inputs:
        """What the model reads of a record."""
        return self.once("inputs", self._inputs)

    def _inputs(self) -> Inputs:
        folder = self.run.folder
        if (folder / HEARING).is_file():
            return SoundInputs(AudioProcessor.load(folder), self.options)
        return Inputs.load(folder / "inputs.json")

    def build(self, cell: type[Cell]) -> Classifier:
        inputs = self.inputs
        return _model(self.options, len(self.labels), inputs.size, inputs.unknown_id, cell)

    def summary(self) -> str:
        text = f"{super().summary()}, {len(self.labels)} labels"
        units = self.inputs.units
        if units is None:
            return f"{text}, {self.inputs.size['input_size']} numbers a step"
        return f"{text}, {units.vocab_size} kinds of unit ({units.tokenizer.unit})"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t, inputs = dict(batch.tensors), self.inputs
        if model.training and isinstance(inputs, SoundInputs):
            t["x"] = inputs.hearing.changed(t["x"], t["x_lengths"], self.options.augmentation)
        return model.loss(**t)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        logits = model(t["x"], t["x_lengths"])
        total = F.cross_entropy(logits, t["label"], reduction="sum")
        right = accuracy_counts(logits.argmax(-1), t["label"])
        return {"total": float(total), "count": float(len(logits)), **right}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), "accuracy": accuracy(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Always the label that is the most frequent in training."""
        share = float((examples.numbers("label") == 0).mean())
        return {"name": f"always '{self.labels.names[0]}'", "accuracy": share}

    # The end

    def load(self, cell: type[Cell]) -> "ClassifyPredictor":
        return ClassifyPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        counts = np.zeros((len(self.labels), len(self.labels)))
        answers = trained.answers(row["x"] for row in examples)
        for label, answer in zip(examples.numbers("label"), answers, strict=True):
            counts[label, int(answer.argmax())] += 1
        draw_confusion(self.run.folder / "confusion.png", counts, self.labels.names)
        self.point_to(console, "confusion.png")


@dataclass(frozen=True)
class ClassifyPredictor(ExamplePredictor):
    """A trained classifier."""

    model: Classifier
    task: Classification

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, the most frequent in training first."""
        return self.task.labels.names

    def parse(self, text: str) -> Any:
        return self.task.inputs.parse(text)

    def read_inputs(self, file: str | Path) -> Iterator[Any]:
        # Without a header the last column is the label, so it must be there.
        more = {"labelled": not self.options.header, **self.task.embedded}
        return self.task.inputs.read(file, self.options, **more)

    def predict(self, inputs: Iterable[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """For each text, or [T, F] numbers, the probability of each label."""
        encoded = (self.task.inputs.encode(value) for value in inputs)
        return answered(encoded, batch_size, lambda x: len(x) == 0, self._answers)

    def stream(self) -> "ClassifierStream":
        heard = isinstance(self.task.inputs, SoundInputs)
        return SoundClassifierStream(self) if heard else ClassifierStream(self)

    def _answers(self, encoded: list[Any]) -> Iterator[Prediction]:
        return map(self.answer, self.answers(encoded, len(encoded)))

    def answer(self, p: torch.Tensor) -> Prediction:
        """What [num_classes] probabilities say."""
        ranked = sorted(zip(self.labels, p.tolist(), strict=True), key=lambda pair: -pair[1])
        label, share = ranked[0]
        record = {"label": label, "probability": share, "probabilities": dict(ranked)}
        return Prediction(f"{label}\t{share:.4f}", record)

    def answers(self, encoded: Iterable[Any], batch_size: int = 64) -> Iterator[torch.Tensor]:
        """[num_classes] probabilities for each of what `Inputs.encode` gave."""
        for rows in batched(encoded, batch_size):
            t = collate([{"x": x} for x in rows]).tensors
            with torch.inference_mode():
                yield from self.model(t["x"], t["x_lengths"]).softmax(-1)


class ClassifierStream(Lines):
    """The label of what there was so far, after each line: a step of numbers or a piece of text."""

    def __init__(self, trained: ClassifyPredictor) -> None:
        self.trained = trained
        reader = trained.model.reader
        self.layers = stack_stream(trained.run.folder, reader.encoder.stack)
        self.pooled = trained.model.pooling.running()

    def __call__(self, piece: Any) -> Prediction | None:
        model, x = self.trained.model, self.vectors(piece)
        pooled = [self.pooled(self.layers(u[0])[None]) for u in model.reader.vectors(x[:, None])]
        if not pooled:
            return None
        return self.trained.answer(model.output(pooled[-1])[0].softmax(-1))

    def vectors(self, piece: Any) -> torch.Tensor:
        """[n] units, or [n, F] numbers, of a piece."""
        inputs = self.trained.task.inputs
        return torch.from_numpy(inputs.encode(inputs.parse(piece)))

    def end(self) -> None:
        self.layers.reset()
        self.pooled = self.trained.model.pooling.running()


class SoundClassifierStream(ClassifierStream):
    """The label of what was heard so far, at each step of a sound that comes as PCM."""

    def __init__(self, trained: ClassifyPredictor) -> None:
        super().__init__(trained)
        assert isinstance(trained.task.inputs, SoundInputs)
        self.heard = trained.task.inputs.hearing.stream()

    def pieces(self, stdin: BinaryIO) -> Iterator[Any]:
        return self.heard.pieces(stdin)

    def vectors(self, piece: Any) -> torch.Tensor:
        return self.heard(piece)

    def end(self) -> None:
        super().end()
        self.heard.end()


def _model(
    options: ClassifyOptions,
    labels: int,
    size: dict[str, int],
    unknown_id: int | None,
    cell: type[Cell],
) -> Classifier:
    return Classifier(
        labels,
        **size,  # type: ignore[arg-type]
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_layers=options.layers,
        bidirectional=options.bidirectional,
        pooling=options.pooling,
        word_dropout=options.word_dropout if "vocab_size" in size else 0.0,
        unknown_id=unknown_id,
        label_smoothing=options.label_smoothing,
        **options.stack(cell),
    )
