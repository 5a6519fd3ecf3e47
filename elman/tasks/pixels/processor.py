"""Pictures as numbers: one level for each value of a pixel."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import RESTORE
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.images.arrays import parse_size, reshaped
from elman.data.images.pictures import Picture, from_levels, grey_digits, pictures, to_levels
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError, RunError
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.base.independent import Independent
from elman.tasks.pixels.options import LONGEST, PixelOptions


class PixelProcessor(ExampleProcessor[PixelOptions, Picture]):
    """The shape that pictures are brought to, and the distribution of each pixel by itself."""

    def read(self, files: list[str]) -> RecordSource[Picture]:
        if not files:
            return grey_digits(embedded_file("digits.csv.gz"))
        o = self.options
        return pictures(files, size=o.size, colour=o.colour, fit=o.fit, skip_bad=o.skip_bad)

    def fit(self, train: RecordSource[Picture], report: ProgressCallback) -> dict[str, Any]:
        first = next(iter(train), None)
        if first is None:
            raise DataError(f"{train.about}: holds no picture; {train.skipped}")
        H, W = (
            first.pixels.shape[:2] if self.options.size is None else parse_size(self.options.size)
        )
        scale = 1.0 if self.options.size is not None else min(1.0, LONGEST / max(H, W))
        return {
            "shape": [max(1, round(H * scale)), max(1, round(W * scale)), self.options.channels]
        }

    def fit_encoded(self) -> None:
        """Fit the baseline to the training part as it was encoded, and save it in the run
        folder."""
        rows = (np.asarray(row["x"]) for row in self.examples("train"))
        size = math.prod(self.shape)
        Independent.of_levels(rows, size, self.options.levels).save(
            self.run.folder / "baseline.json"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a picture."""
        shape: tuple[int, int, int] = self.fact("shape", tuple[int, int, int])
        channels = self.options.channels
        if min(shape) < 1 or shape[2] != channels:
            raise self.damaged(f"shape must be [H, W, {channels}], got {list(shape)}")
        return shape

    def encode(self, record: Picture, source: RecordSource[Picture]) -> Mapping[str, Any] | None:
        H, W, _ = self.shape
        if record.pixels.shape[:2] != (H, W):
            source.skipped.add(f"picture brought to {H}x{W} ({self.options.fit})", record.where)
        return {"x": self.levels_of(record.pixels)}

    def levels_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of any size as the model reads it: [D]."""
        o, (H, W, _) = self.options, self.shape
        fitted = reshaped(pixels, (H, W), mode="colour" if o.colour else "grey", fit=o.fit)
        return to_levels(fitted, o.levels, o.draw_levels).ravel()

    def picture_of(self, x: NDArray[np.integer]) -> NDArray[np.uint8]:
        """[D] levels as a picture [H, W, C]."""
        return from_levels(x, self.options.levels).reshape(self.shape)

    @property
    def independent(self) -> Independent:
        """The distribution of each pixel by itself."""
        return self.once("baseline", self._independent)

    def _independent(self) -> Independent:
        path, wanted = (
            self.run.folder / "baseline.json",
            (math.prod(self.shape), self.options.levels),
        )
        found = Independent.load(path)
        if found.first.shape != wanted:
            raise RunError(
                f"{path}: is of {list(found.first.shape)} pixels and levels, the model of "
                f"{list(wanted)}; {RESTORE}"
            )
        return found
