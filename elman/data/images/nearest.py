"""Which picture is most like another, pixel by pixel."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from elman.data.images.arrays import Pixels
from elman.data.text.corpus import ProgressCallback

#: Pixels on a side that are compared; larger pictures are shrunk to about so many.
SIDE = 32
#: Pictures that are compared at once.
CHUNK = 4096


def nearest_pictures(
    wanted: Sequence[Pixels], among: Iterable[Pixels], report: ProgressCallback | None = None
) -> list[int]:
    """The number of the picture among these with the least sum of squared differences to each.

    All have one size. Of equals the first. Only a few of ``among`` are held at a time.
    """
    queries = np.stack([_vector(picture) for picture in wanted])
    best = np.full(len(queries), np.inf, dtype=np.float32)
    found = np.zeros(len(queries), dtype=np.int64)
    begin, held = 0, []
    for picture in among:
        held.append(_vector(picture))
        if len(held) == CHUNK:
            _compare(queries, np.stack(held), begin, best, found)
            begin, held = begin + len(held), []
            if report is not None:
                report("looking for the nearest pictures", begin, 0)
    if held:
        _compare(queries, np.stack(held), begin, best, found)
    return found.tolist()


def _compare(
    queries: NDArray[np.float32],
    others: NDArray[np.float32],
    begin: int,
    best: NDArray[np.float32],
    found: NDArray[np.int64],
) -> None:
    """Note in best and found what is nearer than all before; |q|^2 is the same for all."""
    distance = (others**2).sum(axis=1) - 2 * queries @ others.T
    nearest = distance.argmin(axis=1)
    least = distance[np.arange(len(queries)), nearest]
    nearer = least < best
    best[nearer], found[nearer] = least[nearer], begin + nearest[nearer]


def _vector(picture: Pixels) -> NDArray[np.float32]:
    """The pixels from 0 to 1, as means over squares where there are too many."""
    factor = max(1, max(picture.shape[:2]) // SIDE)
    height, width = (max(1, size // factor) for size in picture.shape[:2])
    kept = picture[: height * factor, : width * factor].astype(np.float32) / 255
    rows, columns = min(factor, len(kept)), min(factor, kept.shape[1])
    blocks = kept.reshape(height, rows, width, columns, -1)
    return blocks.mean(axis=(1, 3), dtype=np.float32).ravel()
