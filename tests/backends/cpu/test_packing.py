"""Each layer's weights are packed once for each version of them, and go with the layer."""

import gc
import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman.backends.cpu.memory import packing
from elman.backends.cpu.memory.packing import Packer


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """No packed weights of others."""
    kept = packing.Kept(64 << 20)
    monkeypatch.setattr(packing, "kept", kept)
    return kept


@pytest.fixture
def packed(monkeypatch):
    """The sizes of what is really packed, in order."""
    sizes, once = [], Packer._packed

    def counted(self, *args):
        found = once(self, *args)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(Packer, "_packed", counted)
    return sizes


def test_a_model_of_fifty_layers_packs_each_weight_once(packed, kept) -> None:
    model, x = [elman.LSTM(8, 8) for _ in range(50)], torch.randn(3, 2, 8)
    with torch.no_grad():
        for _ in range(3):
            y = x
            for layer in model:
                y, _ = layer(y)
    assert len(packed) == 50 * 2  # W and U of each
    assert kept.bytes == 4 * sum(packed)


def test_each_version_is_packed_once_in_training(packed) -> None:
    layer, x = elman.LSTM(8, 8), torch.randn(3, 2, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for step in range(1, 4):
        optimizer.zero_grad()
        for _ in range(2):
            layer(x)[0].sum().backward()
        assert len(packed) == step * 3  # and U once more, transposed for the backward loop
        optimizer.step()


def test_a_step_of_rate_0_packs_nothing_anew(packed) -> None:
    layer, twin, x = elman.GRU(4, 8), nn.GRU(4, 8), torch.randn(3, 2, 4)
    twin.load_state_dict(layer.state_dict())
    layer(x)[0].sum().backward()
    count = len(packed)
    torch.optim.SGD(layer.parameters(), lr=0.0).step()
    torch.testing.assert_close(layer(x)[0], twin(x)[0])
    assert len(packed) == count


def test_the_least_recently_used_go_first(packed, kept) -> None:
    a, b, c = layers = [elman.LSTM(8, 8) for _ in range(3)]
    x = torch.randn(3, 2, 8)
    with torch.no_grad():
        a(x)
        kept.limit = 2 * kept.bytes
        for layer in (b, a, c, a, c, b):  # c in place of b, b in place of a
            layer(x)
    assert len(packed) == 2 * (3 + 1) and kept.bytes <= kept.limit
    assert len(layers) == 3


def test_packed_weights_go_with_their_layer(kept) -> None:
    layers, x = [elman.LSTM(8, 8) for _ in range(3)], torch.randn(3, 2, 8)
    for layer in layers:
        layer(x)[0].sum().backward()
    one = kept.bytes // 3
    gone = weakref.ref(layers[1].weight_hh_l0)
    del layer, layers[1]
    assert gone() is None and kept.bytes == 2 * one
    layers[0].weight_hh_l0.data = torch.randn(32, 8)  # the old values are nobody's
    assert kept.bytes < 2 * one
    layers.clear()
    assert kept.bytes == 0


class Masked(elman.Cell):
    """h' = tanh(x + (U * M) h): the matrix is made anew for each run."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.U = nn.Parameter(torch.randn(size, size) * 0.3)
        self.register_buffer("M", torch.ones(size, size).tril())

    def step(self, x, h):
        return torch.tanh(x + F.linear(h, self.U * self.M))


def test_weights_that_a_plan_computes_are_packed_once_and_go_with_the_cell(packed, kept) -> None:
    layer, x = elman.Recurrent(Masked(8), backend="llvm"), torch.randn(3, 2, 8)
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        assert len(packed) == 1
        for _ in range(2 * packing.VERSIONS):
            layer.cell.U.mul_(0.99)
            layer(x)
    assert len(packed) == 1 + 2 * packing.VERSIONS
    assert kept.bytes == packing.VERSIONS * 4 * packed[0]
    del layer
    gc.collect()
    assert kept.bytes == 0


def test_layers_in_one_piece_of_memory_are_told_apart(packed) -> None:
    """As where an optimiser or a wrapper has made all parameters views of one tensor."""
    layers, x = [elman.LSTM(8, 8) for _ in range(3)], torch.randn(3, 2, 8)
    flat = nn.utils.parameters_to_vector(p for layer in layers for p in layer.parameters()).detach()
    nn.utils.vector_to_parameters(flat, (p for layer in layers for p in layer.parameters()))
    with torch.no_grad():
        for _ in range(3):
            for layer in layers:
                layer(x)
    assert len(packed) == 3 * 2


def test_threads_that_pack_at_once_get_their_own(kept) -> None:
    layers, x = [elman.LSTM(8, 8) for _ in range(4)], torch.randn(3, 2, 8)
    with torch.no_grad():
        right = [layer(x)[0] for layer in layers]
        kept.limit = kept.bytes // 3  # they push each other out
        wrong = []

        def work() -> None:
            with torch.no_grad():
                for i in range(40):
                    if not torch.equal(layers[i % 4](x)[0], right[i % 4]):
                        wrong.append(i)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
