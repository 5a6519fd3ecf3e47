"""Texts or series as numbers, and what a conditional model writes them from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.series.labelled import LabelledSeries
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError, RunError
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.base.independent import Independent
from elman.tasks.base.inputs import Inputs, Record, value_of
from elman.tasks.generate.conditioning import (
    Conditioning,
    LabelConditioning,
    VectorConditioning,
    conditioning_from_json,
)
from elman.tasks.generate.options import DISTRIBUTIONS, GenerateOptions

KINDS = ("text", *DISTRIBUTIONS)


class GenerateProcessor(ExampleProcessor[GenerateOptions, Record]):
    """The units of texts or the scale of series, their length, and the labels or vectors."""

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

    def fit(self, train: RecordSource[Record], report: ProgressCallback) -> dict[str, Any]:
        kind = self._kind(train)
        inputs = Inputs.fit(train, self.options, specials=["end"], binary=kind == "binary")
        inputs.save(self.run.folder / "inputs.json")
        metadata: dict[str, Any] = {"kind": kind}
        if self.options.conditional:
            fit = VectorConditioning.fit if self.options.vectors else LabelConditioning.fit
            metadata |= fit((record.label, record.where) for record in train).to_json()
        return metadata

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

    def fit_encoded(self) -> dict[str, Any]:
        """Fit the baseline to the training part as it was encoded, and save it in the run folder.

        Returns more of the `metadata`: the length.
        """
        train, kind = self.examples("train"), self.kind
        rows, sizes = (np.asarray(row["x"]) for row in train), train.sizes("x")
        if self.inputs.units is not None:
            units = self.inputs.units
            baseline = Independent.of_texts(rows, units.vocab_size, units.end_id)
        else:
            size = self.inputs.size["input_size"]
            baseline = Independent.of_frames(kind, rows, int(sizes.max()), size)
        baseline.save(self.run.folder / "baseline.json")
        return {"length": int(sizes.max() if kind == "text" else np.median(sizes))}

    def encode(self, record: Record, source: RecordSource[Record]) -> Mapping[str, Any] | None:
        x = self.cut(self.inputs.encode(value_of(record)), record, source)
        if x is None or not self.options.conditional:
            return None if x is None else {"x": x}
        skipped = source.skipped if self.options.skip_unknown_labels else None
        label = self.conditioning.value(record.label, record.where, skipped)
        return None if label is None else {"x": x, "label": label}

    # What was fitted

    @property
    def kind(self) -> str:
        """What the items are: "text", or of which distribution."""
        kind = self.fact("kind", str)
        if kind not in KINDS:
            raise self.damaged(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        return kind

    @property
    def length(self) -> int:
        """Steps of the median series of the training part, of texts the units of the longest."""
        return self.positive("length")

    @property
    def conditioning(self) -> Conditioning:
        """What a conditional model writes from."""
        return self.once("conditioning", self._conditioning)

    def _conditioning(self) -> Conditioning:
        with reading(self.run.config_file, "a run", error=RunError, cure=RESTORE):
            return conditioning_from_json(self.metadata)

    @property
    def inputs(self) -> Inputs:
        """What the model reads of a record."""
        path = self.run.folder / "inputs.json"
        return self.once("inputs", lambda: Inputs.load(path, ("end",)))

    @property
    def independent(self) -> Independent:
        """The distribution of each item by itself."""
        return self.once("baseline", lambda: Independent.load(self.run.folder / "baseline.json"))
