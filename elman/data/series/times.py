"""Columns of time stamps, however they are written, as microseconds since 1970."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from elman.errors import DataError, OptionError

Times = NDArray[np.int64]

#: What a column of times is usually called.
TIME_NAMES = (
    "time", "date", "datetime", "timestamp", "ds", "day", "week", "month", "quarter", "year",
    "period", "hour", "t",
)  # fmt: skip
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_CLOCK = (
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r" *(?P<p>[AaPp][Mm])?)? *(?P<z>Z|UTC|[+-]\d{2}:?\d{2})?"
)
_YEAR = r"(?P<y>\d{4})"
_NAME = r"(?P<b>[A-Za-z]{3,9})\.?"
#: The ways to write a time, the first that fits all values of a sample is taken.
FORMATS: dict[str, str] = {
    "year-month-day": _YEAR + r"[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})" + _CLOCK,
    "day.month.year": r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\." + _YEAR + _CLOCK,
    "month/day/year": r"(?P<m>\d{1,2})[/-](?P<d>\d{1,2})[/-]" + _YEAR + _CLOCK,
    "day/month/year": r"(?P<d>\d{1,2})[/-](?P<m>\d{1,2})[/-]" + _YEAR + _CLOCK,
    "month day year": _NAME + r"[ -](?P<d>\d{1,2})(?:st|nd|rd|th)?,?[ -]" + _YEAR + _CLOCK,
    "day month year": r"(?P<d>\d{1,2})(?:st|nd|rd|th)?[ -]" + _NAME + r",?[ -]" + _YEAR + _CLOCK,
    "year-month": _YEAR + r"[-/.](?P<m>\d{1,2})",
    "month year": _NAME + r"[ -]" + _YEAR,
    "month/year": r"(?P<m>\d{1,2})[/.]" + _YEAR,
    "year quarter": _YEAR + r"[- ]?[Qq](?P<q>[1-4])",
    "quarter year": r"[Qq](?P<q>[1-4])[-/ ]?" + _YEAR,
    "yyyymmdd": _YEAR + r"(?P<m>\d{2})(?P<d>\d{2})" + _CLOCK,
    "yyyymm": _YEAR + r"(?P<m>\d{2})",
    "year": r"(?P<y>[12]\d{3})",
}
#: Numbers: microseconds a unit; the digits before the point, of any time from 1973 on.
EPOCHS: dict[str, tuple[float, int, int]] = {
    "epoch seconds": (1e6, 9, 10),
    "epoch milliseconds": (1e3, 12, 13),
    "epoch microseconds": (1.0, 15, 16),
    "epoch nanoseconds": (1e-3, 18, 19),
}
STEPS = "step numbers"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class TimeFormat:
    """How the times of a column are written: one of `FORMATS`, `EPOCHS` or `STEPS`.

    Between points the day stands first, between slashes the month, as in the USA, unless day_first
    or a day above 12 in the sample says otherwise. A time with a zone becomes UTC. Step numbers
    are whole numbers that are no date.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def of(
        cls, sample: Sequence[str], day_first: bool = False, usual: str | None = None
    ) -> "TimeFormat | None":
        """The format that fits all of a sample, the usual one before all others; None where there
        is none."""
        values = [value for value in sample if value]
        if not values:
            return None
        if usual is not None and cls(usual)._fits(values):
            return cls(usual)
        for name in FORMATS:
            if day_first and name == "month/day/year":
                continue
            if cls(name)._fits(values):
                return cls(name)
        if not all(_NUMBER.fullmatch(value) for value in values):
            return None
        digits = {len(value.lstrip("-").partition(".")[0]) for value in values}
        for name, (_, least, most) in EPOCHS.items():
            if min(digits) >= least and max(digits) <= most:
                return cls(name)
        return cls(STEPS) if not any("." in value for value in values) else None

    def _fits(self, values: Sequence[str]) -> bool:
        # A few are enough to rule most formats out.
        return bool(self._read(values[:8])[1].all() and self._read(values)[1].all())

    def __call__(self, values: Sequence[str], where: Sequence[str]) -> Times:
        """The times of a column; DataError for the first that is written otherwise.

        where: the place of each in its file.
        """
        times, good = self._read(values)
        if not good.all():
            first = int(np.argmin(good))
            turned = self.name == "month/day/year" and TimeFormat("day/month/year")._fits(
                [values[first]]
            )
            mend = "; where the day comes first: --day-first" if turned else ""
            raise DataError(
                f"{where[first]}: '{values[first][:40]}' is no time; those before it are written "
                f"as {self.name}{mend}"
            )
        return times

    def _read(self, values: Sequence[str]) -> tuple[Times, NDArray[np.bool_]]:
        """Times, and which of them could be read."""
        if self.name in FORMATS:
            return _from_parts(pc.extract_regex(pa.array(values), f"^{FORMATS[self.name]}$"))
        numbers = np.array(
            [float(v) if _NUMBER.fullmatch(v) else np.nan for v in values], dtype=np.float64
        )
        good = np.isfinite(numbers)
        factor = 1.0 if self.name == STEPS else EPOCHS[self.name][0]
        return np.where(good, np.rint(np.where(good, numbers, 0) * factor), 0).astype(
            np.int64
        ), good


def _from_parts(parts: Any) -> tuple[Times, NDArray[np.bool_]]:
    """What the groups of a format say: y m|b|q d H M S f p z."""
    good = parts.is_valid().to_numpy(zero_copy_only=False)
    names = {field.name for field in parts.type}

    def number(name: str, otherwise: int) -> Times:
        if name not in names:
            return np.full(len(parts), otherwise, dtype=np.int64)
        text = pc.struct_field(parts, name)
        text = pc.if_else(pc.equal(text, ""), str(otherwise), text)
        return pc.fill_null(pc.cast(text, pa.int64()), otherwise).to_numpy(zero_copy_only=False)

    month, day = number("m", 1), number("d", 1)
    if "b" in names:
        month, known = _named(pc.struct_field(parts, "b"))
        good &= known
    if "q" in names:
        month = 3 * number("q", 1) - 2
    good &= (month >= 1) & (month <= 12)
    months = (number("y", 1970) - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = months.astype("datetime64[M]")
    days = first.astype("datetime64[D]").astype(np.int64)
    length = (first + 1).astype("datetime64[D]").astype(np.int64) - days
    good &= (day >= 1) & (day <= length)
    hour, minute, second = number("H", 0), number("M", 0), number("S", 0)
    good &= (hour <= 24) & (minute < 60) & (second <= 60)
    if "p" in names:
        half = pc.utf8_lower(pc.fill_null(pc.struct_field(parts, "p"), "")).to_numpy(
            zero_copy_only=False
        )
        good &= (half == "") | ((hour >= 1) & (hour <= 12))
        hour = np.where(half == "", hour, hour % 12 + 12 * (half == "pm"))
    seconds = ((days + day - 1) * 24 + hour) * 3600 + minute * 60 + second
    return seconds * 1_000_000 + _fraction(parts, names) - _zone(parts, names), good


def _named(text: Any) -> tuple[Times, NDArray[np.bool_]]:
    short = pc.utf8_slice_codeunits(pc.utf8_lower(pc.fill_null(text, "")), 0, 3)
    found = pc.fill_null(pc.index_in(short, pa.array(MONTHS)), -1).to_numpy(zero_copy_only=False)
    return found.astype(np.int64) + 1, found >= 0


def _fraction(parts: Any, names: set[str]) -> Times | int:
    """Microseconds."""
    if "f" not in names:
        return 0
    text = pc.fill_null(pc.struct_field(parts, "f"), "")
    if not pc.any(pc.greater(pc.utf8_length(text), 0)).as_py():
        return 0
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(text, 6, "0"), 0, 6)
    return pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)


def _zone(parts: Any, names: set[str]) -> Times | int:
    """Microseconds that a clock is ahead of UTC."""
    if "z" not in names:
        return 0
    text = pc.fill_null(pc.struct_field(parts, "z"), "")
    kinds = pc.unique(text).to_pylist()
    if all(kind in ("", "Z", "UTC") for kind in kinds):
        return 0
    ahead = {kind: _ahead(kind) for kind in kinds}
    return np.array([ahead[kind] for kind in text.to_pylist()], dtype=np.int64)


def _ahead(zone: str) -> int:
    if zone in ("", "Z", "UTC"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    return (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60_000_000


def time_of(text: str, what: str) -> int:
    """The time that a person wrote for an option; OptionError where it is none."""
    found = TimeFormat.of([text.strip()])
    if found is None:
        raise OptionError(
            f"{what}: '{text}' is no time; write it as 2024-01-31 or 2024-01-31 18:00"
        )
    return int(found([text.strip()], [what])[0])
