from collections import Counter

import pytest

from elman.testing import fuzz
from elman.testing.installation import installation


def test_a_sound_installation_is_well(elman):
    done = elman("doctor")
    assert done.code == 0, done.out
    for finding in installation():
        assert f"ok    {finding.name}" in done.out


def test_what_is_wrong_is_said_and_ends_with_1(elman, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="compiled code is not kept"):
        done = elman("doctor")
    assert done.code == 1
    assert "wrong code cache  no folder to keep compiled code in" in done.out


def test_random_programs_are_run_and_counted(elman):
    done = elman("doctor", "--programs", 2, "--seed", 5)
    assert done.code == 0, done.out
    assert "2 programs, " in done.out


def test_a_program_that_differs_is_printed_as_a_script(elman, monkeypatch):
    def found(seed, programs, minutes, first, progress):
        failures = [fuzz.Failure(seed, number, f"act {number} differs") for number in (3, 4)]
        return fuzz.Report(seed, programs, 7, Counter(wrong=2), Counter(), failures)

    monkeypatch.setattr(fuzz, "fuzz", found)
    monkeypatch.setattr("elman.cli.doctor._script", lambda *given: f"check(program{given})")
    done = elman("doctor", "--minutes", 1, "--seed", 9)
    assert done.code == 1
    assert "program 3 of seed 9: act 3 differs" in done.out
    assert done.out.count("check(program(9, ") == 1  # of one kind


def test_negative_numbers_are_refused(elman):
    assert elman("doctor", "--minutes", -1).code == 2


@pytest.mark.parametrize("minutes", ["nan", "inf", "-1"])
def test_minutes_are_a_number(elman, minutes):
    done = elman("doctor", "--minutes", minutes)
    assert done.code == 2 and "not negative" in done.err
