"""Kernels neither read nor write a byte outside their buffers."""

import os
import subprocess
import sys

import pytest
import torch

from elman.backends.cpu import program
from tests.backends.cpu.guards import AWKWARD, Canaries, awkward, isas, shared, watched
from tests.backends.support import mistakes


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_watch_sees_a_byte_written_outside() -> None:
    for offset in (-1, 8):
        buffer = Canaries(8)
        assert buffer.unharmed()
        buffer.room[4096 + offset] = 0
        assert not buffer.unharmed()


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("awkwardness", AWKWARD, ids=lambda a: f"{a[0]}-{a[2]}")
def test_nothing_is_written_outside(awkwardness, isa, threads, float64, monkeypatch) -> None:
    monkeypatch.setenv("ELMAN_ISA", isa)
    problems = list(awkward(*awkwardness))
    with watched(monkeypatch, Canaries) as counts:
        for way in (shared(1, False), shared(2, False), shared(2, True)):
            monkeypatch.setattr(program, "partition", way)
            for right in problems:
                assert not [*mistakes(right, "llvm")]
    assert len(counts) == 3 * 2 * len(problems) and min(counts) > 10


@pytest.mark.skipif(sys.platform != "linux", reason="the pages are asked for in Linux's words")
@pytest.mark.parametrize("arguments", [(), ("--configurations", "20")], ids=["awkward", "random"])
def test_nothing_is_read_outside(tmp_path, arguments) -> None:
    """In a process of its own: it ends where a forbidden page is touched."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.backends.cpu.guards", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "ELMAN_CACHE": str(tmp_path)},
    )
    assert found.returncode == 0, found.stderr[-3000:]
