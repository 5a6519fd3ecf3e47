import sys
from types import SimpleNamespace

import pytest

from elman.cli.main import main

SMALL = [
    *("--hidden", "16", "--layers", "1", "--batch-size", "4", "--bptt", "16"),
    *("--learning-rate", "0.01"),
]


@pytest.fixture
def elman(monkeypatch, capsys, tmp_path):
    """Runs the real command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["elman", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 60, encoding="utf-8")
    return path


@pytest.fixture
def trained(elman, text):
    """A finished run folder, runs/lm."""
    done = elman("train", "lm", text, *SMALL, "--steps", 60, "--out", "run")
    assert done.code == 0, done.err
    return text.parent / "run"
