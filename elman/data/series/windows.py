"""Windows into series: so many steps that are read, and those after them that are forecast."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from elman.data.core.batch import Batch
from elman.data.series.frequency import calendar
from elman.data.series.panel import Panel
from elman.errors import DataError, require_positive

Index = NDArray[np.int64]


class Windows:
    """All windows of some rows of a panel; only their places are computed, until one is drawn.

    parts: for each block the first row that is forecast, and the one after the last. Windows reach
    back before the first for what they read. joint: all columns of a block at once, as channels;
    else each series alone. cycles: of the calendar, that are told as covariates. season: steps, of
    the naive forecast. stride: steps between the beginnings of two windows.
    """

    def __init__(
        self,
        panel: Panel,
        context: int,
        horizon: int,
        parts: Sequence[tuple[int, int]],
        *,
        joint: bool = False,
        cycles: tuple[str, ...] = (),
        season: int = 1,
        stride: int = 1,
    ) -> None:
        require_positive(context=context, horizon=horizon, season=season, stride=stride)
        self.panel, self.context, self.horizon = panel, context, horizon
        self.cycles, self.season, self.stride = cycles, season, stride
        self.groups = groups_of(panel, joint)
        blocks = [panel.units[group[0]].block for group in self.groups]
        self._first = np.array([max(parts[b][0], context) for b in blocks], dtype=np.int64)
        last = np.array([parts[b][1] - horizon for b in blocks], dtype=np.int64)
        self.counts = np.maximum((last - self._first) // stride + 1, 0)
        self._ends = np.cumsum(self.counts)
        units = panel.units
        self._begin = np.array([panel.blocks[b].begin for b in blocks], dtype=np.int64)
        self._rows = np.array([panel.blocks[b].rows for b in blocks], dtype=np.int64)
        self._block = np.array(blocks, dtype=np.int64)
        columns = [[units[u].column for u in group] for group in self.groups]
        self._columns = np.array(columns, dtype=np.int64)
        errors = [[units[u].naive_error for u in group] for group in self.groups]
        self._errors = np.nan_to_num(np.array(errors, dtype=np.float32), nan=1.0)
        self._numbers = np.array([units[g[0]].number for g in self.groups], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def places(self, indices: Index) -> tuple[Index, Index]:
        """The group of each window, and the row of its block that is forecast first."""
        group = np.searchsorted(self._ends, indices, side="right")
        within = indices - (self._ends[group] - self.counts[group])
        return group, self._first[group] + within * self.stride

    def batch(self, indices: Index) -> Batch:
        """These windows, see `Forecaster`; beside them season_before [H, B, C], the values one
        season before the targets, naive_error [B, C], and weight where values were filled in."""
        return self.at(*self.places(indices))

    def at(self, group: Index, origin: Index) -> Batch:
        """The windows whose first forecast row is this one; it may lie at the end of a block."""
        T, H = self.context, self.horizon
        panel, columns = self.panel, self._columns[group]
        within = origin + np.arange(-T, H)[:, None]
        inside = within < self._rows[group]
        rows = np.where(inside, within, 0) + self._begin[group]
        values = panel.values[rows[:, :, None], columns]
        tensors = {
            "y": torch.from_numpy(values[:T]),
            "target": torch.from_numpy(np.where(inside[T:, :, None], values[T:], 0)),
        }
        covariates = [self._calendar(group, within)] if self.cycles else []
        if panel.covariates:
            covariates.append(self._covariates(rows, inside))
        if covariates:
            tensors["x"] = torch.from_numpy(np.concatenate(covariates, axis=-1))
        tensors["series"] = torch.from_numpy(self._numbers[group])
        if panel.measured is not None:
            there = panel.measured[rows[T:, :, None], columns] & inside[T:, :, None]
            tensors["weight"] = torch.from_numpy(there.astype(np.float32))
        tensors["season_before"] = torch.from_numpy(
            self._season_before(group, origin, values[T - 1])
        )
        tensors["naive_error"] = torch.from_numpy(self._errors[group])
        return Batch(tensors)

    def _season_before(
        self, group: Index, origin: Index, last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """[H, B, C]; the last value where the series had not begun."""
        ahead = np.arange(self.horizon)[:, None]
        rows = origin + ahead - self.season * (1 + ahead // self.season)
        there = np.maximum(rows, 0) + self._begin[group]
        found = self.panel.values[there[:, :, None], self._columns[group]]
        return np.where(rows[:, :, None] >= 0, found, last)

    def _calendar(self, group: Index, within: Index) -> NDArray[np.float32]:
        blocks = self._block[group]
        if len(np.unique(blocks)) == 1:
            block = self.panel.blocks[int(blocks[0])]
            return calendar(self.panel.times(block, within), self.cycles)
        times = np.empty_like(within)
        for number in np.unique(blocks):
            own = blocks == number
            times[:, own] = self.panel.times(self.panel.blocks[int(number)], within[:, own])
        return calendar(times, self.cycles)

    def _covariates(self, rows: Index, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """[T + H, B, X]: the known ones at all steps, the observed ones up to T."""
        known, T = len(self.panel.roles.future_covariates), self.context
        found = self.panel.values[rows][..., list(self.panel.covariates)]
        if known and not inside.all():
            raise DataError(
                f"{', '.join(self.panel.roles.future_covariates)}: must be given for "
                f"{self.horizon} steps beyond the last value that is forecast from"
            )
        found = np.array(found)
        found[T:, :, known:] = 0
        return found

    def names(self, group: int) -> list[str]:
        """The series of a group."""
        return [self.panel.units[u].name for u in self.groups[group]]


def groups_of(panel: Panel, joint: bool) -> list[list[int]]:
    """The series that are read together: each alone, or all columns of a block; DataError."""
    if not joint:
        return [[u] for u in range(len(panel.units))]
    by_block: dict[int, list[int]] = {}
    for number, unit in enumerate(panel.units):
        by_block.setdefault(unit.block, []).append(number)
    columns = {tuple(panel.units[u].column for u in group) for group in by_block.values()}
    if len(columns) > 1:
        raise DataError(
            "--joint reads all columns at once, but not all series have the same columns with "
            "values that change; leave it away, or name the columns with --target"
        )
    return list(by_block.values())


class WindowBatches:
    """Windows in batches: a pure function of the step, so that a resumed run sees the same.

    Each pass has every window once, in an order that depends on (seed, pass) alone and takes no
    memory. shuffle: False keeps the order of series and time. least: batches of a pass; where
    there are fewer, the windows come again in another order until there are so many.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        least: int = 1,
    ) -> None:
        require_positive(batch_size=batch_size, least=least)
        self.windows, self.batch_size = windows, batch_size
        self.seed, self.shuffle, self.least = seed, shuffle, least

    def __len__(self) -> int:
        """How many batches there are in a pass."""
        return self._once * -(-self.least // self._once)

    @property
    def _once(self) -> int:
        return (len(self.windows) + self.batch_size - 1) // self.batch_size

    def indices(self, step: int) -> Index:
        """The windows of a step."""
        count, begin = len(self.windows), step % self._once * self.batch_size
        places = np.arange(begin, min(begin + self.batch_size, count))
        if not self.shuffle:
            return places
        return shuffled(places, count, (self.seed, step // self._once))

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """A step's batch, or a process's share of it, which may be empty, B = 0."""
        return self.windows.batch(self.indices(step)[rows])


def shuffled(places: Index, count: int, key: tuple[int, int]) -> Index:
    """Where a random permutation of 0 ... count - 1 puts each place, without the permutation.

    A Feistel network over the least even number of bits that holds count, applied again where it
    leads beyond. Source: Black & Rogaway 2002, Ciphers with arbitrary finite domains.
    """
    half = max((int(count - 1).bit_length() + 1) // 2, 1)
    mask = np.uint64((1 << half) - 1)
    rounds = np.random.default_rng(key).integers(1, 1 << 63, 8, dtype=np.uint64)
    found = places.astype(np.uint64)
    beyond = np.ones(len(found), dtype=bool)
    while beyond.any():
        found[beyond] = _mixed(found[beyond], np.uint64(half), mask, rounds)
        beyond = found >= count
    return found.astype(np.int64)


def _mixed(
    x: NDArray[np.uint64], half: np.uint64, mask: np.uint64, rounds: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    left, right = x >> half, x & mask
    for key in rounds:
        z = (right + key) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ ((z >> np.uint64(32)) & mask)
    return (left << half) | right
