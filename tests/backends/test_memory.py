"""Memory that is kept between calls serves again, and is limited."""

import gc
import os
import random
import threading

import pytest
import torch

import elman
from elman.backends import memory
from elman.backends.cpu.memory import packing

MIB = 1 << 20
LIKE = torch.zeros(())


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Nothing is kept yet."""
    kept = memory._Kept()
    monkeypatch.setattr(memory, "_kept", kept)
    return kept


@pytest.fixture
def fresh(monkeypatch):
    """The sizes of pieces that came from the system, in order."""
    sizes, new = [], memory._new

    def counted(size):
        sizes.append(size)
        return new(size)

    monkeypatch.setattr(memory, "_new", counted)
    return sizes


def test_sizes_waste_an_eighth_at_most() -> None:
    r = random.Random(0)
    sizes = [r.randrange(MIB, 1 << 31) for _ in range(5000)] + [MIB, MIB + 1, 2 * MIB - 1, 2 * MIB]
    for size in sizes:
        assert size <= memory.rounded(size) <= size * 1.125 + 1
        assert memory.rounded(memory.rounded(size)) == memory.rounded(size)
    assert len({memory.rounded(size) for size in range(MIB, 2 * MIB, 999)}) == 9


def test_a_piece_serves_again_for_a_similar_size(fresh) -> None:
    first = memory.empty(LIKE, 1000, 1000)
    place = first.data_ptr()
    del first
    for rows in (990, 1000, 950, 1020):
        assert memory.empty(LIKE, rows, 1000).data_ptr() == place
    assert len(fresh) == 1
    both = memory.empty(LIKE, 1000, 1000), memory.empty(LIKE, 1000, 1000)
    assert both[0].data_ptr() != both[1].data_ptr() and len(fresh) == 2
    del both
    memory.empty(LIKE, 450, 1000)  # for which a piece would be twice as large as need be
    assert len(fresh) == 3


def test_it_is_kept_up_to_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(memory, "KEPT", 10 * MIB)
    tensors = [memory.empty(LIKE, MIB) for _ in range(5)]
    assert memory.held() == 0
    tensors.clear()
    assert memory.held() == 8 * MIB
    memory.empty(LIKE, 4 * MIB)  # more than the limit: it is not kept
    assert memory.held() <= 10 * MIB


def test_no_more_is_kept_than_was_in_use_at_once_lately(monkeypatch) -> None:
    monkeypatch.setattr(memory, "WINDOW", 10)
    large = [memory.empty(LIKE, size * MIB) for size in (8, 2)]
    large.clear()
    assert memory.held() == 40 * MIB
    for _ in range(30):
        memory.empty(LIKE, MIB)
        assert memory.held() <= 44 * MIB
    assert memory.held() == 4 * MIB  # since two windows nothing larger was of use


def test_lengths_that_vary_do_not_make_it_grow(fresh, monkeypatch) -> None:
    """A few sizes serve all lengths; the long run is a command: benchmarks/lengths.py."""
    monkeypatch.setattr(memory, "LEAST", 4096)
    layer, r, most = elman.GRU(4, 16), random.Random(0), 0
    for call in range(120):
        if call == 60:
            most = memory.held()
            fresh.clear()
        layer(torch.randn(r.randint(100, 200), 4, 4))[0].sum().backward()
    assert memory.held() <= 1.3 * most
    assert len(fresh) < 60  # of 600


def test_release_gives_back_what_is_kept() -> None:
    layer, x = elman.LSTM(64, 64), torch.randn(100, 64, 64)
    right = layer(x)[0].sum()
    right.backward()
    assert memory.held() > 0 and packing.kept.bytes > 0
    assert elman.memory.held() == memory.held() + packing.kept.bytes
    waiting = layer(x)[0].sum()  # its backward pass still reads what it has
    elman.memory.release()
    assert elman.memory.held() == 0
    waiting.backward()
    assert torch.equal(layer(x)[0].sum(), right)


def test_threads_never_share_a_piece() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(100):
            tensor = memory.empty(LIKE, MIB // 4 + 1000 * number).fill_(number)
            if not bool((tensor == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_pieces_of_its_own() -> None:
    gc.collect()
    tensor = memory.empty(LIKE, MIB).fill_(1.0)
    place = tensor.data_ptr()
    del tensor
    child = os.fork()
    if child == 0:
        memory.empty(LIKE, MIB).fill_(2.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    again = memory.empty(LIKE, MIB)
    assert again.data_ptr() != place or bool((again == 1.0).all())
