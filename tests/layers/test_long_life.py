"""Layers that live long; `python -m tests.layers.long_life` runs them for minutes."""

import sys

import pytest

from tests.layers import long_life

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and forks")


@linux
def test_a_stream_neither_grows_nor_explodes():
    grown, _ = long_life.stream(200_000)
    assert grown < 1 << 20


def test_threads_on_one_layer_answer_with_the_bits_of_one_thread():
    assert long_life.threads(2) > 8


@linux
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_workers_answer_with_the_bits_of_their_parent():
    long_life.processes("fork", workers=2)
    long_life.loader("fork")


def test_a_spawned_worker_answers_with_the_bits_of_its_parent():
    long_life.processes("spawn", workers=1)
