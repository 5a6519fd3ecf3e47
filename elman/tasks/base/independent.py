"""The trivial model of sequences: items that know nothing of each other."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import loaded, write_json

KINDS = ("text", "binary", "normal", "levels")
#: The smallest deviation of a normal distribution, in deviations of its channel.
LEAST_DEVIATION = 0.1


@dataclass(frozen=True)
class Independent:
    """The distribution of each item by itself, as the training part has it.

        text      p(x) = prod_t p(x_t) p(end)       one distribution, each id seen once more
        binary    p(x) = prod_tj p_tj(x_tj)         (ones + 1) / (n + 2) of each step and channel
        normal    p(x) = prod_tj N(x_tj; m_tj, s_tj^2)
        levels    p(x) = prod_t p_t(x_t)            (count + 1) / (n + V) of each step and level

    first, second: log p [V] of a text's ids; p [T + 1, F]; m and s [T + 1, F]. The last row is
    that of all steps, for those beyond the longest sequence. Of levels the counts [T, V].
    """

    kind: str
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of_texts(cls, rows: Iterable[NDArray[Any]], vocab_size: int, end: int) -> "Independent":
        """rows: [T] ids each, without their end."""
        counts = np.ones(vocab_size)
        for x in rows:
            counts += np.bincount(x, minlength=vocab_size)
            counts[end] += 1
        return cls("text", np.log(counts / counts.sum()), np.log(counts[[end]] / counts.sum()))

    @classmethod
    def of_frames(
        cls, kind: str, rows: Iterable[NDArray[Any]], longest: int, size: int
    ) -> "Independent":
        """kind: "binary" or "normal". rows: [T, F] each, T at most ``longest``."""
        counts, sums, squares = np.zeros((longest, 1)), *np.zeros((2, longest, size))
        for row in rows:
            x = np.asarray(row, dtype=np.float64)
            counts[: len(x)] += 1
            sums[: len(x)] += x
            squares[: len(x)] += x**2
        counts, sums, squares = (np.vstack((a, a.sum(0))) for a in (counts, sums, squares))
        if kind == "binary":
            return cls(kind, (sums + 1) / (counts + 2), np.zeros(0))
        mean = sums / counts.clip(1)
        deviation = np.sqrt((squares / counts.clip(1) - mean**2).clip(0))
        return cls(kind, mean, deviation.clip(LEAST_DEVIATION))

    @classmethod
    def of_levels(cls, rows: Iterable[NDArray[Any]], size: int, levels: int) -> "Independent":
        """rows: [size] whole numbers 0 ... levels - 1 each."""
        counts, steps = np.zeros((size, levels)), np.arange(size)
        for row in rows:
            counts[steps, row] += 1
        return cls("levels", counts, np.zeros(0))

    def nats(self, x: NDArray[Any]) -> float:
        """-log p(x) of [T] ids without their end, of [T] levels, or of [T, F] frames."""
        if self.kind == "text":
            return float(-self.first[x].sum() - self.second.sum())
        if self.kind == "levels":
            counts = self.first + 1
            return float(-np.log(counts[np.arange(len(x)), x] / counts.sum(1)).sum())
        steps = np.arange(len(x)).clip(max=len(self.first) - 1)
        first, values = self.first[steps], np.asarray(x, dtype=np.float64)
        if self.kind == "binary":
            return float(-np.log(np.where(values > 0.5, first, 1 - first)).sum())
        deviation = self.second[steps]
        distance = (values - first) / deviation
        return float((distance**2 / 2 + np.log(deviation) + np.log(2 * np.pi) / 2).sum())

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        whole = self.kind == "levels"
        first = (self.first.astype(np.int64) if whole else self.first).tolist()
        second = self.second.tolist()
        write_json(path, {"kind": self.kind, "first": first, "second": second})

    @classmethod
    def load(cls, path: Path) -> "Independent":
        """Read what `save` wrote; RunError where it is missing, damaged or foreign."""
        return loaded(path, "distributions", cls.from_json)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Independent":
        """The distributions that `save` described."""
        kind = value["kind"]
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}")
        first, second = (np.array(value[name], np.float64) for name in ("first", "second"))
        shape = {"text": (1,), "normal": first.shape}.get(kind, (0,))
        if first.ndim != (1 if kind == "text" else 2) or second.shape != shape:
            raise ValueError(f"{list(first.shape)} and {list(second.shape)} do not fit {kind}")
        if not np.isfinite(first).all() or (kind == "levels" and (first < 0).any()):
            raise ValueError("holds a number that is not a probability")
        return cls(kind, first, second)
