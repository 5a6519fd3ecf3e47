"""What a compiled layer reads may change between calls, but not before the backward pass."""

import enum

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman.backends.cpu.memory.packing import Packer
from tests.backends.layers import (
    FAST,
    assert_as_the_loop,
    layer_of,
    weights,
)


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


# ------------------------------------------------------------------ how parameters lie in memory


class Written(elman.Cell):
    """h' = tanh(x W + h U): its products read their matrices the other way round."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size) * 0.5)
        self.U = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        return torch.tanh(x @ self.W + h @ self.U)


LAYOUTS = {
    "the same memory read the other way": lambda p: p.t(),
    "every other number": lambda p: torch.randn(2 * len(p), 2 * len(p))[::2, ::2],
    "one row again and again": lambda p: torch.randn(1, len(p)).expand(len(p), -1),
}


@FAST
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matrices_in_any_layout(backend, layout) -> None:
    layer, x = layer_of(backend, Written(4)), torch.randn(5, 3, 4, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    for p in layer.parameters():
        p.data = LAYOUTS[layout](p.data)
    with torch.no_grad():
        assert_as_the_loop(layer, x)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


def test_matrices_are_packed_once_and_never_copied(monkeypatch) -> None:
    copied, packed = [], []
    contiguous, pack = torch.Tensor.contiguous, Packer._packed

    def watched(tensor, *args, **kwargs):
        found = contiguous(tensor, *args, **kwargs)
        copied.extend([tensor.shape] * (found.data_ptr() != tensor.data_ptr()))
        return found

    def counted(*args):
        packed.append(args[1].size)
        return pack(*args)

    monkeypatch.setattr(torch.Tensor, "contiguous", watched)
    monkeypatch.setattr(Packer, "_packed", counted)
    layer, x = layer_of("llvm", Written(4)), torch.randn(5, 3, 4)
    layer(x)[0].sum().backward()
    assert packed and copied  # it would be seen
    packed.clear(), copied.clear()
    layer(x)[0].sum().backward()
    assert not packed and (4, 4) not in copied
    with torch.no_grad():
        layer.cell.U.mul_(0.5)
        layer(x)
    assert packed


# ------------------------------------------------------------------ parameters that change


def _data(layer: nn.Module) -> None:
    for p in layer.parameters():
        p.data.mul_(0.5)


def _no_grad(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.cell.weight_hh[1, 2] += 1e-6  # one number, a little


def _optimizer(layer: nn.Module) -> None:
    layer(torch.randn(3, 2, 3))[0].square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()


def _exchanged(layer: nn.Module) -> None:
    for p in layer.parameters():
        p.data = torch.randn_like(p)


def _replaced(layer: nn.Module) -> None:
    layer.cell.weight_hh = nn.Parameter(torch.randn_like(layer.cell.weight_hh))


def _loaded(layer: nn.Module) -> None:
    layer.load_state_dict({n: torch.randn_like(p) for n, p in layer.state_dict().items()})


def _frombytes(layer: nn.Module) -> None:
    layer.cell.weight_hh.detach().numpy()[0, 0] += 1.0  # torch does not see it


@FAST
@pytest.mark.parametrize(
    "change", [_data, _no_grad, _optimizer, _exchanged, _replaced, _loaded, _frombytes]
)
def test_parameters_changed_between_calls(backend, change) -> None:
    layer, x = layer_of(backend), torch.randn(5, 3, 3, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    change(layer)
    with torch.no_grad():
        assert_as_the_loop(layer, x)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


@FAST
@pytest.mark.parametrize("changed", ["outputs", "x", "state", "parameter"])
def test_a_change_in_place_before_backward_is_an_error(backend, changed) -> None:
    """What the backward pass reads must be as the forward pass left it, as in the loop."""
    layer = layer_of(backend)
    x = torch.randn(5, 3, 3)
    state = tuple(torch.randn(3, 5, requires_grad=True) for _ in range(2))
    outputs, last = layer(x, state)
    total = outputs.square().sum() + last[0].sum()
    with torch.no_grad():
        {"outputs": outputs, "x": x, "state": state[0], "parameter": layer.cell.weight_hh}[
            changed
        ].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


class Kind(enum.Enum):
    """What `Settings` may be told to do."""

    TANH = "tanh"
    SIGMOID = "sigmoid"


class Settings(elman.Cell):
    """h' = scale * f(U h + b + x), with f, b and scale chosen by attributes and a buffer."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.U = nn.Parameter(torch.randn(size, size) * 0.3)
        self.number, self.word, self.pair, self.kind = 0.5, "tanh", (1.0, 2.0), Kind.TANH
        self.table = {"scale": 1.0}
        self.register_buffer("b", torch.randn(size))

    def step(self, x, h):
        u = F.linear(h, self.U) * self.number + self.b + x * self.pair[1]
        u = torch.tanh(u) if self.word == "tanh" else torch.relu(u)
        u = torch.tanh(u) if self.kind is Kind.TANH else torch.sigmoid(u)
        return u * self.table["scale"]


SETTINGS = {
    "number": lambda cell: setattr(cell, "number", -0.5),
    "word": lambda cell: setattr(cell, "word", "relu"),
    "pair": lambda cell: setattr(cell, "pair", (1.0, -1.0)),
    "kind": lambda cell: setattr(cell, "kind", Kind.SIGMOID),
    "table": lambda cell: cell.table.update(scale=0.5),
    "buffer": lambda cell: cell.b.mul_(2),
    "new buffer": lambda cell: setattr(cell, "b", torch.randn_like(cell.b)),
}


@FAST
@pytest.mark.parametrize("change", SETTINGS)
def test_settings_changed_between_calls(backend, change) -> None:
    """What a step reads beside its parameters."""
    layer, x = layer_of(backend, Settings(4)), torch.randn(5, 3, 4, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    SETTINGS[change](layer.cell)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


class Timed(elman.Cell):
    """A float64 number stands before the float32 matrices of a module."""

    def __init__(self):
        super().__init__(3, h=4)
        self.U = torch.nn.Linear(3, 4)
        self.register_buffer("dt", torch.tensor(0.1, dtype=torch.float64))

    def step(self, x, h):
        return h + self.dt * torch.tanh(self.U(x))


def test_a_number_of_another_type_does_not_decide_the_type_of_a_step():
    cell = Timed().float()
    cell.dt = torch.tensor(0.1, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float32)
    found, expected = (elman.Recurrent(cell, backend=b)(x)[0] for b in ("llvm", "loop"))
    torch.testing.assert_close(found, expected)
    assert elman.Recurrent(cell).plan().cells[0].dtype is torch.float32
