"""How far apart the steps of a series are, and where in day, week and year each stands."""

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.typed import typed
from elman.data.series.times import Times
from elman.errors import DataError, OptionError

SECOND = 1_000_000
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86400 * SECOND, 7 * 86400 * SECOND
YEAR = 365.2425 * DAY

#: "span": a fixed time. "month": calendar months. "business day": Monday to Friday. "step": a
#: number that is no time.
UNITS = ("span", "month", "business day", "step")
_SPANS = {"us": 1, "ms": 1000, "s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_MONTHS = {"m": 1, "q": 3, "y": 12}
_NAMES = {
    ("span", SECOND): "every second",
    ("span", MINUTE): "every minute",
    ("span", HOUR): "hourly",
    ("span", DAY): "daily",
    ("span", WEEK): "weekly",
    ("month", 1): "monthly",
    ("month", 3): "quarterly",
    ("month", 12): "yearly",
    ("business day", 1): "on business days",
    ("step", 1): "a row a step",
}
#: The cycles that a calendar has, in microseconds, and the longest step that still sees them.
CYCLES = {"hour": (HOUR, MINUTE), "day": (DAY, HOUR * 12), "week": (WEEK, DAY), "year": (YEAR, 0)}
#: A cycle is told to a model that has seen it so often.
SEEN = 2


@dataclass(frozen=True)
class Frequency:
    """The steps of a grid: every so many of a unit, from an anchor.

        time(i) = anchor + i * every units

    every: microseconds of a "span", months of a "month". anchor: microseconds since 1970, or the
    number of the first step. Months keep the anchor's day, or the month's last.
    """

    unit: str
    every: int
    anchor: int = 0

    def index(self, times: Times) -> Times:
        """The nearest step to each time; in months the one of the same month."""
        if self.unit == "month":
            return np.floor_divide(_month(times) - int(_month(self.anchor)), self.every)
        if self.unit == "business day":
            return np.busday_count(_day(self.anchor), _day(times)).astype(np.int64)
        away = times - self.anchor
        return np.floor_divide(2 * away + self.every, 2 * self.every)

    def times(self, index: Times) -> Times:
        """The times of steps."""
        index = np.asarray(index, dtype=np.int64)
        if self.unit == "month":
            return self._in_months(int(_month(self.anchor)) + index * self.every)
        if self.unit == "business day":
            anchor = _day(self.anchor)
            days = np.busday_offset(anchor, index, roll="forward")
            rest = self.anchor - int(anchor.astype(np.int64)) * DAY
            return days.astype(np.int64) * DAY + rest
        return self.anchor + index * self.every

    def _in_months(self, months: Times) -> Times:
        own = int(_month(self.anchor))
        day = int(_day(self.anchor).astype(np.int64)) - int(_first_day(own))
        begin = _first_day(months)
        last = _first_day(months + 1) - begin - 1
        at_end = day >= 27 and day == int(_first_day(own + 1) - _first_day(own)) - 1
        return (begin + (last if at_end else np.minimum(day, last))) * DAY + self.anchor % DAY

    def from_time(self, anchor: int) -> "Frequency":
        """The same steps from another anchor."""
        return Frequency(self.unit, self.every, anchor)

    @property
    def same(self) -> tuple[str, int]:
        """What two grids of one frequency share."""
        return self.unit, self.every

    @property
    def name(self) -> str:
        """The frequency in words."""
        if (self.unit, self.every) in _NAMES:
            return _NAMES[self.unit, self.every]
        if self.unit == "month":
            return f"every {self.every} months"
        if self.unit != "span":
            return f"every {self.every} {self.unit}s"
        for size, word in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes"), (SECOND, "s")):
            if self.every % size == 0:
                return f"every {self.every // size} {word}"
        return f"every {self.every / SECOND:g} s"

    @property
    def step(self) -> float:
        """Microseconds of a step, on the average; 0 where steps are no times."""
        if self.unit == "step":
            return 0.0
        if self.unit == "business day":
            return DAY * 7 / 5
        return float(self.every) if self.unit == "span" else self.every * YEAR / 12

    @property
    def season(self) -> int:
        """The steps after which things usually come again: a day of hours or minutes, a week of
        days, a year of weeks, months or quarters; 1 where there is nothing of the kind."""
        if self.unit == "month":
            return max(12 // self.every, 1) if 12 % self.every == 0 else 1
        if self.unit == "business day":
            return 5
        if self.unit == "step":
            return 1
        for cycle in (HOUR if self.every < MINUTE else DAY, WEEK, YEAR):
            if cycle / self.every >= 2:
                return round(cycle / self.every)
        return 1

    def cycles(self, steps: int) -> tuple[str, ...]:
        """The cycles of the calendar that steps can show, and so many of them hold `SEEN` times."""
        if self.unit == "step":
            return ()
        exact = DAY if self.unit == "business day" else self.step
        return tuple(
            name
            for name, (length, longest) in CYCLES.items()
            if exact <= (longest or length / 3) and SEEN * length <= self.step * steps
        )

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Frequency":
        """The frequency that `to_json` described."""
        found = typed(cls, value)
        if found.unit not in UNITS or found.every < 1:
            raise ValueError(f"no steps of {found.every} {found.unit}")
        return found


def calendar(times: Times, cycles: tuple[str, ...]) -> NDArray[np.float32]:
    """[..., 2 * cycles]: the sine and the cosine of where each time stands in each cycle.

    Weeks begin on Monday, years on 1 January.
    """
    found = []
    for cycle in cycles:
        angle = 2 * np.pi * _phase(times, cycle)
        found += [np.sin(angle), np.cos(angle)]
    shape = (*times.shape, 0)
    return np.stack(found, axis=-1).astype(np.float32) if found else np.zeros(shape, np.float32)


def _phase(times: Times, cycle: str) -> NDArray[np.float64]:
    if cycle == "year":
        year = times.astype("datetime64[us]").astype("datetime64[Y]")
        begin = year.astype("datetime64[us]").astype(np.int64)
        end = (year + 1).astype("datetime64[us]").astype(np.int64)
        return (times - begin) / (end - begin)
    # 1 January 1970 was a Thursday.
    shift = 3 * DAY if cycle == "week" else 0
    length = int(CYCLES[cycle][0])
    return np.mod(times + shift, length) / length


def inferred(times: Times, steps: bool = False) -> Frequency:
    """The frequency of times that rise: the most common distance between two.

    steps: they are step numbers. Raises DataError where there are not three, or no distance is as
    common as all others together.
    """
    if len(times) < 3:
        raise DataError(
            f"{len(times)} different times do not show how far apart the steps are; name it, as in "
            "--frequency D (or h, 15min, W, M, Q, Y)"
        )
    apart = np.diff(times)
    months = np.diff(_month(times))
    anchor = int(times[0])
    if not steps and months.min() > 0 and _on_one_day(times):
        every = _most_common(months)
        if (months % every == 0).mean() > 0.5:
            return Frequency("month", every, anchor)
    every = _most_common(apart)
    share = float((apart % every == 0).mean())
    if share < 0.5:
        raise DataError(
            f"the times have no regular steps: the most common distance, "
            f"{Frequency('span', every).name}, fits {100 * share:.0f} % of them; name the grid "
            "that they are put on, as in --frequency h --duplicates mean"
        )
    if steps:
        return Frequency("step", every, anchor)
    day = np.is_busday(_day(times))
    if every == DAY and len(times) >= 10 and day.all() and np.all(times % DAY == times[0] % DAY):
        return Frequency("business day", 1, anchor)
    return Frequency("span", every, anchor)


def frequency_named(text: str, anchor: int) -> Frequency:
    """The frequency that a person wrote: 15min, h, D, B, W, M, Q, Y; OptionError for another."""
    match = re.fullmatch(r"(\d*)\s*([A-Za-z]+)", text.strip())
    many, unit = (int(match[1] or 1), match[2]) if match else (0, "")
    if many and unit.lower() in _SPANS and unit != "M":
        return Frequency("span", many * _SPANS[unit.lower()], anchor)
    if many and unit.lower() in _MONTHS:
        return Frequency("month", many * _MONTHS[unit.lower()], anchor)
    if unit.lower() == "b" and many == 1:
        return Frequency("business day", 1, anchor)
    raise OptionError(
        f"frequency '{text}': write s, min, h, D, B (business days), W, M (months), Q or Y, "
        "perhaps with a number before it, as in 15min"
    )


def _most_common(values: Times) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _on_one_day(times: Times) -> bool:
    """Whether all times are on one day of their month, or all on the last."""
    days = _day(times)
    first = days.astype("datetime64[M]")
    of_month = (days - first.astype("datetime64[D]")).astype(np.int64)
    left = ((first + 1).astype("datetime64[D]") - days).astype(np.int64) - 1
    # The 31st of a long month is the 30th of a short one.
    return bool((of_month == of_month[0]).all() or (left == 0).all())


def _month(times: Any) -> Any:
    whole = np.asarray(times, dtype=np.int64)
    return whole.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _first_day(month: Any) -> Any:
    """Days since 1970 of the first of a month."""
    first = np.asarray(month, dtype=np.int64).astype("datetime64[M]")
    return first.astype("datetime64[D]").astype(np.int64)


def _day(times: Any) -> Any:
    return np.asarray(times, dtype=np.int64).astype("datetime64[us]").astype("datetime64[D]")


def written(times: Times, frequency: Frequency) -> list[str]:
    """Times for people and programs, no finer than the steps are."""
    if frequency.unit == "step":
        return [str(t) for t in times.tolist()]
    stamps = times.astype("datetime64[us]")
    if frequency.unit == "month" and frequency.every % 12 == 0 and _first_of(times, "Y"):
        return np.datetime_as_string(stamps, unit="Y").tolist()
    if np.all(times % DAY == 0):
        return np.datetime_as_string(stamps, unit="D").tolist()
    if np.all(times % SECOND == 0):
        stamps = stamps.astype("datetime64[s]")
    return [str(t).replace("T", " ") for t in stamps]


def _first_of(times: Times, unit: str) -> bool:
    stamps = times.astype("datetime64[us]")
    return bool((stamps == stamps.astype(f"datetime64[{unit}]").astype("datetime64[us]")).all())
