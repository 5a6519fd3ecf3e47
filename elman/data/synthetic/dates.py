"""Dates, written in many ways, and in the one way of ISO 8601."""

import calendar
import random
from collections.abc import Iterator
from datetime import date, timedelta

#: Ways to write a date that leave no doubt which date it is: between slashes the month comes
#: first, between points the day.
FORMS = (
    "{day} {month} {year}",
    "{day} {short} {year}",
    "{day}{th} {month} {year}",
    "the {day}{th} of {month} {year}",
    "{month} {day}, {year}",
    "{short} {day}, {year}",
    "{month} {day}{th}, {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday}, {month} {day}, {year}",
    "{weekday3} {day} {short} {year}",
    "{number:02}/{day:02}/{year}",
    "{number}/{day}/{year}",
    "{day:02}.{number:02}.{year}",
    "{day}.{number}.{year}",
    "{year}/{number:02}/{day:02}",
    "{year} {month} {day}",
    "{year}-{short}-{day:02}",
    "{day:02}-{short}-{year}",
)
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)


def dates(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs such as ("Tuesday, 3 March 2026", "2026-03-03"), between 1900 and 2099."""
    draw = random.Random(seed)
    for _ in range(count):
        day = FIRST + timedelta(days=draw.randrange((LAST - FIRST).days + 1))
        text = written(day, draw.choice(FORMS))
        yield draw.choice((str, str.lower, str.upper))(text), day.isoformat()


def written(day: date, form: str) -> str:
    """A date in one of the forms."""
    weekday, month = calendar.day_name[day.weekday()], calendar.month_name[day.month]
    return form.format(
        day=day.day, number=day.month, year=day.year, month=month, short=month[:3],
        weekday=weekday, weekday3=weekday[:3], th=_th(day.day),
    )  # fmt: skip


def _th(day: int) -> str:
    return "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
