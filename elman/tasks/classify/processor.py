"""Texts, series of numbers, pictures or sounds as arrays, and their labels as numbers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from elman.data.audio.samples import Sound
from elman.data.audio.sound_files import are_sounds, labelled_sounds
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.text.corpus import ProgressCallback
from elman.data.text.labels import Labels
from elman.errors import OptionError
from elman.tasks.base.audio import FILE as AUDIO
from elman.tasks.base.audio import AudioProcessor, SoundInputs
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.base.inputs import Inputs, Record, value_of
from elman.tasks.base.prediction import Prediction
from elman.tasks.classify.options import ClassifyOptions


class ClassifyProcessor(ExampleProcessor[ClassifyOptions, Record | Sound]):
    """What the model reads of a record, and the labels, fitted on the training part."""

    def read(self, files: list[str]) -> RecordSource[Any]:
        o = self.options
        if not files:
            return o.read([embedded_file("digits.csv.gz")], **self.embedded)
        if o.kind == "sounds" or (o.kind == "auto" and are_sounds(files, **o.table)):
            columns: dict[str, Any] = {"file_column": o.file_column, "label_column": o.label_column}
            return labelled_sounds(files, **columns, skip_bad=o.skip_bad, **o.table)
        return o.read(files)

    @property
    def embedded(self) -> dict[str, Any]:
        """How files like the embedded one are read, where it is trained on."""
        return {} if self.files else {"step_size": self.options.step_size or 8}

    def fit(self, train: RecordSource[Record | Sound], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        if isinstance(next(iter(train), None), Sound):
            AudioProcessor.fit(train, o, report).save(self.run.folder)  # type: ignore[arg-type]
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
            x = inputs.audio(record, source.skipped, self.options.skip_bad)
        else:
            x = inputs.encode(value_of(record))
        x = None if x is None else self.cut(x, record, source)
        return None if x is None else {"x": x, "label": label}

    @property
    def labels(self) -> Labels:
        """The labels by their numbers."""
        return self.once("labels", self._labels)

    def _labels(self) -> Labels:
        counts = self.fact("labels", dict[str, int])
        if len(counts) < 2:
            raise self.damaged(f"labels must be at least two, got {counts}")
        return self.fact("labels", dict, lambda counts: Labels.from_json({"labels": counts}))

    @property
    def inputs(self) -> Inputs:
        """What the model reads of a record."""
        return self.once("inputs", self._inputs)

    def _inputs(self) -> Inputs:
        folder = self.run.folder
        if (folder / AUDIO).is_file():
            return SoundInputs(AudioProcessor.load(folder), self.options)
        return Inputs.load(folder / "inputs.json")

    def answer(self, p: Tensor) -> Prediction:
        """What [num_classes] probabilities say."""
        ranked = sorted(zip(self.labels.names, p.tolist(), strict=True), key=lambda pair: -pair[1])
        label, share = ranked[0]
        record = {"label": label, "probability": share, "probabilities": dict(ranked)}
        return Prediction(f"{label}\t{share:.4f}", record)
