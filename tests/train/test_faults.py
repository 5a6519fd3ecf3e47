"""Trainings that are disturbed end with a message, and go on to the same weights, bit for bit."""

import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from elman.errors import DataError, RunError
from elman.tasks.classify.task import Classification, ClassifyOptions
from elman.train.run import Run, new_run, open_run
from elman.train.training import resume
from tests.train import faults
from tests.train.faults import FailingWrites, SignalWhileSaving, failing, go_on, weights
from tests.train.processes import trained

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A table, and the weights of a training that nothing happened to."""
    return faults.whole(tmp_path_factory.mktemp("faults"))


def test_kills_at_random_moments_change_no_bit(undisturbed, tmp_path):
    table, wanted = undisturbed
    faults.killed(table, tmp_path / "run", random.Random(0), kills=3, most=1.0)
    assert weights(tmp_path / "run") == wanted


@pytest.mark.parametrize(
    ("code", "first", "message"),
    [
        (errno.ENOSPC, 60, "no room left to write it"),
        (errno.EROFS, 2, "cannot be written: Read-only file system"),
    ],
)
def test_writes_that_fail_lose_nothing(code, first, message, undisturbed, tmp_path):
    table, wanted = undisturbed
    run = tmp_path / "run"
    said = failing(table, run, FailingWrites(run, code, first))
    assert str(run) in said and message in said and "Traceback" not in said
    assert weights(run) == wanted


def test_a_run_folder_that_is_only_read_is_said_at_resume(undisturbed, tmp_path):
    table, wanted = undisturbed
    run = tmp_path / "run"
    faults.killed(table, run, random.Random(0), kills=0, most=0.0)
    [said] = trained(None, [], run, inside=FailingWrites(run, errno.EACCES))
    assert f"{run}" in said and "cannot be written: Permission denied" in said
    assert weights(run) == wanted


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_signals_while_a_checkpoint_is_written(signals, undisturbed, tmp_path):
    table, wanted = undisturbed
    run = tmp_path / "run"
    [said] = go_on(table, run, inside=SignalWhileSaving(*signals))
    assert "KeyboardInterrupt" in said
    assert "interrupted; go on with: elman train --resume" in said
    assert not (run / faults.KEPT[1]).exists()
    assert not list(run.rglob("*.part"))
    assert go_on(table, run) == ["well"]
    assert weights(run) == wanted


def test_a_table_that_vanishes_is_no_longer_needed(undisturbed, tmp_path):
    table, wanted = undisturbed
    copy, run = tmp_path / "classify.csv", tmp_path / "run"
    copy.write_bytes(table.read_bytes())

    def remove(started):
        while not list((run / "checkpoints").glob("step-*")):
            assert started[0].is_alive()
        copy.unlink()

    assert trained("classify", [copy], run, before=remove, **faults.OPTIONS) == ["well"]
    assert weights(run) == wanted
    (run / "data" / "train.arrow").unlink()
    [said] = trained(None, [], run)
    assert "train.arrow: cannot be read" in said and "train anew" in said


def test_a_table_that_vanishes_while_it_is_read_is_said(tmp_path):
    table = faults.write_table(tmp_path)
    task = Classification(Run(tmp_path / "run"), ClassifyOptions())
    message = r"classify\.csv: (no such file|cannot be read)"
    with pytest.raises(DataError, match=message), new_run(tmp_path / "run") as run:
        run.save_config({"task": "classify", "files": [str(table)], "options": {}})
        task.prepare(lambda *_: table.unlink(missing_ok=True))
    assert not (tmp_path / "run").exists()


def test_a_table_that_vanished_before_a_resume_is_said(tmp_path):
    """The training was killed before it had read it."""
    from dataclasses import asdict

    from rich.console import Console

    with new_run(tmp_path / "run") as run:
        options = asdict(ClassifyOptions())
        run.save_config({"task": "classify", "files": ["/none/x.csv"], "options": options})
    with pytest.raises(DataError, match=r"x\.csv: no such file"):
        resume(Classification, open_run(tmp_path / "run"), Console(quiet=True))


def test_what_a_killed_process_left_is_no_run_in_the_way(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.77.part").write_text("{")
    with new_run(tmp_path / "run") as run:
        run.save_config({})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="is no run of elman's"), new_run(tmp_path / "mine"):
        pass


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_of_two_ends_the_other_and_the_run_goes_on(victim, undisturbed, tmp_path):
    table, run = undisturbed[0], tmp_path / "run"
    died: list[float] = []

    def kill(started):
        while not list((run / "checkpoints").glob("step-*[4-9]")):
            assert all(process.is_alive() for process in started)
        died.append(time.monotonic())
        started[victim].kill()

    options = faults.OPTIONS | {"steps": 60}
    how = {"processes": 2, "before": kill, "answering": [1 - victim]}
    (said,) = trained("classify", [table], run, **how, **options)
    assert time.monotonic() - died[0] < 60
    assert "a process that shared this training is gone" in said and "--resume" in said
    assert trained(None, [], run, 2) == ["well", "well"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KB that is a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path, undisturbed):
    table, wanted = undisturbed
    run, filler = small_disk / "run", small_disk / "filler"
    filler.write_bytes(bytes(180 << 10))
    [said] = go_on(table, run)
    assert "no room left to write it (No space left on device)" in said, said
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert go_on(table, run) == ["well"]
    assert weights(run) == wanted
