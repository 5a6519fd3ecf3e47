import numpy as np
import pytest

from elman.data.series.frequency import Frequency, calendar, frequency_named, inferred, written
from elman.data.series.times import FORMATS, TimeFormat
from elman.errors import DataError, OptionError


def stamps(times):
    return np.array(times, dtype="datetime64[us]").astype(np.int64)


@pytest.mark.parametrize(
    ("texts", "name", "times"),
    [
        (["2016-07-01 01:00:00", "2016-7-2T02:30"], "year-month-day",
         ["2016-07-01T01:00", "2016-07-02T02:30"]),
        (["2020-01-01T00:00:00.25+01:00", "2020-01-01T00:00:00Z"], "year-month-day",
         ["2019-12-31T23:00:00.25", "2020-01-01"]),
        (["1.2.2001", "3.02.2001 04:05"], "day.month.year", ["2001-02-01", "2001-02-03T04:05"]),
        (["1/2/2001 1:00 PM", "1/3/2001 12:05 am"], "month/day/year",
         ["2001-01-02T13", "2001-01-03T00:05"]),
        (["13/2/2001", "1/2/2001"], "day/month/year", ["2001-02-13", "2001-02-01"]),
        (["Jan 1 2000", "February 2, 2000"], "month day year", ["2000-01-01", "2000-02-02"]),
        (["1-Mar-2000", "2 Mar 2000"], "day month year", ["2000-03-01", "2000-03-02"]),
        (["2001-01", "2001-12"], "year-month", ["2001-01-01", "2001-12-01"]),
        (["200101", "200112"], "yyyymm", ["2001-01-01", "2001-12-01"]),
        (["2001Q1", "2001-Q4"], "year quarter", ["2001-01-01", "2001-10-01"]),
        (["Q2 2001"], "quarter year", ["2001-04-01"]),
        (["19580329"], "yyyymmdd", ["1958-03-29"]),
        (["1700", "2001"], "year", ["1700-01-01", "2001-01-01"]),
        (["1600000000", "1600003600"], "epoch seconds",
         ["2020-09-13T12:26:40", "2020-09-13T13:26:40"]),
        (["1600000000123"], "epoch milliseconds", ["2020-09-13T12:26:40.123"]),
    ],
)  # fmt: skip
def test_times_are_read_however_they_are_written(texts, name, times):
    form = TimeFormat.of(texts)
    assert form.name == name
    assert (form(texts, texts) == stamps(times)).all()


def test_step_numbers_and_what_is_no_time():
    form = TimeFormat.of(["0", "1", "7"])
    assert form.name == "step numbers" and form(["7"], [""]).tolist() == [7]
    for texts in (["abc"], ["2001-13-01"], ["2001-02-30"], [], ["1.5", "2.5"]):
        assert TimeFormat.of(texts) is None


def test_a_time_written_otherwise_names_its_line():
    form = TimeFormat.of(["1/2/2001"])
    with pytest.raises(DataError, match=r"line 9: '13/2/2001' is no time.*--day-first"):
        form(["1/2/2001", "13/2/2001"], ["line 8", "line 9"])
    assert TimeFormat.of(["1/2/2001"], day_first=True)(["1/2/2001"], [""]) == stamps("2001-02-01")
    assert set(FORMATS) >= {"year", "year-month-day"}


@pytest.mark.parametrize(
    ("times", "name", "season"),
    [
        (np.arange("2001-01", "2003-01", dtype="M8[M]"), "monthly", 12),
        (np.arange("1700", "1709", dtype="M8[Y]"), "yearly", 1),
        (np.arange("2001-01", "2004-01", 3, dtype="M8[M]"), "quarterly", 4),
        (np.arange("2001-01-01", "2001-02-01", dtype="M8[D]"), "daily", 7),
        (np.arange("2001-01-01", "2001-06-01", 7, dtype="M8[D]"), "weekly", 52),
        (np.arange("2001-01-01T00", "2001-01-03T00", dtype="M8[h]"), "hourly", 24),
        (np.arange("2001-01-01T00:00", "2001-01-03T00:00", 15, dtype="M8[m]"),
         "every 15 minutes", 96),
    ],
)  # fmt: skip
def test_the_frequency_is_found_and_leads_back_to_the_times(times, name, season):
    times = stamps(times)
    found = inferred(np.delete(times, 3))
    assert (found.name, found.season) == (name, season)
    assert (found.times(found.index(times)) == times).all()
    assert (found.index(times) == np.arange(len(times))).all()


def test_month_ends_and_business_days():
    ends = stamps(["2001-01-31", "2001-02-28", "2001-03-31", "2001-04-30"])
    found = inferred(ends)
    assert found.name == "monthly" and (found.times(np.arange(4)) == ends).all()
    days = np.arange("2001-01-01", "2001-03-01", dtype="M8[D]")
    days = stamps(days[np.is_busday(days)])
    found = inferred(days)
    assert found.name == "on business days" and found.season == 5
    assert (found.times(np.arange(len(days))) == days).all()


def test_irregular_times_and_frequencies_that_a_person_writes():
    with pytest.raises(DataError, match="no regular steps"):
        inferred(stamps("2001-01-01") + np.cumsum(np.arange(50) ** 2 * 7919 % 10007 + 1))
    with pytest.raises(DataError, match="2 different times"):
        inferred(stamps(["2001-01-01", "2001-01-02"]))
    assert frequency_named("15min", 0) == Frequency("span", 15 * 60_000_000)
    assert frequency_named("M", 0).unit == "month" and frequency_named("W", 0).name == "weekly"
    with pytest.raises(OptionError, match="write s, min, h"):
        frequency_named("fortnight", 0)


def test_a_calendar_goes_round():
    hours = stamps(np.arange("2001-01-01", "2001-01-15", dtype="M8[h]"))
    found = calendar(hours, ("day", "week"))
    assert found.shape == (336, 4)
    assert np.allclose(found[:168], found[168:], atol=1e-6)
    assert np.allclose(found[0], [0, 1, 0, 1], atol=1e-6)  # a Monday at midnight
    hourly = inferred(hours)
    assert hourly.cycles(47) == () and hourly.cycles(400) == ("day", "week")
    assert written(hours[:1], hourly) == ["2001-01-01"]
    assert written(hours[1:2], hourly) == ["2001-01-01 01:00:00"]
