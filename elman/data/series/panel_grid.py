"""Rows as they come, put in order on grids of regular steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.records import SkipLog
from elman.data.series.frequency import Frequency, frequency_named, inferred, written
from elman.data.series.panel_rows import PanelRows
from elman.data.series.times import STEPS, Times
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError

DUPLICATES = ("error", "mean", "last")
#: Rows that are worked on at once.
CHUNK = 1 << 17
#: Times from which the frequency is read.
SAMPLE = 1 << 16


@dataclass(frozen=True)
class Raw:
    """Rows on disk, as they came: times [N], keys [N], values [N, F].

    order: what sorts them by series and time; None where they are in order.
    """

    times: Times
    keys: NDArray[np.int32]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    order: NDArray[np.int64] | None
    about: str

    def sorted(self, begin: int, end: int) -> Any:
        """Which rows stand there when all are in order."""
        return slice(begin, end) if self.order is None else self.order[begin:end]

    def spans(self) -> list[tuple[int, int, int]]:
        """(key, begin, end) of each series, in order."""
        ends = np.cumsum(np.bincount(self.keys, minlength=len(self.names)))
        begins = np.concatenate(([0], ends[:-1]))
        return [
            (key, int(b), int(e))
            for key, (b, e) in enumerate(zip(begins, ends, strict=True))
            if e > b
        ]


def read_raw(rows: PanelRows, folder: Path, skipped: SkipLog, report: ProgressCallback) -> Raw:
    """Read tables to the end; only what they are sorted by is ever held in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("times", "keys", "values")]
    count, falls, last = 0, 0, (-1, np.iinfo(np.int64).min)
    with paths[0].open("wb") as t, paths[1].open("wb") as k, paths[2].open("wb") as v:
        for some in rows.batches(skipped):
            for file, array in zip((t, k, v), (some.times, some.keys, some.values), strict=True):
                file.write(np.ascontiguousarray(array).tobytes())
            if len(some.times):
                falls += _falls(some.times, some.keys, last)
                last = (int(some.keys[-1]), int(some.times[-1]))
            count += len(some.times)
            report("reading rows", count, 0)
    if not count:
        raise DataError(f"{rows.about}: holds no row with a time")
    names = tuple(rows.keys)
    size = len(rows.roles.numbers)
    times, keys = _map(paths[0], np.int64), _map(paths[1], np.int32)
    values = _map(paths[2], np.float64).reshape(-1, size)
    order = None
    if falls:
        order = np.lexsort((times, keys))
        _count_falls(times, keys, len(names), skipped, rows.about)
    return Raw(times, keys, values, names, order, rows.about)


def _map(path: Path, kind: Any) -> Any:
    return np.memmap(path, dtype=kind, mode="r")


def _falls(times: Times, keys: NDArray[np.int32], last: tuple[int, int]) -> int:
    """How often what follows should stand before."""
    k, t = np.concatenate(([last[0]], keys)), np.concatenate(([last[1]], times))
    return int(((np.diff(k) < 0) | ((np.diff(k) == 0) & (t[1:] < t[:-1]))).sum())


def _count_falls(
    times: Times, keys: NDArray[np.int32], series: int, skipped: SkipLog, about: str
) -> None:
    """Count the times that are earlier than the one before in their series."""
    place = slice(None) if series == 1 else np.argsort(keys, kind="stable")
    t, k = times[place], keys[place]
    early = int(((t[1:] < t[:-1]) & (k[1:] == k[:-1])).sum())
    if early:
        skipped.add("time earlier than the one before: sorted", about, early)


def frequency_of(raw: Raw, said: str | None, form: str) -> Frequency:
    """The frequency of rows: the one a person named, or the one most common."""
    spans = raw.spans()
    longest = max(spans, key=lambda span: span[2] - span[1])
    times = np.unique(raw.times[raw.sorted(longest[1], min(longest[2], longest[1] + SAMPLE))])
    if said is not None:
        return frequency_named(said, int(times[0]))
    try:
        return inferred(times, form == STEPS)
    except DataError as error:
        raise DataError(f"{raw.about}: {error}") from error


@dataclass(frozen=True)
class Stretch:
    """One series on its grid: where it stands in the file of grids, and when it begins."""

    key: str
    begin: int
    rows: int
    anchor: int


def write_grid(
    raw: Raw,
    frequency: Frequency,
    path: Path,
    duplicates: str,
    skipped: SkipLog,
    report: ProgressCallback,
) -> tuple[list[Stretch], NDArray[np.float64]]:
    """Put each series on its grid; steps without a row are NaN.

    duplicates: what becomes of rows of one step: an error, their mean, or the last.
    """
    found: list[Stretch] = []
    begin = 0
    with path.open("wb") as out:
        for key, first, end in raw.spans():
            anchor = int(raw.times[raw.sorted(first, first + 1)][0])
            own = frequency.from_time(anchor)
            count = 0
            for piece in _steps(raw, own, first, end, duplicates, skipped):
                count += _write_piece(piece, count, out, raw, own, first, end)
                report("putting rows on the grid", first + count, len(raw.times))
            found.append(Stretch(raw.names[key], begin, count, anchor))
            begin += count
    size = raw.values.shape[1]
    return found, _map(path, np.float64).reshape(-1, size)


Piece = tuple[Times, NDArray[np.float64]]


def _write_piece(
    piece: Piece, count: int, out: IO[bytes], raw: Raw, own: Frequency, first: int, end: int
) -> int:
    """Write steps up to the last of the piece; how many they are."""
    index, values = piece
    more = int(index[-1]) + 1 - count
    if count + more > 20 * (end - first) + 1000:
        raise DataError(
            f"{raw.about}: {end - first} rows would be spread over more than {count + more - 1} "
            f"steps ({own.name}); a time is far from all others, or the steps are others: name "
            "them, as in --frequency D"
        )
    grid = np.full((more, values.shape[1]), np.nan)
    grid[index - count] = values
    out.write(grid.tobytes())
    return more


def _steps(
    raw: Raw, own: Frequency, first: int, end: int, duplicates: str, skipped: SkipLog
) -> Iterator[Piece]:
    """The steps that rows are on, which rise, and the values of each; a chunk of rows at once."""
    held: Piece | None = None
    for begin in range(first, end, CHUNK):
        place = raw.sorted(begin, min(begin + CHUNK, end))
        times, values = raw.times[place], np.asarray(raw.values[place])
        index = own.index(times)
        if own.unit != "month":
            moved = own.times(index) != times
            if moved.any():
                at = written(times[moved][:1], own)[0]
                skipped.add("time moved to the nearest step", at, int(moved.sum()))
        if held is not None:
            index, values = np.concatenate((held[0], index)), np.concatenate((held[1], values))
        # Rows of the last step may go on in the next chunk.
        last = int(np.searchsorted(index, index[-1]))
        held = index[last:], values[last:]
        if last:
            yield _merged(index[:last], values[:last], own, duplicates, skipped, raw.about)
    assert held is not None
    yield _merged(*held, own, duplicates, skipped, raw.about)


def _merged(
    index: Times,
    values: NDArray[np.float64],
    own: Frequency,
    duplicates: str,
    skipped: SkipLog,
    about: str,
) -> Piece:
    """One row a step."""
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    if len(starts) == len(index):
        return index, values
    at = written(own.times(index[np.flatnonzero(np.diff(index) == 0)[:1]]), own)[0]
    if duplicates == "error":
        raise DataError(
            f"{about}: the step {at} has two rows or more; take their mean, or the last: "
            "--duplicates mean, --duplicates last. Where there are several series in one column, "
            "name the column that tells them apart: --series-column"
        )
    kept = {"last": "last row kept", "mean": "their mean taken"}[duplicates]
    skipped.add(f"duplicate date; {kept}", at, len(index) - len(starts))
    if duplicates == "last":
        return index[starts], values[np.append(starts[1:], len(index)) - 1]
    there = ~np.isnan(values)
    total = np.add.reduceat(np.where(there, values, 0), starts, axis=0)
    count = np.add.reduceat(there.astype(np.int64), starts, axis=0)
    with np.errstate(invalid="ignore"):
        return index[starts], np.where(count > 0, total / count, np.nan)
