"""Files of numeric series: sktime's .ts and NumPy's .npz."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.arrays import npz_arrays
from elman.data.core.lines import read_lines
from elman.data.core.records import SkipLog
from elman.errors import DataError

#: values [T, F], label, where
RawSeries = tuple[NDArray[np.float32], str, str]


def as_float32(values: Any) -> NDArray[np.float32]:
    """The values in float32; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def read_ts(
    file: Path, encoding: str, skipped: SkipLog, labelled: bool = True
) -> Iterator[RawSeries]:
    """The series of a .ts file: channels apart by ``:``, values by ``,``, the label last.

    Lengths may differ from series to series; ``?`` is a missing value, NaN.
    labelled: False takes files that have no labels too.
    Raises DataError. Source: https://www.sktime.net, the .ts file format.
    """
    keys: dict[str, list[str]] = {}
    reading = False
    for number, line in enumerate(read_lines(file, encoding), 1):
        where, text = f"{file}: line {number}", line.strip()
        if text.startswith("#"):
            continue
        if not text:
            if reading:
                skipped.add("empty line", where)
        elif reading:
            yield _ts_series(where, text, keys)
        elif text.startswith("@"):
            words = text[1:].split()
            if not words:
                raise DataError(f"{where}: is a key (@) without a name")
            key, *values = words
            keys[key.lower()] = values
            if reading := key.lower() == "data":
                _require_readable(file, keys, labelled)
        else:
            raise DataError(
                f"{where}: is neither a comment (#) nor a key (@), and stands before @data"
            )
    if not reading:
        raise DataError(f"{file}: has no @data line, so it holds no series; is it a .ts file?")


def _require_readable(file: Path, keys: dict[str, list[str]], labelled: bool) -> None:
    if keys.get("timestamps", ["false"])[0].lower() == "true":
        raise DataError(f"{file}: has time stamps (@timeStamps true); write plain values")
    if labelled and not _has_labels(keys):
        raise DataError(f"{file}: has no labels (neither @classLabel nor @targetLabel is true)")


def _has_labels(keys: dict[str, list[str]]) -> bool:
    return any(_is_true(keys, key) for key in ("classlabel", "targetlabel"))


def _is_true(keys: dict[str, list[str]], key: str) -> bool:
    return bool(keys.get(key)) and keys[key][0].lower() == "true"


def _ts_series(where: str, text: str, keys: dict[str, list[str]]) -> RawSeries:
    *channels, label = text.split(":") if _has_labels(keys) else [*text.split(":"), ""]
    label = label.strip()
    names = keys.get("classlabel", [])[1:]
    if _has_labels(keys) and (not channels or not label or (names and label not in names)):
        expected = f"one of {', '.join(names)}" if names else "a label"
        raise DataError(f"{where}: must end in :label, {expected}, got {label[:40]!r}")
    declared = keys.get("dimensions") or (["1"] if _is_true(keys, "univariate") else [])
    if declared and declared[0] != str(len(channels)):
        raise DataError(f"{where}: has {len(channels)} channels, @dimensions says {declared[0]}")
    rows = [_numbers(where, channel) for channel in channels]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{where}: channel {number} has {len(row)} values, channel 1 has {len(rows[0])}; "
                "a series' channels must be equally long"
            )
    return as_float32(rows).T, label, where


def _numbers(where: str, text: str) -> list[float]:
    if not text.strip():
        return []
    try:
        return [float("nan") if v.strip() == "?" else float(v) for v in text.split(",")]
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def read_npz(file: Path, labelled: bool = True, vectors: bool = False) -> Iterator[RawSeries]:
    """The series of a .npz file: x [N, T] or [N, T, F], y [N], perhaps lengths [N].

    vectors: y is numbers [N] or [N, D], and a label the numbers of a row with spaces between.

    labelled: False needs no y, and labels are "" where there is none.
    Arrays of Python objects are not read: they would be run, not read.
    Raises DataError.
    """
    x, y, lengths = _arrays(file, labelled, vectors)
    for i in range(len(x)):
        values = as_float32(x[i, : lengths[i]])
        yield values if values.ndim == 2 else values[:, None], _label(y[i]), f"{file}: series {i}"


def _arrays(
    file: Path, labelled: bool, vectors: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    arrays = npz_arrays(file)
    for name in ("x", "y") if labelled else ("x",):
        if name not in arrays:
            raise DataError(
                f"{file}: has no array '{name}', it has {', '.join(arrays) or 'none'}; "
                "np.savez(file, x=x, y=y) writes it"
            )
    x = arrays["x"]
    y = arrays.get("y", np.full(len(x), ""))
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiub":
        raise DataError(f"{file}: x must be numbers [N, T] or [N, T, F], got {_kind(x)}")
    lengths = arrays.get("lengths", np.full(len(x), x.shape[1]))
    if y.shape != x.shape[:1] and not (vectors and y.ndim == 2 and len(y) == len(x)):
        wanted = f" or [{len(x)}, D]" if vectors else ""
        raise DataError(f"{file}: y must be [N] = [{len(x)}]{wanted}, got {_kind(y)}")
    if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{file}: lengths must be whole numbers [N] = [{len(x)}], got {_kind(lengths)}"
        )
    if len(x) and not 0 <= lengths.min() <= lengths.max() <= x.shape[1]:
        raise DataError(
            f"{file}: lengths must lie in 0 ... T = {x.shape[1]}, got {lengths.min()} ... "
            f"{lengths.max()}"
        )
    return x, y, lengths


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _label(value: Any) -> str:
    if value.ndim:
        return " ".join(map(_label, value))
    value = value.item()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
