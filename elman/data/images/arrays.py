"""Pictures as arrays: one file, the files of a folder, and a sheet of pictures back to a file."""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from elman.data.core.files import written_aside
from elman.data.core.reading import reading
from elman.data.core.records import SkipLog
from elman.data.text.blocks import require_text_file
from elman.errors import DataError, OptionError, require_positive, unknown

Pixels = NDArray[np.uint8]

#: Name for people -> Pillow's name.
MODES = {"grey": "L", "colour": "RGB"}
#: How a picture of another shape comes to the one that is wanted.
FITS = ("crop", "pad", "stretch")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
#: The colour of a sheet where there is no picture.
BLANK = np.array([200, 216, 232], np.uint8)
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def read_image(
    file: str | Path,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "colour",
    fit: str = "crop",
) -> Pixels:
    """One picture, [H, W, C]: C is 1 for mode "grey", 3 for "colour".

    size: (H, W); None: as it is. A picture of another shape keeps its proportions and loses what
    stands over (fit "crop") or gets a white border ("pad"), or loses its proportions ("stretch").
    It is turned as its EXIF data say; what is transparent lies over white; 16 bits become the
    upper 8; palettes become their colours; of an animation the first frame is taken.

    Raises OptionError, and DataError for what is no whole picture, or has more pixels than
    ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    _check(mode, fit, size)
    path = Path(file)
    require_text_file(path)
    with reading(path, "a picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A small file may unpack to more than the memory holds.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=_formats()) as image:
                pixels = np.asarray(_mended(image, size, MODES[mode], fit))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: has too many pixels ({error}); save it smaller") from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is no picture of a kind that Pillow reads") from error
    return pixels.reshape(*pixels.shape[:2], -1)


#: Kinds of pictures that Pillow hands to another program, or to a plugin: nothing that is read may
#: run either, whatever the file's name says.
_FOREIGN = {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF"}


@lru_cache
def _formats() -> tuple[str, ...]:
    """The kinds of pictures that Pillow decodes itself."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _FOREIGN))


def readable_image(
    file: str | Path,
    skipped: SkipLog,
    size: tuple[int, int] | None = None,
    *,
    skip_bad: bool = False,
    mode: str = "colour",
    fit: str = "crop",
) -> Pixels | None:
    """As `read_image`; with skip_bad None for what cannot be read, which ``skipped`` counts."""
    try:
        return read_image(file, size, mode=mode, fit=fit)
    except DataError as error:
        if not skip_bad:
            raise DataError(
                f"{error}; --skip-bad leaves such files out, and counts them"
            ) from error
        skipped.add("picture that cannot be read", str(file))
        return None


def fit_image(pixels: Pixels, size: tuple[int, int], fit: str = "crop") -> Pixels:
    """A colour picture [H, W, 3] brought to another size, (H, W), as `read_image` does."""
    _check("colour", fit, size)
    return np.asarray(_mended(Image.fromarray(pixels), size, "RGB", fit))


def image_size(file: str | Path) -> tuple[int, int] | None:
    """(H, W) of a picture as `read_image` turns it, from its first bytes; None where it is none."""
    try:
        with Image.open(file, formats=_formats()) as image:
            # Of a TIFF file Pillow gives, by its version, the turned size.
            stored = getattr(image, "tag_v2", {})
            width, height = stored.get(256, image.width), stored.get(257, image.height)
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # as in `read_image`
        return None
    return (width, height) if turned else (height, width)


def _check(mode: str, fit: str, size: tuple[int, int] | None) -> None:
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if fit not in FITS:
        raise unknown("fit", fit, FITS)
    if size is not None:
        require_positive(height=size[0], width=size[1])


def _mended(image: Image.Image, size: tuple[int, int] | None, mode: str, fit: str) -> Image.Image:
    """The picture upright, in the mode and of the size that is wanted."""
    if size is not None:
        # A JPEG is decoded no larger than it takes; upright or not.
        image.draft(None, (2 * max(size), 2 * max(size)))
    flat = _over_white(_eight_bits(ImageOps.exif_transpose(image), image.format)).convert(mode)
    return _sized(flat, size, fit)


def reshaped(
    pixels: Pixels, size: tuple[int, int] | None, *, mode: str = "colour", fit: str = "crop"
) -> Pixels:
    """A picture [H, W, 1 or 3] in another size and mode, as `read_image` brings it there."""
    _check(mode, fit, size)
    channels = 1 if mode == "grey" else 3
    if pixels.shape[2] == channels and size in (None, pixels.shape[:2]):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    found = np.asarray(_sized(image.convert(MODES[mode]), size, fit))
    return found.reshape(*found.shape[:2], -1)


def _sized(image: Image.Image, size: tuple[int, int] | None, fit: str) -> Image.Image:
    if size is None or image.size == size[::-1]:
        return image
    wanted, how = size[::-1], Image.Resampling.BICUBIC
    if fit == "stretch":
        return image.resize(wanted, how)
    if fit == "crop":
        return ImageOps.fit(image, wanted, how)
    return ImageOps.pad(image, wanted, how, color="white")


def _eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of no known range (mode {image.mode})")
    return image


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode not in _TRANSPARENT and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


# Folders


def find_images(folder: str | Path, deep: bool = False) -> list[Path]:
    """The pictures in a folder by their suffix, in order, hidden ones left out.

    deep: those of folders in it too. Raises DataError where there is none.
    """
    top = _folder(folder)
    found = sorted(p for p in top.glob("**/*" if deep else "*") if _is_image(p, top))
    if not found:
        raise DataError(f"{top}: holds no picture ({', '.join(SUFFIXES)})")
    return found


def find_labelled_images(folder: str | Path) -> list[tuple[Path, str]]:
    """The pictures of a folder with a folder for each label, and their labels, in order.

    Raises DataError for fewer than two such folders, or one that holds no picture.
    """
    top = _folder(folder)
    classes = sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"{top}: must hold a folder of pictures for each label, as {top}/cat, {top}/dog; it "
            f"has {len(classes)} folder{'s' if len(classes) != 1 else ''}"
        )
    return [(file, each.name) for each in classes for file in find_images(each, deep=True)]


def _folder(folder: str | Path) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: is no folder" if path.exists() else f"{path}: no such folder")
    return path


def _is_image(path: Path, top: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(top).parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


# Sheets


def parse_size(text: str) -> tuple[int, int]:
    """ "28" or "24x32" as (H, W); OptionError where it is neither."""
    found = re.fullmatch(r"\s*(\d+)\s*(?:[xX]\s*(\d+)\s*)?", text)
    if not found or not int(found[1]) or not int(found[2] or found[1]):
        raise OptionError(
            f"a size must be one number or HEIGHTxWIDTH, as 28 or 24x32, got '{text}'"
        )
    return int(found[1]), int(found[2] or found[1])


def write_sheet(
    path: Path, rows: Sequence[Sequence[Pixels | None]], *, zoom: int | None = None, gap: int = 2
) -> None:
    """Pictures side by side in rows, as a PNG.

    rows: [H, W] or [H, W, C] each, C = 1 or 3; they may differ, and None leaves a place empty.
    zoom: pixels of the sheet for one of a picture; None: so many that one can see it.
    """
    pictures = [p for row in rows for p in row if p is not None]
    if not pictures:
        raise OptionError(f"{path}: there is no picture to write")
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    zoom = zoom or max(1, 96 // max(height, width))
    columns = max(len(row) for row in rows)
    tall, wide = height * zoom + gap, width * zoom + gap
    sheet = np.full((len(rows) * tall + gap, columns * wide + gap, 3), BLANK, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            if picture is None:
                continue
            large = np.kron(picture.reshape(*picture.shape[:2], -1), np.ones((zoom, zoom, 1)))
            top, left = i * tall + gap, j * wide + gap
            sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    if path.suffix.lower() != ".png":
        raise OptionError(f"{path}: a sheet of pictures is written as .png")
    with written_aside(path) as aside:
        Image.fromarray(sheet).save(aside, format="PNG")
