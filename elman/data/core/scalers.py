"""Numbers as a network likes them: around 0, of size 1; or zeros and ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.typed import typed
from elman.errors import DataError


@dataclass(frozen=True)
class StandardScaler:
    """The mean and the standard deviation of each of F channels.

        scaled = (x - mean) / deviation

    A channel that never changes has deviation 1.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, series: Iterable[NDArray[Any]], size: int = 1) -> "StandardScaler":
        """Those of all steps of all series [T, F], in one pass (Chan et al. 1983).

        size: F, for the scale that changes nothing where no series has a step."""
        count, mean, squares = 0, np.zeros(size), np.zeros(size)
        for values in series:
            x = np.asarray(values, dtype=np.float64)
            if not len(x):
                continue
            total, middle = count + len(x), x.mean(0)
            squares = squares + ((x - middle) ** 2).sum(0)
            squares = squares + (middle - mean) ** 2 * count * len(x) / total
            mean, count = mean + (middle - mean) * len(x) / total, total
        deviation = np.sqrt(squares / max(count, 1))
        deviation = np.where(deviation > 1e-12, deviation, 1.0)
        return cls(tuple(np.atleast_1d(mean).tolist()), tuple(np.atleast_1d(deviation).tolist()))

    @property
    def size(self) -> int:
        """F, the number of channels."""
        return len(self.mean)

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """[..., F] scaled; DataError for a number so far from all others that float32 has none."""
        with np.errstate(over="ignore"):
            scaled = ((x - np.array(self.mean)) / np.array(self.deviation)).astype(np.float32)
        if np.isinf(scaled).any():
            far = float(np.asarray(x)[np.isinf(scaled)][0])
            raise DataError(f"{far:g} is too far from the numbers of the training; mend it")
        return scaled

    def back(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """[..., F] in the units that it came in."""
        return np.asarray(x, dtype=np.float64) * np.array(self.deviation) + np.array(self.mean)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StandardScaler":
        """The scale that `to_json` described."""
        found = typed(cls, value)
        numbers = np.array([found.mean, found.deviation])  # ValueError where one is longer
        if not np.isfinite(numbers).all() or not (numbers[1] > 0).all():
            raise ValueError(f"deviations must be above 0, and all finite, got {found}")
        return found


class Moments:
    """Mean and deviation of columns with gaps, a chunk at a time (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.count: NDArray[np.float64] = np.zeros(1)
        self.mean: NDArray[np.float64] = np.zeros(1)
        self.squares: NDArray[np.float64] = np.zeros(1)
        self.least: NDArray[np.float64] = np.full(1, np.inf)
        self.most: NDArray[np.float64] = np.full(1, -np.inf)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in [N, F] more values; NaN is none."""
        there = ~np.isnan(values)
        x = np.where(there, values, 0)
        n = there.sum(axis=0)
        middle = x.sum(axis=0) / np.maximum(n, 1)
        total = self.count + n
        squares = (np.where(there, values - middle, 0) ** 2).sum(axis=0)
        share = n / np.maximum(total, 1)
        self.squares = self.squares + squares + (middle - self.mean) ** 2 * self.count * share
        self.mean = self.mean + (middle - self.mean) * share
        self.count = total
        self.least = np.minimum(self.least, np.where(there, values, np.inf).min(axis=0))
        self.most = np.maximum(self.most, np.where(there, values, -np.inf).max(axis=0))

    @property
    def constant(self) -> NDArray[np.bool_]:
        """[F] which columns never change."""
        return self.most <= self.least

    def scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and deviations; 1 of what never changes."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        return self.mean, np.where(~self.constant & (deviation > 0), deviation, 1.0)


@dataclass(frozen=True)
class Binarizer:
    """Numbers as ones and zeros: those nearer to the largest, and those nearer to the smallest.

    least, most: the smallest and the largest number of all channels. size: F, of channels.
    """

    least: float
    most: float
    size: int

    @classmethod
    def fit(cls, series: Iterable[NDArray[Any]]) -> "Binarizer":
        """Those of all steps of all series [T, F]."""
        least, most, size = np.inf, -np.inf, 1
        for x in series:
            if len(x):
                least, most, size = min(least, x.min()), max(most, x.max()), x.shape[1]
        return cls(float(least), float(most), size)

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """[..., F] of zeros and ones; what lies in the middle becomes 1."""
        return (np.asarray(x) >= (self.least + self.most) / 2).astype(np.float32)

    def back(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """[..., F] of the smallest and the largest number."""
        return np.where(np.asarray(x) > 0.5, self.most, self.least)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return {"least": self.least, "most": self.most, "size": self.size}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Binarizer":
        """The threshold that `to_json` described."""
        return typed(cls, value)


def scale_from_json(value: dict[str, Any]) -> StandardScaler | Binarizer:
    """The `StandardScaler` or the `Binarizer` whose ``to_json`` this is."""
    return Binarizer.from_json(value) if "least" in value else StandardScaler.from_json(value)
