"""`elman train classify`: a sequence in, a label out."""

from typing import Any

import numpy as np
from rich.console import Console

from elman.cells import Cell
from elman.data.audio.samples import Sound
from elman.data.core.batch import Batch
from elman.data.core.records import RecordSource
from elman.models.common.classifier import Classifier
from elman.models.common.loss import Loss
from elman.tasks.base.audio import SoundInputs
from elman.tasks.base.audio_options import at_speeds
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.base.figures import draw_confusion
from elman.tasks.base.inputs import Record
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.predictor import ClassifyPredictor
from elman.tasks.classify.processor import ClassifyProcessor
from elman.train.custom_cell import cell_class


class Classification(ExampleTask[ClassifyOptions]):
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
    processor_type = ClassifyProcessor
    processor: ClassifyProcessor
    predictor_type = ClassifyPredictor
    criterion = "accuracy"
    larger_is_better = True

    @classmethod
    def check(cls, options: ClassifyOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 2, {"vocab_size": 2}, 1, cell_class(options.cell))

    def sources(self) -> dict[str, RecordSource[Record | Sound]]:
        parts = super().sources()
        return {**parts, "train": at_speeds(parts["train"], self.options.speed)}

    def build(self, cell: type[Cell]) -> Classifier:
        inputs, labels = self.processor.inputs, self.processor.labels
        return _model(self.options, len(labels), inputs.size, inputs.unknown_id, cell)

    def summary(self) -> str:
        inputs, labels = self.processor.inputs, self.processor.labels
        text = f"{super().summary()}, {len(labels)} labels"
        units = inputs.units
        if units is None:
            return f"{text}, {inputs.size['input_size']} numbers a step"
        return f"{text}, {units.vocab_size} kinds of unit ({units.tokenizer.unit})"

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t, inputs = dict(batch.tensors), self.processor.inputs
        if model.training and isinstance(inputs, SoundInputs):
            t["x"] = inputs.audio.changed(t["x"], t["x_lengths"], self.options.augmentation)
        return model.loss(**t)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        names = self.processor.labels.names
        counts = np.zeros((len(names), len(names)))
        answers = trained.answers(row["x"] for row in examples)
        for label, answer in zip(examples.numbers("label"), answers, strict=True):
            counts[label, int(answer.argmax())] += 1
        draw_confusion(self.run.folder / "confusion.png", counts, names)
        self.point_to(console, "confusion.png")


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
