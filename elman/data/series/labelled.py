"""Series of numbers with a label: sktime's .ts, NumPy's .npz, tables of numbers, pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from elman.data.core.lines import unpacked_name
from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.picture_series import picture_series
from elman.data.images.pictures import PictureOptions, is_pictures
from elman.data.series.series_files import RawSeries, as_float32, read_npz, read_ts
from elman.data.tables.rows import Row
from elman.data.tables.table import SUFFIXES, Table, TableOptions, is_table
from elman.data.text.blocks import require_text_file
from elman.data.text.labelled import LABEL_NAMES, label_of
from elman.errors import DataError, OptionError, require_positive, unknown

MISSING = ("carry", "zero")
NO_NUMBER = ("", "?", "na", "nan", "null", "none")


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """One series, values [T, F] float32, its label, and where it stands."""

    values: NDArray[np.float32]
    label: str
    where: str


def labelled_series(
    files: Sequence[str | Path],
    *,
    label_column: str | None = None,
    step_size: int | None = None,
    missing: str | None = None,
    labelled: bool = True,
    permute: int | None = None,
    images: PictureOptions | None = None,
    vectors: bool = False,
    **options: Unpack[TableOptions],
) -> RecordSource[LabelledSeries]:
    """Series with labels, T steps of F values each; T may differ, F may not.

    .ts: as sktime writes it. .npz: x [N, T] or [N, T, F], y [N], perhaps lengths [N].
    Tables: each row is one series, all columns but the label's are numbers, or one other column
    is a list of numbers or of steps; step_size numbers in a row make a step, 1 where not given.
    Pictures: see `elman.data.images.picture_series`, which permute and images are for; a step is a
    row of the picture where step_size is not given.
    The label's column is found by its usual names; without a header it is the last.
    vectors: labels are vectors: y of a .npz is [N, D], written out as text.
    labelled: False needs no labels; where a column is named as one, or has its usual name, it is
    no value all the same, and all labels are "".
    missing: what takes the place of a missing value (empty, ?, nan): "carry", the value of the
    step before, 0 at the start; "zero". Steps at the end that miss all values are cut off. Both
    are counted, and so are series without a step, which are skipped.

    options: see `elman.data.tables.table.TableOptions`.

    Raises OptionError, and DataError for a missing value where `missing` is not given.
    """
    if missing is not None and missing not in MISSING:
        raise unknown("rule for missing values", missing, MISSING)
    paths = [Path(file) for file in files]
    if not paths:
        raise DataError("no file is given to read series from")
    if step_size is not None:
        require_positive(step_size=step_size)
        if not any(is_table(path) or is_pictures(path) for path in paths):
            raise OptionError(
                f"step_size is for tables of numbers and for pictures; {paths[0]} has steps already"
            )
    with_pictures = [is_pictures(path) for path in paths]
    if any(with_pictures) and not all(with_pictures):
        other = paths[with_pictures.index(False)]
        raise DataError(f"{other}: holds no pictures, and others do; give files of one kind")
    if permute is not None and not any(with_pictures):
        raise OptionError(f"permute is for pictures, and {paths[0]} holds none")
    if all(with_pictures):
        sources = [picture_series(paths, labelled, step_size, permute, images)]
    else:
        size = step_size or 1
        sources = [_opened(path, label_column, size, labelled, vectors, options) for path in paths]

    def read(skipped: SkipLog) -> Iterator[LabelledSeries]:
        size = None
        for found, label, where in chain.from_iterable(source(skipped) for source in sources):
            if len(found) and size is None:
                size = found.shape[1]
            if len(found) and found.shape[1] != size:
                raise DataError(f"{where}: has {found.shape[1]} values a step, the first {size}")
            values = _mended(found, missing, where, skipped)
            if not len(values):
                skipped.add("series without a step", where)
            elif labelled and not label:
                skipped.add("series without label", where)
            else:
                yield LabelledSeries(values, label if labelled else "", where)

    return RecordSource(", ".join(map(str, paths)), read)


def _opened(
    path: Path,
    label_column: str | None,
    step_size: int,
    labelled: bool,
    vectors: bool,
    options: TableOptions,
) -> Callable[[SkipLog], Iterator[RawSeries]]:
    suffix = unpacked_name(path).suffix.lower()
    if suffix == ".ts":
        require_text_file(path)
        return lambda skipped: read_ts(path, options.get("encoding", "utf-8"), skipped, labelled)
    if suffix == ".npz":
        require_text_file(path)
        return lambda skipped: read_npz(path, labelled, vectors)
    if not is_table(path):
        raise DataError(f"{path}: series are read from .ts, .npz, {', '.join(SUFFIXES)}, pictures")
    table = Table(path, **options)
    last = table.columns[-1] if label_column is None and not table.header else label_column
    named = label_column is not None or {c.lower() for c in table.columns} & set(LABEL_NAMES)
    label = table.find("label", LABEL_NAMES, last) if labelled or named else None
    return lambda skipped: _of_table(table, label, step_size, skipped)


def _of_table(
    table: Table, label: str | None, step_size: int, skipped: SkipLog
) -> Iterator[RawSeries]:
    for row in table.rows(skipped):
        name = "" if label is None else label_of(row, label)
        values = _series_of(row, [column for column in row.values if column != label])
        if values.ndim == 1:
            if len(values) % step_size:
                raise DataError(
                    f"{row.where}: {len(values)} values make no whole number of steps of "
                    f"{step_size}; --step-size must divide {len(values)}"
                )
            values = values.reshape(-1, step_size)
        yield values, name, row.where


def _series_of(row: Row, columns: Sequence[str]) -> NDArray[np.float32]:
    """[T * step_size] numbers of a row, or [T, F] where a cell holds a list of steps."""
    whole = row.values[columns[0]] if len(columns) == 1 else None
    if isinstance(whole, list):
        try:
            values = as_float32(whole)
        except (ValueError, TypeError) as error:
            raise DataError(f"{row.where}: '{columns[0]}' is no list of steps: {error}") from error
        if values.ndim > 2:
            raise DataError(f"{row.where}: '{columns[0]}' must be [T] or [T, F]")
        return values
    return as_float32([_number(row, column) for column in columns])


def _number(row: Row, column: str) -> float:
    value = row.values[column]
    if value is None or (isinstance(value, str) and value.strip().lower() in NO_NUMBER):
        return float("nan")
    try:
        return float(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{row.where}: '{column}' must be a number, got {str(value)[:40]!r}; all columns but "
            "the label's are values of the series (--label-column)"
        ) from error


def _mended(
    values: NDArray[np.float32], missing: str | None, where: str, skipped: SkipLog
) -> NDArray[np.float32]:
    """[T, F] without NaN; see `labelled_series`."""
    gaps = np.isnan(values)
    if gaps.any():
        steps = 0 if gaps.all() else int(np.flatnonzero(~gaps)[-1]) // values.shape[1] + 1
        if steps < len(values):
            skipped.add("series cut where only missing values follow", where)
        values, gaps = values[:steps], gaps[:steps]
    if gaps.any():
        if missing is None:
            step, channel = np.argwhere(gaps)[0]
            raise DataError(
                f"{where}: a value is missing (step {step}, channel {channel}); say what takes "
                "its place: --missing carry (the step before) or --missing zero"
            )
        skipped.add(f"missing value filled ({missing})", where, int(gaps.sum()))
        values = _carried(values, gaps) if missing == "carry" else np.where(gaps, 0, values)
    if np.isinf(values).any():
        step, channel = np.argwhere(np.isinf(values))[0]
        raise DataError(
            f"{where}: a value is infinite in float32 (step {step}, channel {channel}); scale it"
        )
    return values


def _carried(values: NDArray[np.float32], gaps: NDArray[np.bool_]) -> NDArray[np.float32]:
    steps = np.where(gaps, 0, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(steps, axis=0)
    carried = np.take_along_axis(values, last, axis=0)
    return np.where(np.isnan(carried), 0, carried)
