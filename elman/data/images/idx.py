"""Arrays in idx files, as MNIST and its sisters come, packed with gzip or not."""

import math
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.lines import opened, unpacked_name
from elman.data.core.reading import reading
from elman.data.text.blocks import BLOCK_BYTES, require_text_file
from elman.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(r"(^|[-._])idx\d?([-._]ubyte)?$", re.IGNORECASE)


def is_idx(file: str | Path) -> bool:
    """Whether a file is one by its name, as in train-images-idx3-ubyte.gz or a.idx."""
    return bool(_NAME.search(unpacked_name(Path(file)).name))


def read_idx(file: str | Path) -> NDArray[Any]:
    """The array of an idx file.

        file = 0 0 type rank | size of each axis, 4 bytes, big-endian | values, big-endian

    Raises DataError where it is no idx file, or not a whole one.
    Source: LeCun, Cortes & Burges, The MNIST database, "the IDX file format".
    """
    path = Path(file)
    require_text_file(path)
    with reading(path, "idx", cure="fetch it again"), opened(path) as source:
        head = source.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not head[3]:
            raise DataError(f"{path}: is no idx file (it begins with {head.hex(' ')})")
        axes = source.read(4 * head[3])
        if len(axes) < 4 * head[3]:
            raise DataError(f"{path}: ends inside its head; fetch it again")
        sizes = np.frombuffer(axes, ">u4").tolist()
        dtype = np.dtype(_DTYPES[head[2]])
        count = dtype.itemsize * math.prod(sizes)
        data = _read(source, count + 1)
        if len(data) != count:
            came = f"more than {count}" if len(data) > count else f"{len(data)}"
            raise DataError(
                f"{path}: {sizes} values take {count} bytes, got {came}; fetch it again"
            )
        values = np.frombuffer(data, dtype).reshape(sizes)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read(source: IO[bytes], count: int) -> bytes:
    """So many bytes or all that there are: never is more memory taken than the file fills."""
    pieces = []
    while count > 0 and (piece := source.read(min(count, BLOCK_BYTES))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_idx_images(file: str | Path) -> NDArray[np.uint8]:
    """Pictures, [N, H, W] or [N, H, W, 1 or 3]; DataError for what an idx file holds else."""
    images = read_idx(file)
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not shaped or 0 in images.shape[1:]:
        raise DataError(
            f"{file}: pictures are bytes [N, H, W] or [N, H, W, 1 or 3], got {images.dtype} "
            f"{list(images.shape)}"
        )
    return images


def read_idx_labels(file: str | Path, count: int) -> list[str]:
    """The labels that belong to a file of ``count`` pictures: those of the file beside it whose
    name has ``labels`` and ``idx1`` in place of ``images`` and ``idx3``.

    Raises DataError where there is no such file, or it holds another number of them.
    """
    path = Path(file)
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    beside = next((p for p in _names(path.with_name(name)) if p.exists() and p != path), None)
    if beside is None:
        raise DataError(f"{path}: the file of its labels, {name}, must stand beside it")
    labels = read_idx(beside)
    if labels.ndim != 1 or len(labels) != count or labels.dtype.kind not in "iu":
        raise DataError(
            f"{beside}: must hold a whole number for each of {count} pictures, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    return [str(label) for label in labels.tolist()]


def _names(path: Path) -> tuple[Path, Path]:
    """The name, and the other one of packed and not."""
    other = unpacked_name(path) if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return path, other
