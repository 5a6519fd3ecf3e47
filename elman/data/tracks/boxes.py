"""Tracks of boxes in video: MOTChallenge's gt.txt, tables of boxes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from elman.data.core.lines import read_lines
from elman.data.core.records import RecordSource, SkipLog
from elman.data.tables.table import SUFFIXES, Table, TableOptions, is_table
from elman.data.text.blocks import require_text_file
from elman.errors import DataError, unknown

#: Of boxes, which are kept in float32: a pixel more or less is still told apart.
LARGEST = 2.0**24
GAPS = ("interpolate", "cut")
#: The columns of a table by the names that they usually have.
USUAL = {
    "track": ("track", "track_id", "id", "object_id", "object", "trajectory"),
    "frame": ("frame", "frame_id", "frame_number", "t", "time"),
    "x": ("x", "left", "bb_left", "x_min", "xmin", "x1"),
    "y": ("y", "top", "bb_top", "y_min", "ymin", "y1"),
    "w": ("w", "width", "bb_width"),
    "h": ("h", "height", "bb_height"),
}


@dataclass(frozen=True, slots=True)
class Track:
    """Boxes [T, 4], left, top, width and height, of frames one after the other.

    name: of the track in its file. frame: of the first box. step: from frame to frame.
    """

    boxes: NDArray[np.float32]
    name: str
    frame: int
    step: int
    where: str


Rows = Iterator[tuple[str, str, list[float]]]


def tracks(
    files: Sequence[str | Path],
    *,
    gaps: str = "interpolate",
    longest_gap: int = 10,
    frame_step: int = 1,
    columns: Mapping[str, str | None] | None = None,
    **options: Unpack[TableOptions],
) -> RecordSource[Track]:
    """The tracks in files, each file a video of its own.

    .txt: a line for each box, frame, track, x, y, w, h, and perhaps whether it counts (0: it does
    not), as in MOTChallenge; a folder: every gt.txt in it, at any depth. Tables: a row for each
    box, with the columns of `USUAL`, or those named in ``columns``.
    gaps: of at most longest_gap missing boxes in a row are filled on a straight line
    ("interpolate"), or the track is cut in two ("cut"), as it is at longer ones; counted.
    frame_step: only every so manieth frame of a track is read.
    options: see `TableOptions`. A file's boxes are held in memory; their order does not matter.

    Raises DataError, OptionError.
    """
    if gaps not in GAPS:
        raise unknown("rule for gaps", gaps, GAPS)
    paths = [found for file in files for found in _files(Path(file))]
    given = columns or {}
    opened = {path: _opened(path, given, options) for path in paths}

    def read(skipped: SkipLog) -> Iterator[Track]:
        for path in paths:
            for name, boxes in _by_track(opened[path], skipped).items():
                most = longest_gap if gaps == "interpolate" else 0
                yield from _whole(f"{path}: track {name}", name, boxes, frame_step, most, skipped)

    return RecordSource(", ".join(map(str, files)), read)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("gt.txt"))
    if not found:
        raise DataError(f"{path}: holds no gt.txt")
    return found


def _opened(path: Path, columns: Mapping[str, str | None], options: TableOptions) -> Any:
    """A function that reads the boxes of a file: where, track, [frame, x, y, w, h]."""
    if is_table(path):
        table = Table(path, **options)
        names = [table.find(what, usual, columns.get(what)) for what, usual in USUAL.items()]
        return lambda skipped: _of_table(table, names, skipped)
    if path.suffix.lower() != ".txt":
        raise DataError(f"{path}: boxes are read from .txt (MOTChallenge), {', '.join(SUFFIXES)}")
    require_text_file(path)
    return lambda skipped: _of_mot(path, options.get("encoding", "utf-8"), skipped)


def _of_table(table: Table, names: list[str], skipped: SkipLog) -> Rows:
    track, *numbers = names
    for row in table.rows(skipped):
        values = [_number(row.where, name, row.values[name]) for name in numbers]
        yield row.where, str(row.values[track]), values


def _of_mot(path: Path, encoding: str, skipped: SkipLog) -> Rows:
    names = ("frame", "track", "x", "y", "w", "h", "whether it counts")
    for line, text in enumerate(read_lines(path, encoding), 1):
        where, cells = f"{path}: line {line}", text.replace(",", " ").split()
        if not cells:
            skipped.add("empty line", where)
            continue
        if len(cells) < 6:
            raise DataError(
                f"{where}: must be frame,track,x,y,w,h and perhaps more, got {text[:40]!r}"
            )
        values = [_number(where, *pair) for pair in zip(names, cells[:7], strict=False)]
        if len(values) > 6 and values[6] == 0:
            skipped.add("box that does not count", where)
        else:
            yield where, f"{values[1]:g}", [values[0], *values[2:6]]


def _number(where: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) <= LARGEST:
        raise DataError(f"{where}: {name} must be a number, got {str(value)[:40]!r}")
    return number


def _by_track(rows: Any, skipped: SkipLog) -> dict[str, dict[int, list[float]]]:
    """track -> frame -> box"""
    found: dict[str, dict[int, list[float]]] = {}
    for where, track, (frame, *box) in rows(skipped):
        if frame != int(frame):
            raise DataError(f"{where}: a frame is a whole number, got {frame}")
        if min(box[2:]) <= 0:
            skipped.add("box without width or height", where)
            continue
        boxes = found.setdefault(track, {})
        if int(frame) in boxes:
            raise DataError(f"{where}: track {track} has a box in frame {int(frame)} already")
        boxes[int(frame)] = box
    return found


def _whole(
    where: str, name: str, boxes: dict[int, list[float]], step: int, longest: int, skipped: SkipLog
) -> Iterator[Track]:
    """A track in parts without a gap; see `tracks`."""
    frames = np.array(sorted(boxes))
    frames = frames[(frames - frames[0]) % step == 0]
    missing = np.diff(frames) // step - 1
    begins = [0, *(np.flatnonzero(missing > longest) + 1).tolist(), len(frames)]
    if cuts := len(begins) - 2:
        skipped.add("gap at which a track is cut", where, cuts)
    if filled := int(missing[missing <= longest].sum()):
        skipped.add("missing box filled on a straight line", where, filled)
    for begin, end in pairwise(begins):
        given = frames[begin:end]
        every = np.arange(given[0], given[-1] + 1, step)
        known = np.array([boxes[frame] for frame in given.tolist()])
        values = np.stack([np.interp(every, given, column) for column in known.T], -1)
        yield Track(values.astype(np.float32), name, int(given[0]), step, where)


def made_tracks(count: int, seed: int) -> Iterator[Track]:
    """Tracks of 40 boxes made by the program: half go straight, half turn; those further down are
    nearer and larger, and boxes tremble as drawn ones do."""
    draw = np.random.default_rng(seed)
    t = np.arange(40)
    for number in range(count):
        turn = draw.choice((-1, 1)) * draw.uniform(0.03, 0.08) if number % 2 else 0.0
        angle = draw.uniform(0, 2 * np.pi) + turn * t
        speed = draw.uniform(0.02, 0.06)
        x, y = np.cumsum(speed * np.cos(angle)), np.cumsum(0.5 * speed * np.sin(angle))
        height = 100 * np.exp(0.5 * (y + draw.uniform(-0.5, 0.5)))
        width = height * draw.uniform(0.3, 0.5)
        centre = np.stack((320 + 150 * (x + draw.uniform(-1, 1)), 240 + 150 * y), -1)
        size = np.stack((width, height), -1)
        boxes = np.concatenate((centre - size / 2, size), -1) + draw.normal(0, 0.5, (40, 4))
        kind = "turning" if number % 2 else "straight"
        yield Track(boxes.astype(np.float32), str(number + 1), 1, 1, f"made {kind} {number + 1}")
