"""A training that is killed or interrupted ends as if nothing had happened."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elman.data.text.blocks import embedded_text

COMMAND = [
    *(sys.executable, "-m", "elman.cli"),
    *("train", "lm", "text.txt", "--steps", "60", "--hidden", "24", "--batch-size", "8"),
    *("--bptt", "24", "--validate-every", "20", "--dropout", "0.2", "--variational-dropout", "0.1"),
    *("--zoneout", "0.1", "--weight-drop", "0.1", "--checkpoint-seconds", "0.05"),
    *("--threads", "1", "--keep-checkpoints", "1"),
]
KEPT = ("model.safetensors", "sample.txt", "checkpoints/step-000000060")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, and the run that was never disturbed."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "text.txt").write_text("".join(embedded_text())[:40_000])
    subprocess.run([*COMMAND, "--out", "whole"], cwd=folder, check=True, capture_output=True)
    return folder


def started(folder: Path, name: str, beyond: int) -> subprocess.Popen:
    """A training that has made a checkpoint at a step beyond ``beyond``."""
    process = subprocess.Popen(
        [*COMMAND, "--out", name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for _ in range(6000):
        found = sorted((folder / name / "checkpoints").glob("step-*"))
        if found and int(found[-1].name[5:]) > beyond:
            return process
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[0].decode())


def same(folder: Path, name: str) -> None:
    for kept in KEPT:
        one, two = folder / "whole" / kept, folder / name / kept
        files = sorted(p.name for p in one.glob("*.safetensors")) if one.is_dir() else [""]
        assert files
        for file in files:
            assert (one / file).read_bytes() == (two / file).read_bytes(), (kept, file)


def resumed(folder: Path, name: str) -> None:
    command = [sys.executable, "-m", "elman.cli", "train", "--resume", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("beyond", [2, 33])
def test_kill_9_and_resume_give_the_same_weights_bit_for_bit(folder, beyond):
    name = f"killed-{beyond}"
    process = started(folder, name, beyond)
    process.kill()
    process.wait()
    assert not (folder / name / "sample.txt").exists()
    resumed(folder, name)
    same(folder, name)
    assert not list((folder / name).rglob("*.part"))


def test_ctrl_c_saves_everything_and_resume_goes_on(folder):
    process = started(folder, "interrupted", 5)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, output
    assert "elman train --resume interrupted" in output
    assert (folder / "interrupted" / "model.safetensors").is_file()
    assert (folder / "interrupted" / "curves.png").is_file()
    resumed(folder, "interrupted")
    same(folder, "interrupted")


@pytest.mark.parametrize("precision", ["64", "bf16"])
def test_every_precision_resumes_to_the_same_weights(precision, folder):
    name = f"precision-{precision}"
    command = [*COMMAND, "--precision", precision, "--keep-checkpoints", "99", "--out", name]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    last = folder / name / "checkpoints" / "step-000000060"
    weights = (last / "model.safetensors").read_bytes()
    for late in last.parent.iterdir():
        if int(late.name[5:]) > 30:
            shutil.rmtree(late)
    resumed(folder, name)
    assert (last / "model.safetensors").read_bytes() == weights


def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder):
    command = [*COMMAND, "--keep-checkpoints", "9", "--out", "damaged"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "damaged" / "checkpoints" / "step-000000060" / "position.json").write_text("{")
    resumed(folder, "damaged")


def test_a_finished_run_can_be_trained_for_longer(folder):
    subprocess.run(["cp", "-r", "whole", "longer"], cwd=folder, check=True)
    command = [sys.executable, "-m", "elman.cli", "train", "--resume", "longer", "--steps", "65"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "longer" / "checkpoints" / "step-000000065").is_dir()


def test_two_processes_train_together_and_resume(folder):
    base = [*COMMAND, "--devices", "2", "--accelerator", "cpu"]
    done = subprocess.run(
        [*base, "--out", "two"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "two" / "checkpoints" / "step-000000060").is_dir()
    resume = [sys.executable, "-m", "elman.cli", "train", "--resume", "two", "--steps", "63"]
    done = subprocess.run(resume, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
