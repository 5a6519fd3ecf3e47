import io
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from elman.cli.main import main
from elman.train.watch import RunCallback
from tests.cli.conftest import elman  # noqa: F401


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for all tests of a file, and a function that trains a run in it."""
    folder = tmp_path_factory.mktemp("shared")

    def train(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["elman", "train", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        assert not end.value.code

    return folder, train


@pytest.fixture
def pipe(monkeypatch):
    """A function that puts bytes, or text, into standard input."""

    def put(given):
        data = given.encode() if isinstance(given, str) else given
        stdin = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False)
        monkeypatch.setattr("elman.cli.predict.sys.stdin", stdin)

    return put


@pytest.fixture
def resumes(elman, tmp_path, monkeypatch):  # noqa: F811
    """A function that trains twice, once stopped by Ctrl-C after ``stop`` steps and resumed, and
    asserts that the model and other files are the same, byte for byte."""

    def check(*train, stop, files=()):
        assert elman("train", *train, "--out", "whole").code == 0
        with monkeypatch.context() as patch:
            patch.setattr(RunCallback, "_log", lambda *_: os.kill(os.getpid(), signal.SIGINT))
            done = elman("train", *train, "--log-every", stop, "--out", "parts")
        assert done.code == 130 and "go on with: elman train --resume parts" in done.out
        assert elman("train", "--resume", "parts").code == 0
        for kept in ("model.safetensors", *files):
            parts = [tmp_path / name / kept for name in ("whole", "parts")]
            assert parts[0].read_bytes() == parts[1].read_bytes(), kept

    return check
