"""Backpropagation through time of every cell against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

import elman
from elman import cells
from tests.cells.cases import CASES, Case
from tests.support import leaves, packed, warm_state

T, B = 3, 2


def as_function(layer):
    """The layer as a function of its parameters, x and the parts of the state."""
    names = [name for name, _ in layer.named_parameters()]

    def run(*values):
        parameters = dict(zip(names, values, strict=False))
        x, *state = values[len(names) :]
        outputs, last = functional_call(layer, parameters, (x, packed(tuple(state))))
        return (outputs, *leaves(last))

    return run


def inputs_of(layer):
    x = torch.randn(T, B, layer.input_size, requires_grad=True)
    return (*layer.parameters(), x, *warm_state(layer.cell, B))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_three_steps_equal_finite_differences(case):
    layer = elman.Recurrent(case.build())
    assert gradcheck(as_function(layer), inputs_of(layer))


@pytest.mark.parametrize("case", [Case(cells.Elman), Case(cells.LSTM), Case(cells.GRU)], ids=str)
def test_second_gradients_equal_finite_differences(case):
    layer = elman.Recurrent(case.build())
    assert gradgradcheck(as_function(layer), inputs_of(layer))


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_gradients_of_an_slstm_from_its_zero_state_equal_finite_differences(forget):
    layer = elman.Recurrent(Case(cells.SLSTM, {"forget": forget}).build())
    x = torch.randn(T, B, 3, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return leaves(functional_call(layer, dict(zip(names, values, strict=True)), x))

    assert gradcheck(run, (x, *layer.parameters()))


def test_an_slstm_stays_finite_where_plain_exponential_gates_overflow():
    layer = elman.Recurrent(Case(cells.SLSTM, {"forget": "exp"}).build())
    x = 2000 * torch.randn(T, B, 3)
    results = leaves(layer(x))
    assert all(r.isfinite().all() for r in results)
    for gradient in torch.autograd.grad(sum(r.sum() for r in results), [*layer.parameters()]):
        assert gradient.isfinite().all()
