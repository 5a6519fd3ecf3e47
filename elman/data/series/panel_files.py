"""From tables to series that a model can read: ordered, without gaps, standardised, on disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import write_json, written_aside
from elman.data.core.records import SkipLog
from elman.data.core.scalers import Moments
from elman.data.series.frequency import Frequency
from elman.data.series.panel import Block, Panel, Unit
from elman.data.series.panel_grid import CHUNK, Stretch, frequency_of, read_raw, write_grid
from elman.data.series.panel_rows import PanelRows
from elman.data.series.panel_rules import Cuts, Rules
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError

Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Learnt:
    """What a training knows of its series, for other tables of the same kind."""

    frequency: Frequency
    units: Mapping[str, Unit]
    covariate_scale: tuple[tuple[float, float], ...]


def write_panel(
    folder: Path,
    rows: PanelRows,
    rules: Rules,
    skipped: SkipLog,
    report: ProgressCallback,
    *,
    cuts: Cuts | None = None,
    learnt: Learnt | None = None,
) -> Panel:
    """Read tables into a folder: values.npy, measured.npy where there are gaps, panel.json.

    cuts: of a training; where there are none, all rows are history. learnt: the scales of a
    training, for a table that comes later. What is left out or mended is counted.
    Nothing is held in memory that is as long as the tables, but the order of rows that came out
    of order. Raises DataError, OptionError.
    """
    with written_aside(folder) as aside:
        raw = read_raw(rows, aside / "raw", skipped, report)
        frequency = frequency_of(raw, rules.frequency, rows.roles.time_format)
        if learnt is not None:
            _require_same(frequency, learnt.frequency, rows.about)
        grid_file = aside / "raw" / "grid"
        stretches, grid = write_grid(raw, frequency, grid_file, rules.duplicates, skipped, report)
        frequency = frequency.from_time(min(s.anchor for s in stretches))
        work = _Work(rows, rules, frequency, grid, skipped, report)
        blocks = work.blocks(stretches, cuts)
        scale = learnt.covariate_scale if learnt else work.covariate_scale(blocks)
        units = work.units(blocks, learnt)
        gaps = work.write(aside, blocks, units, scale)
        empty = np.zeros((0, 0), dtype=np.float32)
        measured = np.zeros((0, 0), dtype=np.bool_) if gaps else None
        about = Panel(rows.roles, frequency, blocks, units, scale, empty, measured).about_json()
        write_json(aside / "panel.json", about)
        del raw, grid, work
        for file in (aside / "raw").iterdir():
            file.unlink()
        (aside / "raw").rmdir()
    return Panel.open(folder)


def _require_same(found: Frequency, wanted: Frequency, about: str) -> None:
    if found.same != wanted.same:
        raise DataError(
            f"{about}: its rows are {found.name}, those of the training were {wanted.name}"
        )


@dataclass(frozen=True)
class _Work:
    """The grids of all series, on their way to a `Panel`."""

    rows: PanelRows
    rules: Rules
    frequency: Frequency
    grid: Grid
    skipped: SkipLog
    report: ProgressCallback

    @property
    def targets(self) -> int:
        return len(self.rows.roles.targets)

    def chunks(self, begin: int, end: int) -> Iterator[Grid]:
        for at in range(begin, end, CHUNK):
            yield np.asarray(self.grid[at : min(at + CHUNK, end)])

    # Where series begin and end

    def blocks(self, stretches: list[Stretch], cuts: Cuts | None) -> tuple[Block, ...]:
        found = [block for s in stretches if (block := self._trimmed(s)) is not None]
        if not found:
            raise DataError(f"{self.rows.about}: there is not one value in the columns to forecast")
        starts = self.frequency.index(np.array([block.anchor for block in found])).tolist()
        ends = [start + block.history for start, block in zip(starts, found, strict=True)]
        valid, test = (0, 0) if cuts is None else cuts.steps(self.frequency, max(ends))
        return tuple(
            Block(
                b.key, b.begin, b.rows, b.history, b.anchor,
                (min(max(valid - start, 0), b.history), min(max(test - start, 0), b.history)),
            )
            for start, b in zip(starts, found, strict=True)
        )  # fmt: skip

    def _trimmed(self, s: Stretch) -> Block | None:
        """Without the steps before the first value of a target, and after the last where nothing
        is known of the future."""
        first, last, at = -1, -1, 0
        for values in self.chunks(s.begin, s.begin + s.rows):
            there = np.flatnonzero(~np.isnan(values[:, : self.targets]).all(axis=1))
            if len(there):
                first = at + int(there[0]) if first < 0 else first
                last = at + int(there[-1])
            at += len(values)
        if first < 0:
            self.skipped.add("series without a value", s.key or self.rows.about)
            return None
        known = bool(self.rows.roles.future_covariates)
        beyond = s.rows - last - 1
        if beyond and not known:
            self.skipped.add("row after the last value", s.key or self.rows.about, beyond)
        anchor = int(self.frequency.from_time(s.anchor).times(np.array([first]))[0])
        rows = (s.rows if known else last + 1) - first
        return Block(s.key, s.begin + first, rows, last + 1 - first, anchor, (0, 0))

    # Scales

    def covariate_scale(self, blocks: tuple[Block, ...]) -> tuple[tuple[float, float], ...]:
        """Of each covariate over all series, on the rows of training."""
        moments = Moments()
        for block in blocks:
            end = block.begin + (block.cuts[0] or block.history)
            for values in self.chunks(block.begin, end):
                moments.add(values[:, self.targets :])
        return tuple(zip(*(a.tolist() for a in moments.scale()), strict=True))

    def units(self, blocks: tuple[Block, ...], learnt: Learnt | None) -> tuple[Unit, ...]:
        found: list[Unit] = []
        for number, block in enumerate(blocks):
            end = block.cuts[0] or block.cuts[1] or block.history
            moments = Moments()
            for values in self.chunks(block.begin, block.begin + end):
                moments.add(values[:, : self.targets])
            error = self._naive_error(block, end)
            for column in range(self.targets):
                unit = self._unit(block, number, column, moments, float(error[column]), learnt)
                if unit is not None:
                    found.append(unit if learnt else _numbered(unit, len(found) + 1))
        if not found:
            raise DataError(f"{self.rows.about}: no series is left; left out: {self.skipped}")
        return tuple(found)

    def _unit(
        self,
        block: Block,
        number: int,
        column: int,
        moments: "Moments",
        error: float,
        learnt: Learnt | None,
    ) -> Unit | None:
        name = self._name(block, column)
        if learnt is not None and name in learnt.units:
            known = learnt.units[name]
            return Unit(
                name, number, column, known.number, known.mean, known.deviation, known.naive_error
            )
        if not moments.count[column]:
            self.skipped.add("series without a value in the training part", name)
            return None
        mean, deviation = (float(a[column]) for a in moments.scale())
        if moments.constant[column]:
            if learnt is None:
                self.skipped.add("series that never changes in the training part", name)
                return None
            error = 1.0
        return Unit(name, number, column, 0, mean, deviation, max(error / deviation, 1e-3))

    def _name(self, block: Block, column: int) -> str:
        target = self.rows.roles.targets[column]
        if self.rows.roles.series is None:
            return target
        return block.key if self.targets == 1 else f"{block.key} {target}"

    def _naive_error(self, block: Block, end: int) -> NDArray[np.float64]:
        """[targets] the mean absolute error of the value one season before."""
        season = self.rules.season or self.frequency.season
        total, count = np.zeros(self.targets), np.zeros(self.targets)
        for at in range(block.begin + season, block.begin + end, CHUNK):
            to = min(at + CHUNK, block.begin + end)
            now = self.grid[at:to, : self.targets]
            error = np.abs(now - self.grid[at - season : to - season, : self.targets])
            total += np.nansum(error, axis=0)
            count += (~np.isnan(error)).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    # The file that is mapped

    def write(
        self,
        folder: Path,
        blocks: tuple[Block, ...],
        units: tuple[Unit, ...],
        covariate_scale: tuple[tuple[float, float], ...],
    ) -> bool:
        """Standardise and fill; whether anything was filled in a target."""
        total, size = sum(block.rows for block in blocks), self.grid.shape[1]
        gaps = False
        header = np.lib.format
        with (folder / "values.npy").open("wb") as v, (folder / "measured.npy").open("wb") as m:
            for file, kind, width in ((v, "<f4", size), (m, "|b1", self.targets)):
                about = {"descr": kind, "fortran_order": False, "shape": (total, width)}
                header.write_array_header_1_0(file, about)
            for number, block in enumerate(blocks):
                own = [u for u in units if u.block == number]
                mean, deviation = _scales(own, self.targets, covariate_scale)
                last: NDArray[np.float64] | None = None
                at = 0
                for values in self.chunks(block.begin, block.begin + block.rows):
                    there = ~np.isnan(values[:, : self.targets])
                    # What is still to come is no gap.
                    past = there[: max(block.history - at, 0)]
                    at += len(values)
                    self._count_gaps(past, block)
                    gaps = gaps or not past.all()
                    filled, last = self._filled(values, last, block)
                    v.write(self._scaled(filled, mean, deviation, block).tobytes())
                    m.write(there.tobytes())
                self.report("writing series", block.begin + block.rows, len(self.grid))
        if not gaps:
            (folder / "measured.npy").unlink()
        return gaps

    def _scaled(self, values: Grid, mean: Any, deviation: Any, block: Block) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            scaled = ((values - mean) / deviation).astype("<f4")
        if not np.isfinite(scaled).all():
            worst = float(np.abs(values).max())
            raise DataError(
                f"{self.rows.about}: '{block.key or self.rows.roles.targets[0]}' holds {worst:g}, "
                "which is too far from all others to be read beside them; mend it, or leave it out"
            )
        return scaled

    def _count_gaps(self, there: NDArray[np.bool_], block: Block) -> None:
        count = int((~there).sum())
        if not count:
            return
        name = block.key or ", ".join(self.rows.roles.targets)
        if self.rules.missing == "error":
            raise DataError(
                f"{self.rows.about}: {count} values are missing in '{name}'; say what takes their "
                "place: --missing carry (the value before) or --missing zero"
            )
        self.skipped.add(f"missing value filled ({self.rules.missing})", f"'{name}'", count)

    def _filled(
        self, values: Grid, last: NDArray[np.float64] | None, block: Block
    ) -> tuple[Grid, NDArray[np.float64]]:
        """Without NaN: the value before, at the beginning the first there is, 0 where none is."""
        if self.rules.missing == "zero":
            return np.nan_to_num(values), np.zeros(0)
        if last is None:
            last = self._first(block)
        whole = np.concatenate((last[None], values))
        steps = np.where(np.isnan(whole), 0, np.arange(len(whole))[:, None])
        filled = np.take_along_axis(whole, np.maximum.accumulate(steps, axis=0), axis=0)[1:]
        return filled, filled[-1]

    def _first(self, block: Block) -> NDArray[np.float64]:
        """[F] the first value of each column of a block; 0 where there is none."""
        first = np.full(self.grid.shape[1], np.nan)
        for values in self.chunks(block.begin, block.begin + block.rows):
            there = ~np.isnan(values)
            at = there.argmax(axis=0)
            own = np.take_along_axis(values, at[None], axis=0)[0]
            first = np.where(np.isnan(first), own, first)
            if not np.isnan(first).any():
                break
        return np.nan_to_num(first)


def _numbered(unit: Unit, number: int) -> Unit:
    return Unit(
        unit.name, unit.block, unit.column, number, unit.mean, unit.deviation, unit.naive_error
    )


def _scales(
    units: list[Unit], targets: int, covariates: tuple[tuple[float, float], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[F] means and deviations of the columns; 0 and 1 of a series that is left out."""
    mean, deviation = np.zeros(targets + len(covariates)), np.ones(targets + len(covariates))
    for unit in units:
        mean[unit.column], deviation[unit.column] = unit.mean, unit.deviation
    for place, (m, d) in enumerate(covariates, targets):
        mean[place], deviation[place] = m, d
    return mean, deviation
