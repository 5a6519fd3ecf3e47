"""NumPy's files: .npy, mapped, and .npz; nothing in them is unpickled.

No more is ever allocated than a file holds: its head is compared with its size before.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.data.text.blocks import require_text_file
from elman.errors import RunError

#: How members of a .npz may be packed: others unpack a kilobyte to gigabytes.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def npz_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by their names in lower case; DataError where some are pickles."""
    require_text_file(file)
    cure = "np.savez(file, x=x) writes it"
    with reading(file, ".npz of plain arrays", cure=cure), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        odd = next((m.filename for m in members if m.compress_type not in PACKED), None)
        if odd is not None:
            raise ValueError(f"'{odd}' is packed as np.savez does not pack")
        return {_name(member): _array(archive.read(member)) for member in members}


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy").lower()


def _array(data: bytes) -> NDArray[Any]:
    source = io.BytesIO(data)
    shape, fortran, dtype = _head(source)
    values = np.frombuffer(data, dtype, math.prod(shape), source.tell())
    if dtype.kind == "U" and dtype.itemsize:
        _require_characters(values.view(f"{dtype.byteorder}u4"))
    return values.reshape(shape, order="F" if fortran else "C")


def _require_characters(codes: NDArray[np.uint32]) -> None:
    """Raise ValueError for code points that no text can hold: making one of them ends badly."""
    if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
        raise ValueError("a text in it holds what is no character")


def mapped_npy(path: Path) -> NDArray[Any]:
    """The array in a .npy file of a run, mapped; RunError where it is missing or damaged."""
    if not path.is_file():
        raise RunError(f"{path}: no such file; {RESTORE}")
    with reading(path, ".npy", error=RunError, cure=RESTORE):
        with path.open("rb") as source:
            shape, _, dtype = _head(source)
            wanted, size = source.tell() + math.prod(shape) * dtype.itemsize, path.stat().st_size
        if wanted != size:
            raise ValueError(f"{list(shape)} {dtype} take {wanted} bytes, got {size}")
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _head(source: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, type. Source: NEP 1, the .npy format."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(source)
    if version not in read:
        raise ValueError(f"version {version} of .npy is not known")
    shape, fortran, dtype = read[version](source)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only a pickle can hold")
    if dtype.names or dtype.subdtype:
        raise ValueError("it holds records, not numbers or texts")
    if not all(size >= 0 for size in shape):
        raise ValueError(f"a shape of {list(shape)}")
    return shape, fortran, dtype
