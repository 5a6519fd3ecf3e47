"""Examples on disk: rows of arrays, numbers and strings in an Arrow file that is mapped."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from elman.data.core.files import written_aside
from elman.data.core.sealed import open_sealed, write_sealed
from elman.errors import DataError, RunError, ShapeError, unknown

Value = NDArray[Any] | int | float | str

#: A record batch ends at whichever comes first: so many rows, or so many bytes.
BATCH_ROWS = 1 << 16
BATCH_BYTES = 1 << 25


class Examples:
    """Examples in a file that is mapped, not read, so that they may be larger than memory.

    ``examples[i]`` gives column -> value; arrays are views of the file and cannot be written to.
    columns: their names.
    """

    def __init__(self, path: Path, reader: Any) -> None:
        self.path = path
        self.columns: tuple[str, ...] = tuple(reader.schema.names)
        self._reader = reader
        self._parts: dict[int, dict[str, _Column]] = {}
        # Where each record batch begins, and the end of the last.
        rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
        self._starts = [0, *np.cumsum(rows, dtype=np.int64).tolist()]

    @classmethod
    def open(cls, path: Path) -> "Examples":
        """The examples that `write_examples` wrote; RunError where they are missing or damaged."""
        reader = open_sealed(path)
        if (reader.schema.metadata or {}).get(b"elman") != b"examples":
            raise RunError(f"{path}: holds no examples that elman wrote")
        return cls(path, reader)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> dict[str, Value]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        index %= len(self)
        part = bisect_right(self._starts, index) - 1
        row = index - self._starts[part]
        return {name: column[row] for name, column in self._part(part).items()}

    def __iter__(self) -> Iterator[dict[str, Value]]:
        return (self[i] for i in range(len(self)))

    def sizes(self, column: str) -> NDArray[np.int64]:
        """[N] the length T of a column's array in each example."""
        if column not in self.columns:
            raise unknown("column", column, self.columns)
        return np.concatenate([part[column].sizes() for part in self._all_parts()])

    def numbers(self, column: str) -> NDArray[Any]:
        """[N] a column's number in each example."""
        if column not in self.columns:
            raise unknown("column", column, self.columns)
        return np.concatenate([part[column].numbers() for part in self._all_parts()])

    def _all_parts(self) -> Iterator[dict[str, "_Column"]]:
        return (self._part(i) for i in range(len(self._starts) - 1))

    def _part(self, index: int) -> dict[str, "_Column"]:
        if index not in self._parts:
            try:
                batch = self._reader.get_batch(index)
                # Offsets and strings that are damaged would lead out of the file.
                batch.validate(full=True)
            except (pa.ArrowException, OSError) as error:
                raise RunError(f"{self.path}: damaged ({error}); train anew") from error
            columns = zip(self.columns, batch.columns, strict=True)
            self._parts[index] = {name: _Column(name, array) for name, array in columns}
        return self._parts[index]


class _Column:
    """One column of a record batch, as NumPy sees it without a copy."""

    def __init__(self, name: str, array: Any) -> None:
        self.name = name
        self.array = array
        self.offsets: NDArray[np.int32] | None = None
        self.values: NDArray[Any] | None = None
        if pa.types.is_list(array.type):
            self.offsets = array.offsets.to_numpy()
            inner = array.values
            if pa.types.is_fixed_size_list(inner.type):
                self.values = inner.values.to_numpy().reshape(len(inner), inner.type.list_size)
            else:
                self.values = inner.to_numpy()
        elif pa.types.is_fixed_size_list(array.type):
            shape, inner = [len(array)], array
            while pa.types.is_fixed_size_list(inner.type):
                shape.append(inner.type.list_size)
                inner = inner.values
            self.values = inner.to_numpy().reshape(shape)
        elif not pa.types.is_string(array.type):
            self.values = array.to_numpy()

    def __getitem__(self, row: int) -> Value:
        if self.values is None:
            return str(self.array[row].as_py())
        if self.offsets is None:
            value = self.values[row]
            return value if self.values.ndim > 1 else value.item()
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def sizes(self) -> NDArray[np.int64]:
        if self.offsets is None:
            raise ShapeError(f"column '{self.name}' holds no arrays, so its rows have no length")
        return np.diff(self.offsets).astype(np.int64)

    def numbers(self) -> NDArray[Any]:
        if self.offsets is not None or self.values is None or self.values.ndim > 1:
            raise ShapeError(f"column '{self.name}' does not hold one number in each row")
        return self.values


def write_examples(path: Path, rows: Iterable[Mapping[str, Value]]) -> Examples:
    """Write examples to an Arrow IPC file, whole or not at all, holding few of them in memory.

    A column is [T] whole numbers, [T] or [T, F] float32, [H, W, C] uint8 (a picture), one whole
    number, one number or one string; it is the same in all rows but for T, which may be 0.

    Raises DataError where there is no row, and ShapeError where one is not as the first.
    """
    stream = iter(rows)
    first = next(stream, None)
    if first is None:
        raise DataError(f"{path}: there is no example to write: the data hold none that is whole")
    types = {name: _type(name, value) for name, value in first.items()}
    schema = pa.schema(list(types.items()), metadata={"elman": "examples"})
    with written_aside(path) as aside:
        parts = _parts(chain([first], stream))
        write_sealed(aside, schema, (_record_batch(begin, part, schema) for begin, part in parts))
    return Examples.open(path)


def _parts(
    rows: Iterable[Mapping[str, Value]],
) -> Iterator[tuple[int, list[Mapping[str, Value]]]]:
    """The rows in lists of a few megabytes, and the index of each list's first."""
    held: list[Mapping[str, Value]] = []
    begin = size = 0
    for row in rows:
        held.append(row)
        size += sum(_bytes(value) for value in row.values())
        if len(held) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield begin, held
            begin, size, held = begin + len(held), 0, []
    if held:
        yield begin, held


def _bytes(value: Value) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    # At most four bytes a character in UTF-8.
    return 4 * len(value) if isinstance(value, str) else 8


def _type(name: str, value: Value) -> Any:
    """The Arrow type of a column; ShapeError where there is none."""
    if isinstance(value, np.ndarray):
        if value.ndim == 1 and (value.dtype.kind in "iu" or value.dtype == np.float32):
            return pa.list_(pa.from_numpy_dtype(value.dtype))
        if value.ndim == 2 and value.shape[1] > 0 and value.dtype == np.float32:
            return pa.list_(pa.list_(pa.float32(), value.shape[1]))
        if value.ndim == 3 and value.size and value.dtype == np.uint8:
            return _fixed(pa.uint8(), value.shape)
        raise ShapeError(
            f"column '{name}' must be [T] whole numbers, [T] or [T, F] float32, or [H, W, C] "
            f"uint8, got {value.dtype} {list(value.shape)}"
        )
    for kind, found in ((str, pa.string()), (int, pa.int64()), (float, pa.float64())):
        if isinstance(value, kind) and not isinstance(value, bool):
            return found
    raise ShapeError(f"column '{name}' must be an array, a number or a string, got {value!r}")


def _fixed(kind: Any, shape: Sequence[int]) -> Any:
    """The type of an array of one shape."""
    for size in reversed(shape):
        kind = pa.list_(kind, size)
    return kind


def _record_batch(begin: int, rows: Sequence[Mapping[str, Value]], schema: Any) -> Any:
    names = set(schema.names)
    for i, row in enumerate(rows):
        if row.keys() != names:
            raise ShapeError(
                f"example {begin + i}: must have the columns {', '.join(schema.names)}, got "
                f"{', '.join(row)}"
            )
    columns = ([row[field.name] for row in rows] for field in schema)
    arrays = [
        _array(_checked(begin, field, values), field.type)
        for field, values in zip(schema, columns, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def _checked(begin: int, field: Any, values: list[Any]) -> list[Any]:
    """The values, all of the field's type; its kinds are few, so each is looked at once."""
    known: set[Any] = set()
    for i, value in enumerate(values):
        is_array = isinstance(value, np.ndarray)
        kind = _kind(value) if is_array else type(value)
        if kind in known:
            continue
        found = _type(field.name, value)
        if found != field.type:
            raise ShapeError(
                f"example {begin + i}: column '{field.name}' must be {field.type} as in the "
                f"first example, got {found}"
            )
        known.add(kind)
    return values


def _kind(value: NDArray[Any]) -> Any:
    """What arrays of one type have in common: all but T."""
    return value.dtype, value.shape if value.ndim > 2 else value.shape[1:], value.ndim


def _array(values: list[Any], kind: Any) -> Any:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.stack(values).reshape(-1))
        for size in reversed(values[0].shape):
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
        return flat
    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    joined = np.concatenate(values)
    flat = pa.array(joined.reshape(-1))
    if pa.types.is_fixed_size_list(kind.value_type):
        flat = pa.FixedSizeListArray.from_arrays(flat, kind.value_type.list_size)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
