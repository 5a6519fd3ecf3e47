"""A compiled layer gives the loop's answers, whatever it is called with."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman.backends.cpu import program
from elman.cells import GRU, LSTM, LayerNormLSTM
from elman.errors import BackendError
from tests.backends.layers import FAST, assert_as_the_loop, layer_of, literal, weights
from tests.support import randomise


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


# ------------------------------------------------------------------ inputs of every kind


@FAST
@pytest.mark.parametrize("T, B", [(0, 2), (3, 0), (0, 0), (1, 1)])
def test_a_call_on_nothing(backend, T, B) -> None:
    layer = layer_of(backend)
    x = torch.randn(T, B, 3, requires_grad=True)
    state = tuple(torch.randn(B, 5, requires_grad=True) for _ in range(2))
    assert_as_the_loop(layer, x, state, wrt=[x, *state, *weights(layer)])
    assert_as_the_loop(layer, x, reset=torch.rand(T, B) < 0.5, truncate=2)
    assert_as_the_loop(layer, x, lengths=torch.full((B,), T))


@FAST
def test_sequences_that_are_all_empty(backend) -> None:
    layer, x = layer_of(backend), torch.randn(4, 3, 3, requires_grad=True)
    state = tuple(torch.randn(3, 5, requires_grad=True) for _ in range(2))
    wrt = [x, *state, *weights(layer)]
    assert_as_the_loop(layer, x, state, wrt, lengths=torch.zeros(3, dtype=torch.int64))
    reset = torch.ones(4, 3, dtype=torch.bool)
    assert_as_the_loop(layer, x, state, wrt, lengths=torch.zeros(3, dtype=torch.int64), reset=reset)


LAYOUTS = {
    "transposed": lambda: torch.randn(4, 6, 3).transpose(0, 1),
    "features first": lambda: torch.randn(3, 4, 6).permute(2, 1, 0),
    "every other": lambda: torch.randn(12, 8, 6)[::2, ::2, ::2],
    "expanded in time": lambda: torch.randn(1, 4, 3).expand(6, -1, -1),
    "expanded in the batch": lambda: torch.randn(6, 1, 3).expand(-1, 4, -1),
    "in the middle of a buffer": lambda: torch.randn(100)[7:79].view(6, 4, 3),
}


@FAST
@pytest.mark.parametrize("layout", LAYOUTS)
def test_x_in_any_layout(backend, layout) -> None:
    layer, x = layer_of(backend), LAYOUTS[layout]().requires_grad_()
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    assert_as_the_loop(layer, x, wrt=[x], lengths=[6, 0, 2, 5])


@FAST
def test_state_and_cotangents_in_any_layout(backend) -> None:
    layer, x = layer_of(backend), torch.randn(6, 4, 3)
    made = (
        torch.randn(5, 4).t(), torch.randn(1, 5).expand(4, -1), torch.randn(4, 1).expand(-1, 5)
    )  # fmt: skip
    for h in made:
        state = (h.requires_grad_(), torch.randn(5, 4).t().requires_grad_())
        assert_as_the_loop(layer, x, state, wrt=[*state, *weights(layer)])
        for which in (layer, literal(layer)):  # sum() gives a cotangent that is expanded
            outputs, last = which(x, state)
            (outputs.sum() + last[0].t().sum() + last[1].sum()).backward()
        torch.testing.assert_close(h.grad, h.grad)  # both layers have added to it
    again = [p.grad for p in layer.parameters()]
    assert all(g is not None and g.isfinite().all() for g in again)


@FAST
def test_layers_in_both_directions_and_on_top_of_each_other(backend) -> None:
    cells = [randomise(c) for c in (LSTM(3, 4), GRU(3, 4))]
    both = elman.Bidirectional(*(layer_of(backend, c, reverse=r) for r, c in enumerate(cells)))
    stack = elman.Stack([both, layer_of(backend, randomise(GRU(8, 2)))])
    x = torch.randn(6, 4, 3, requires_grad=True)
    assert_as_the_loop(stack, x, wrt=[x, *weights(stack)], lengths=[6, 0, 2, 5])


# ------------------------------------------------------------------ which gradients are wanted


@FAST
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 2), ()])
def test_gradients_for_some_of_the_parameters(backend, wanted) -> None:
    for cell in (LSTM(3, 5), LayerNormLSTM(3, 5), GRU(3, 5)):
        layer = layer_of(backend, randomise(cell))
        for index, parameter in enumerate(layer.parameters()):
            parameter.requires_grad_(index in wanted)
        x = torch.randn(5, 4, 3)
        assert_as_the_loop(layer, x, wrt=weights(layer))
        outputs, _ = layer(x)
        assert outputs.requires_grad == bool(wanted)
        x.requires_grad_()
        assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


class Twice(elman.Cell):
    """h' = tanh(W x + W h): one parameter in two places."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        return torch.tanh(F.linear(x, self.W) + F.linear(h, self.W))


class Written(elman.Cell):
    """h' = tanh(x W + h U): matrices as mathematicians write them."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, h=hidden_size)
        self.W = nn.Parameter(torch.randn(input_size, hidden_size) * 0.5)
        self.U = nn.Parameter(torch.randn(hidden_size, hidden_size) * 0.5)

    def step(self, x, h):
        return torch.tanh(x @ self.W + h @ self.U)


class BothWays(Written):
    """h' = tanh(x W + h U + U h): one matrix, written both ways."""

    def step(self, x, h):
        return torch.tanh(x @ self.W + h @ self.U + F.linear(h, self.U))


class Through(Written):
    """h' = tanh(x W + (h U) U^T): what goes in by one way comes out by the other."""

    def step(self, x, h):
        return torch.tanh(x @ self.W + torch.relu(h @ self.U) @ self.U.T)


@FAST
@pytest.mark.parametrize("kind", [Written, BothWays, Through])
def test_matrices_written_on_the_right(backend, kind) -> None:
    layer = layer_of(backend, kind(3, 5))
    x, h = torch.randn(6, 4, 3, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    assert_as_the_loop(layer, x, h, wrt=[x, h, *weights(layer)])
    assert_as_the_loop(layer, x, wrt=weights(layer), lengths=[6, 0, 2, 5], truncate=2)


@FAST
def test_a_parameter_in_two_places(backend) -> None:
    layer, x = layer_of(backend, Twice(4)), torch.randn(5, 3, 4, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    cell = Twice(4)
    cell.V = cell.W
    assert_as_the_loop(layer_of(backend, cell), x, wrt=[x, cell.W])


@FAST
def test_a_cell_in_two_layers(backend) -> None:
    cell = randomise(GRU(4, 4))
    stack = elman.Stack([layer_of(backend, cell), layer_of(backend, cell)])
    x = torch.randn(5, 3, 4, requires_grad=True)
    assert len(weights(stack)) == len(weights(cell))
    assert_as_the_loop(stack, x, wrt=[x, *weights(stack)])


class Levelled(elman.Cell):
    """h' = tanh(rms(W x) + rms(U h) + rms(h)), as torch writes it in three ways."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, h=hidden_size)
        self.W = nn.Linear(input_size, hidden_size)
        self.U = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.RMSNorm(hidden_size)

    def step(self, x, h):
        b = F.rms_norm(self.U(h), h.shape[-1:], eps=0.01)
        return torch.tanh(self.norm(self.W(x)) + b + torch.rms_norm(h, h.shape[-1:], self.U.bias))


@FAST
def test_rms_norm_in_a_step(backend) -> None:
    layer = layer_of(backend, randomise(Levelled(3, 5)))
    x, h = torch.randn(6, 4, 3, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    assert_as_the_loop(layer, x, h, wrt=[x, h, *weights(layer)])
    assert_as_the_loop(layer, x, h, wrt=[x, h, *weights(layer)], lengths=[6, 0, 2, 5])
    assert layer.plan().backend == backend


# ------------------------------------------------------------------ what has no kernel


class Rolled(elman.Cell):
    """h' = tanh(roll(W x + h)): an operation that the compiler does not know."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size))

    def step(self, x, h):
        return torch.tanh(torch.roll(F.linear(x, self.W) + h, 1, -1))


def test_an_unknown_operation_runs_the_loop_and_says_so_once() -> None:
    layer, x = layer_of("auto", Rolled(4)), torch.randn(5, 3, 4)
    with pytest.warns(RuntimeWarning, match=r"Rolled runs as the literal loop.*test_calls.py:\d+"):
        found = layer(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(layer(x)[0], found)
        assert torch.equal(literal(layer)(x)[0], found)


def test_an_unknown_operation_is_an_error_where_kernels_were_asked_for() -> None:
    with pytest.raises(BackendError, match=r"Rolled: test_calls.py:\d+.*roll"):
        layer_of("llvm", Rolled(4))(torch.randn(5, 3, 4))


# ------------------------------------------------------------------ compiled once


def test_neither_batch_nor_length_compiles_anew(monkeypatch) -> None:
    layer, compiled = layer_of("llvm", randomise(GRU(3, 6))), []
    load = program.load

    def counted(text: str, key: str):
        compiled.append(key)
        return load(text, key)

    monkeypatch.setattr(program, "load", counted)

    def call(T: int, B: int, **options) -> None:
        x = torch.randn(T, B, 3)
        outputs, _ = layer(x, **options)
        outputs.sum().backward()
        with torch.no_grad():
            layer(x, **options)

    call(4, 2)
    kernels = [key for key in compiled if key in ("training", "inference", "backward")]
    assert sorted(kernels) == ["backward", "inference", "training"]
    compiled.clear()
    for T, B in ((1, 1), (4, 3), (100, 1), (2, 70)):
        call(T, B)
        call(T, B, lengths=torch.randint(0, T + 1, (B,)))
        call(T, B, reset=torch.rand(T, B) < 0.5, truncate=2)
    with torch.no_grad():
        layer.cell.weight_hh.mul_(2)
    call(4, 2)
    assert not compiled
