"""Music as piano rolls: MIDI files and folders of them, arrays of MATLAB and NumPy."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.arrays import npz_arrays
from elman.data.core.mat import mat_arrays
from elman.data.core.records import RecordSource, SkipLog
from elman.data.music.midi import KEYS, LOWEST, Roll, read_midi
from elman.data.text.blocks import require_text_file
from elman.errors import DataError

MIDI = (".mid", ".midi", ".kar")
#: What the folders or arrays of a part may be called.
NAMES = {
    "train": ("train", "training", "traindata"),
    "valid": ("valid", "val", "validation", "validdata", "dev"),
    "test": ("test", "testing", "testdata"),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piano roll, [T, 88] of zeros and ones, and where it is from."""

    roll: Roll
    where: str


def pieces(
    files: Sequence[str | Path],
    part: str | None = None,
    *,
    steps_per_beat: int = 4,
    skip_bad: bool = False,
) -> RecordSource[Piece]:
    """The pieces in files.

    MIDI files, and folders of them at any depth, in the order of their names. .npz: x [N, T, 88]
    or [N, T, 128], perhaps lengths [N]; or an array [T, 88] or [T, 128] for each piece. .mat:
    such arrays, or cells of them. A key sounds where a number is above 0; 128 are the keys of
    MIDI, of which 21 ... 108 are read.
    part: "train", "valid" or "test", of a folder or file that has several (see `parts_of`); None
    reads all of them, and of what has no parts all is read in any case.
    steps_per_beat: frames of a beat, for MIDI. skip_bad: leave out, and count, MIDI files that
    cannot be read.

    Raises DataError.
    """
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_dir():
            require_text_file(path)
            _require_kind(path)

    def read(skipped: SkipLog) -> Iterator[Piece]:
        for path in paths:
            for where, held in _chosen(path, part):
                for roll in _rolls(where, held, steps_per_beat, skip_bad, skipped):
                    if len(roll):
                        yield Piece(roll, where)
                    else:
                        skipped.add("piece without a frame", where)

    names = [f"{path}: {part}" if part and parts_of(path) else str(path) for path in paths]
    return RecordSource(", ".join(names), read)


def parts_of(path: str | Path) -> set[str]:
    """The parts that a folder (train, valid, test in it) or a .mat or .npz file (traindata ...) is
    divided into; none where it has no training part and another."""
    path = Path(path)
    if path.is_dir():
        found = {_part(child.name) for child in path.iterdir() if child.is_dir()}
    else:
        suffix = path.suffix.lower()
        found = {_part(name) for name in (_arrays(path) if suffix in (".mat", ".npz") else ())}
    return {part for part in found if part} if {"train"} < found - {None} else set()


def _part(name: str) -> str | None:
    """The part that a folder's or an array's name belongs to, as train, or train_17."""
    found = re.fullmatch(r"([a-z]+)[\W_]?\d*", name.lower())
    word = found.group(1) if found else ""
    return next((part for part, names in NAMES.items() if word in names), None)


def _require_kind(path: Path) -> None:
    if path.suffix.lower() not in (*MIDI, ".mat", ".npz"):
        raise DataError(
            f"{path}: music is read from {', '.join(MIDI)}, folders of them, .mat and .npz"
        )


def _chosen(path: Path, part: str | None) -> Iterator[tuple[str, Any]]:
    """Where each piece is, and the file or array that holds it."""
    chosen = {part} & parts_of(path)
    if part is not None and not chosen and (others := parts_of(path)):
        raise DataError(f"{path}: has no {part} part, it has {', '.join(sorted(others))}")
    if path.is_dir():
        midi = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in MIDI]
        if not midi:
            raise DataError(f"{path}: holds no MIDI file ({', '.join(MIDI)})")
        for file in midi:
            if not chosen or _part(file.relative_to(path).parts[0]) == part:
                yield str(file), file
    elif path.suffix.lower() in MIDI:
        yield str(path), path
    else:
        for name, arrays in _arrays(path).items():
            if not chosen or _part(name) == part:
                for number, array in enumerate(arrays):
                    yield f"{path}: {name}, piece {number + 1}", array


def _rolls(
    where: str, held: Any, steps_per_beat: int, skip_bad: bool, skipped: SkipLog
) -> list[Roll]:
    if not isinstance(held, Path):
        return [_of_array(where, held, skipped)]
    try:
        found = read_midi(held, steps_per_beat, skipped)
    except DataError:
        if not skip_bad:
            raise
        skipped.add("file that cannot be read", where)
        return []
    if not found:
        skipped.add("file without a note", where)
    return found


def _arrays(path: Path) -> Mapping[str, list[NDArray[Any]]]:
    """The piano rolls under each name of a .mat or .npz file."""
    if path.suffix.lower() == ".npz":
        arrays = npz_arrays(path)
        if arrays.get("x", np.empty(0)).ndim == 3:
            x = arrays["x"]
            lengths = arrays.get("lengths", np.full(len(x), x.shape[1]))
            if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu":
                raise DataError(f"{path}: lengths must be whole numbers [N] = [{len(x)}]")
            return {"x": [roll[:length] for roll, length in zip(x, lengths, strict=True)]}
        return {name: list(a) if a.ndim == 3 else [a] for name, a in arrays.items()}
    return mat_arrays(path)


def _of_array(where: str, array: Any, skipped: SkipLog) -> Roll:
    """An array's frames as a piano roll."""
    values = np.asarray(array)
    if values.ndim != 2 or values.dtype.kind not in "fiub" or values.shape[1] not in (KEYS, 128):
        turned = values.ndim == 2 and values.shape[0] in (KEYS, 128)
        raise DataError(
            f"{where}: must be numbers [T, {KEYS}] or [T, 128], got {values.dtype} "
            f"{list(values.shape)}" + ("; transpose it" if turned else "")
        )
    if not np.isfinite(values).all():
        raise DataError(f"{where}: holds numbers that are not finite")
    on = (values > 0).astype(np.uint8)
    if on.shape[1] == KEYS:
        return on
    roll = on[:, LOWEST : LOWEST + KEYS]
    if odd := int(on.sum()) - int(roll.sum()):
        skipped.add("frame of a note that a piano has not", where, odd)
    return roll
