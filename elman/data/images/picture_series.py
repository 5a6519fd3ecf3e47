"""Pictures as series of numbers: row by row, pixel by pixel, or in an order drawn once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from elman.data.core.records import SkipLog
from elman.data.images.pictures import PictureOptions, pictures, pixel_order
from elman.data.series.series_files import RawSeries
from elman.errors import DataError


def picture_series(
    paths: Sequence[str | Path],
    labelled: bool,
    step_size: int | None = None,
    permute: int | None = None,
    how: PictureOptions | None = None,
) -> Callable[[SkipLog], Iterator[RawSeries]]:
    """The series of pictures: their values row by row, in a row pixel by pixel, of a pixel channel
    by channel, step_size of them a step; a row of the picture a step where it is None.

    permute: the pixels come in an order that this seed draws, the same for all pictures.
    how: see `PictureOptions`; without a size all pictures must have that of the first.

    Raises DataError.
    """
    source = pictures(paths, labelled=labelled, **(how or {}))

    def read(skipped: SkipLog) -> Iterator[RawSeries]:
        shape = order = None
        for picture in source.read(skipped):
            pixels = picture.pixels
            if shape is None:
                shape = pixels.shape
                order = pixel_order(shape[0] * shape[1], permute)
            if pixels.shape != shape:
                raise DataError(
                    f"{picture.where}: is {pixels.shape[0]}x{pixels.shape[1]}, the first picture "
                    f"{shape[0]}x{shape[1]}; --size brings all to one size"
                )
            size = step_size or shape[1] * shape[2]
            if pixels.size % size:
                raise DataError(
                    f"{picture.where}: {pixels.size} values make no whole number of steps of "
                    f"{size}; --step-size must divide {pixels.size}"
                )
            values = pixels.reshape(-1, shape[2])[order].reshape(-1, size)
            yield values.astype(np.float32), picture.label, picture.where

    return read
