"""Pictures from wherever they lie: folders, single files, idx files; with labels or without."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.arrays import (
    SUFFIXES,
    Pixels,
    find_images,
    find_labelled_images,
    parse_size,
    readable_image,
    reshaped,
)
from elman.data.images.idx import is_idx, read_idx_images, read_idx_labels
from elman.data.text.blocks import require_text_file
from elman.errors import DataError, OptionError


class PictureOptions(TypedDict, total=False):
    """How pictures are read.

    size: as "28" or "24x32"; None: as they are. colour: red, green and blue, else grey.
    fit: see `elman.data.images.arrays.read_image`. skip_bad: leave out, and count, what cannot be
    read.
    """

    size: str | None
    colour: bool
    fit: str
    skip_bad: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, [H, W, C] uint8, its label ("" without one), and where it stands."""

    pixels: Pixels
    label: str
    where: str


def is_pictures(file: str | Path) -> bool:
    """Whether a file or folder is one that `pictures` reads, by its name."""
    path = Path(file)
    return path.is_dir() or is_idx(path) or path.suffix.lower() in SUFFIXES


def pictures(
    files: Sequence[str | Path], *, labelled: bool = False, **how: Unpack[PictureOptions]
) -> RecordSource[Picture]:
    """The pictures in folders, in picture files and in idx files, in order.

    labelled: of one folder alone the folders in it are the labels, of several each is one; a file
    has the label that its folder is called, an idx file of pictures one of labels beside it.
    Not labelled, folders are read with all that is in them.

    Raises OptionError, and DataError: which file, what was expected, what to do.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise DataError("no file is given to read pictures from")
    if how.get("size") is not None:
        parse_size(str(how["size"]))
    several = labelled and sum(path.is_dir() for path in paths) > 1
    opened = [_opened(path, labelled, how, several) for path in paths]

    def read(skipped: SkipLog) -> Iterator[Picture]:
        for each in opened:
            yield from each(skipped)

    return RecordSource(", ".join(map(str, paths)), read)


Opened = Callable[[SkipLog], Iterator[Picture]]


def _opened(path: Path, labelled: bool, how: PictureOptions, several: bool) -> Opened:
    """several: a folder is all of one label, else it has a folder for each."""
    size = parse_size(str(how["size"])) if how.get("size") is not None else None
    mode, fit = "colour" if how.get("colour") else "grey", how.get("fit", "crop")
    skip_bad = how.get("skip_bad", False)

    def of_files(named: Sequence[tuple[Path, str]]) -> Opened:
        def read(skipped: SkipLog) -> Iterator[Picture]:
            for file, label in named:
                found = readable_image(file, skipped, size, skip_bad=skip_bad, mode=mode, fit=fit)
                if found is not None:
                    yield Picture(found, label, str(file))

        return read

    def of_idx(skipped: SkipLog) -> Iterator[Picture]:
        images = read_idx_images(path)
        labels = read_idx_labels(path, len(images)) if labelled else [""] * len(images)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            pixels = image.reshape(*image.shape[:2], -1)
            found = reshaped(pixels, size, mode=mode, fit=fit)
            yield Picture(found, label, f"{path}: picture {number}")

    if path.is_dir() and labelled and not several:
        return of_files(find_labelled_images(path))
    if path.is_dir():
        return of_files([(f, path.name if labelled else "") for f in find_images(path, True)])
    require_text_file(path)
    if is_idx(path):
        return of_idx
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path}: pictures are read from folders, {', '.join(SUFFIXES)}, and idx files"
        )
    return of_files([(path, path.resolve().parent.name if labelled else "")])


def grey_digits(file: str | Path) -> RecordSource[Picture]:
    """The embedded digits: 8 x 8 values of 0 ... 16 a row, as grey from 0 to 255."""

    def read(skipped: SkipLog) -> Iterator[Picture]:
        with gzip.open(file, "rt", encoding="ascii") as source:
            table = np.loadtxt(source, delimiter=",", skiprows=1, dtype=np.int64)
        for number, row in enumerate(table):
            pixels = np.round(row[:64] * (255 / 16)).astype(np.uint8).reshape(8, 8, 1)
            yield Picture(pixels, str(row[64]), f"{file}: row {number + 2}")

    return RecordSource("8x8 digits (UCI optdigits)", read)


def pixel_order(count: int, permute: int | None = None) -> NDArray[np.int64]:
    """The numbers of ``count`` pixels in the order in which they come: row by row, or an order
    that the seed ``permute`` draws.

    Raises OptionError.
    """
    if permute is None:
        return np.arange(count)
    if permute < 0:
        raise OptionError(f"permute must be a seed, 0 or above, got {permute}")
    return np.random.default_rng(permute).permutation(count)


def to_levels(pixels: Pixels, levels: int, drawn: bool = False) -> NDArray[np.uint8]:
    """Grey or colour values 0 ... 255 as levels 0 ... levels - 1, equally wide.

    drawn: the level below or above, each as likely as it is near, so that the mean is kept; a
    picture's draws depend on it alone. With two levels: a pixel is 1 with its grey value as
    probability (Salakhutdinov & Murray 2008).
    """
    if not drawn:
        return (pixels.astype(np.int64) * levels // 256).astype(np.uint8)
    noise = np.random.default_rng(zlib.crc32(pixels.tobytes())).random(pixels.shape)
    return np.floor(pixels * ((levels - 1) / 255) + noise).astype(np.uint8)


def from_levels(x: NDArray[np.integer], levels: int) -> Pixels:
    """Levels as values from 0 to 255: the first is black, the last white."""
    return np.round(x * (255 / (levels - 1))).astype(np.uint8)
