"""MATLAB's files, of versions 5 to 7: arrays of numbers, and cells of them.

Read here and not by a library, as the one that reads them ends the process at damaged ones.
"""

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.reading import reading

#: Types of numbers by their codes; an array may be kept in a smaller type than it has.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_STORED |= {12: "i8", 13: "u8"}
_MATRIX, _PACKED = 14, 15
#: Classes of arrays by their codes: cells; double, single and the whole numbers; and a flag.
_CELL, _NUMERIC, _COMPLEX = 1, range(6, 16), 0x800

Element = tuple[int, memoryview]


def mat_arrays(file: Path) -> dict[str, list[NDArray[Any]]]:
    """The variables of a .mat file: of cells each, row by row; of another array that alone.

    What holds no numbers, as text, is there as a text that says so.

        file    = 128 bytes, the last of them 0x0100 and IM or MI, elements
        element = type, bytes, 4 each; data, to a multiple of 8; or both in one, 2 each, and 4 bytes
        matrix  = flags, sizes, name, numbers in Fortran's order or a matrix a cell

    Raises DataError. Source: MAT-File Format, The MathWorks.
    """
    with reading(file, ".mat of version 5 to 7", cure="save it with save(..., '-v7')"):
        data = file.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
        if order is None or struct.unpack(f"{order}H", data[124:126])[0] != 0x0100:
            raise ValueError("its head is another")
        found: dict[str, list[NDArray[Any]]] = {}
        for element in _elements(memoryview(data)[128:], order):
            kind, content = _unpacked(element, order)
            if kind == _MATRIX:
                name, arrays = _matrix(content, order)
                found[name] = arrays
        return found


def _unpacked(element: Element, order: str) -> Element:
    kind, content = element
    if kind != _PACKED:
        return element
    [inner] = _elements(memoryview(zlib.decompress(content)), order)
    return inner


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        begin, end = at + 8, at + 8 + size
        at = end if kind == _PACKED else end + -size % 8
        if small := kind >> 16:
            kind &= 0xFFFF
            begin, end, at = begin - 4, begin - 4 + small, begin
        if end > len(data) or small > 4:
            raise ValueError("it ends inside an element")
        yield kind, data[begin:end]


def _matrix(content: memoryview, order: str) -> tuple[str, list[NDArray[Any]]]:
    parts = _elements(content, order)
    flags = int(_numbers(next(parts), order)[0])
    sizes = [int(size) for size in _numbers(next(parts), order)]
    name = bytes(next(parts)[1]).decode("ascii")
    count, kind = prod(sizes), flags & 0xFF
    if kind == _CELL:
        cells = [_cell(part, order) for part in parts]
        if len(cells) != count:
            raise ValueError(f"{name} has {len(cells)} cells, not {sizes}")
        by_row = np.arange(count).reshape(sizes, order="F").ravel()
        return name, [cells[i] for i in by_row.tolist()]
    if kind not in _NUMERIC:
        return name, [np.array("no numbers")]
    if flags & _COMPLEX:
        raise ValueError(f"{name} is complex")
    values = _numbers(next(parts), order)
    if min(sizes, default=0) < 0 or len(values) != count:
        raise ValueError(f"{name} has {len(values)} values, not {sizes}")
    native = values.astype(values.dtype.newbyteorder("="))
    return name, [native.reshape(sizes, order="F")]


def _cell(part: Element, order: str) -> NDArray[Any]:
    kind, content = part
    if kind != _MATRIX:
        raise ValueError(f"a cell holds an element of type {kind}")
    if not content:
        return np.zeros((0, 0))
    arrays = _matrix(content, order)[1]
    return arrays[0] if len(arrays) == 1 else np.array("several cells")


def _numbers(part: Element, order: str) -> NDArray[Any]:
    kind, content = part
    if kind not in _STORED:
        raise ValueError(f"numbers are of the unknown type {kind}")
    return np.frombuffer(content, order + _STORED[kind])
