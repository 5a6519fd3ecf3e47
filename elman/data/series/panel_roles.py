"""Which column of a table of series is what: by their names and the first rows."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from elman.data.core.records import SkipLog
from elman.data.core.typed import typed
from elman.data.series.labelled import NO_NUMBER
from elman.data.series.times import EPOCHS, STEPS, TIME_NAMES, TimeFormat
from elman.data.tables.table import Table
from elman.errors import DataError, OptionError

#: What the column that tells series apart is usually called.
SERIES_NAMES = (
    "series", "series_id", "unique_id", "item_id", "item", "id", "symbol", "ticker", "station",
    "sensor", "name", "key", "group", "entity", "store", "country", "region",
)  # fmt: skip
#: Columns of these names are times, or it is an error.
CERTAIN = ("time", "date", "datetime", "timestamp")
#: The squares of what is read are summed up.
LARGEST = 1e100
#: Rows that are looked at before it is decided what the columns are.
SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are.

    time: None where the rows are the steps. series: None where a table is wide. targets: what is
    forecast. future_covariates: their future is known. past_covariates: their past alone is.
    ignored: what is not read. time_format: see `TimeFormat`. comma: whether decimals follow one.
    """

    time: str | None
    series: str | None
    targets: tuple[str, ...]
    future_covariates: tuple[str, ...] = ()
    past_covariates: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    time_format: str = STEPS
    comma: bool = False

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers, targets first."""
        return (*self.targets, *self.future_covariates, *self.past_covariates)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Roles":
        """The roles that `to_json` described."""
        return typed(cls, value)


@dataclass(frozen=True)
class Named:
    """The columns that a person named; None and () for what is to be found out."""

    time: str | None = None
    series: str | None = None
    targets: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    past_covariates: tuple[str, ...] = ()
    day_first: bool = False


def texts(values: Sequence[Any]) -> list[str]:
    """A column as texts without blanks around; "" for what is not there."""
    return ["" if value is None else str(value).strip() for value in values]


def numbers(
    values: Sequence[Any], name: str, where: Sequence[str], comma: bool = False
) -> NDArray[np.float64]:
    """A column as numbers, NaN for what is missing; DataError for the first that is neither."""
    if not all(isinstance(value, str) for value in values):
        values = ["" if value is None else str(value) for value in values]
    text = pc.utf8_trim_whitespace(pa.array(values, pa.string()))
    if comma:
        text = pc.replace_substring(text, ",", ".")
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(NO_NUMBER))
    try:
        found = pc.cast(pc.if_else(missing, None, text), pa.float64())
    except pa.ArrowInvalid as error:
        bad = next(i for i, value in enumerate(text.to_pylist()) if not _is_number(value))
        raise DataError(
            f"{where[bad]}: '{name}' must be a number, got {str(values[bad])[:40]!r}; name the "
            "columns that are forecast (--target), and the one that tells series apart, if there "
            "is one (--series-column)"
        ) from error
    array: NDArray[np.float64] = found.to_numpy(zero_copy_only=False).astype(np.float64)
    far = np.abs(array) > LARGEST  # NaN is not
    if far.any():
        bad = int(far.argmax())
        raise DataError(f"{where[bad]}: '{name}' is {array[bad]:g}, beyond 1e100: mend it")
    return array


def _is_number(value: str) -> bool:
    if value.lower() in NO_NUMBER:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return "_" not in value


def find_roles(table: Table, named: Named) -> Roles:
    """What the columns of a table are, by their names and its first rows.

    Raises DataError where that cannot be told; it says which option tells it.
    """
    first = list(islice(table.values(SkipLog()), SAMPLE_ROWS))
    if not first:
        raise DataError(f"{table.file}: holds no rows")
    where, rows = zip(*first, strict=True)
    sample = dict(zip(table.columns, (texts(c) for c in zip(*rows, strict=True)), strict=True))
    said = [n for n in (named.time, named.series) if n]
    future, past = named.future_covariates, named.past_covariates
    covariates = (*future, *past)
    table.require([*said, *named.targets, *covariates])
    chosen: set[str | None] = {*said, *named.targets, *covariates}
    time, form = _time_column(table, sample, where, named, chosen - {named.time})
    comma = table.delimiter != "," and any(
        re.fullmatch(r"-?\d+,\d+", value) for column in sample.values() for value in column
    )
    rest = [c for c in table.columns if c != time]
    of_text = [c for c in rest if _is_text([_pointed(value, comma) for value in sample[c]])]
    series = _series_column(sample, named, rest, of_text)
    targets = named.targets or tuple(
        c for c in rest if c != series and c not in of_text and c not in covariates
    )
    odd = [c for c in of_text if c != series and (not named.targets or c in chosen)]
    if odd:
        wrong = next(v for v in sample[odd[0]] if not _is_number(_pointed(v, comma)))
        raise DataError(
            f"{table.file}: column '{odd[0]}' holds {wrong[:40]!r}, which is no number"
            + ("" if time else " and no time that elman knows")
            + "; name the columns that are forecast (--target), the time (--time-column), and the "
            "one that tells series apart, if there is one (--series-column)"
        )
    if not targets:
        raise DataError(
            f"{table.file}: has no column of numbers to forecast; it has {', '.join(table.columns)}"
        )
    twice = set(targets) & {*covariates, time, series} or set(future) & set(past)
    if twice:
        raise OptionError(f"column '{sorted(map(str, twice))[0]}' cannot be two things at once")
    read = {time, series, *targets, *covariates}
    ignored = tuple(c for c in table.columns if c not in read)
    name = STEPS if form is None else form.name
    return Roles(time, series, targets, future, past, ignored, name, comma)


def _time_column(
    table: Table,
    sample: dict[str, list[str]],
    where: Sequence[str],
    named: Named,
    taken: set[str | None],
) -> tuple[str | None, TimeFormat | None]:
    """The column of times and how they are written; None where the rows are the steps."""
    if named.time is not None:
        return named.time, _format(table, named.time, sample[named.time], where, named.day_first)
    free = [c for c in table.columns if c not in taken]
    by_name = {c.lower(): c for c in reversed(free)}
    for name in TIME_NAMES:
        column = by_name.get(name)
        if column is not None and (form := TimeFormat.of(sample[column], named.day_first)):
            return column, form
        if column is not None and name in CERTAIN:
            return column, _format(table, column, sample[column], where, named.day_first)
    for column in free:
        form = TimeFormat.of(sample[column], named.day_first)
        if form is None or form.name == STEPS:
            continue
        # Numbers may look like years: they are times where they rise in the first column.
        plain = all(value.replace(".", "").isdigit() for value in sample[column] if value)
        if plain or form.name in EPOCHS:
            times = form([v for v in sample[column] if v], [""] * len(sample[column]))
            if column != table.columns[0] or np.any(np.diff(times) <= 0):
                continue
        return column, form
    return None, None


def _format(
    table: Table, column: str, sample: list[str], where: Sequence[str], day_first: bool
) -> TimeFormat:
    """How a column that must be one of times is written; DataError for the first that is none."""
    form = TimeFormat.of(sample, day_first)
    if form is not None:
        return form
    there = [(value, at) for value, at in zip(sample, where, strict=True) if value]
    first = TimeFormat.of([value for value, _ in there[:1]], day_first)
    if first is not None:
        first([value for value, _ in there], [at for _, at in there])
    raise DataError(
        f"{table.file}: column '{column}' is no time: '{there[0][0][:40] if there else ''}'; write "
        "times as 2024-01-31 18:00, or name the column that holds them: --time-column"
    )


def _series_column(
    sample: dict[str, list[str]], named: Named, rest: list[str], of_text: list[str]
) -> str | None:
    if named.series is not None:
        return named.series
    taken = {*named.targets, *named.future_covariates, *named.past_covariates}
    by_name = {c.lower(): c for c in reversed(rest) if c not in taken}
    for name in SERIES_NAMES:
        column = by_name.get(name)
        # What differs in each row is the number of the row.
        if column is not None and len(set(sample[column])) < max(len(sample[column]), 2):
            return column
    free = [c for c in of_text if c not in taken]
    return free[0] if len(free) == 1 and not named.targets else None


def _is_text(values: Sequence[str]) -> bool:
    """Whether most of what stands in a column is no number."""
    there = [value for value in values if value.lower() not in NO_NUMBER]
    return sum(not _is_number(value) for value in there) > len(there) / 2


def _pointed(value: str, comma: bool) -> str:
    return value.replace(",", ".") if comma else value
