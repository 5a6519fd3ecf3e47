"""One step of every cell against its equation in NumPy."""

import numpy as np
import pytest
import torch

from elman import cells
from elman.testing import TOLERANCE
from tests.cells.cases import CASES, PLAIN
from tests.cells.reference import REFERENCE
from tests.support import parts, randomise, zero_state

STEPS = 4


def as_numpy(tensors):
    return tuple(t.detach().numpy() for t in tensors)


@pytest.mark.parametrize("leading", [(), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_in_a_row_equal_the_reference(case, leading):
    cell = case.build()
    parameters = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    state = zero_state(cell, *leading)
    expected = as_numpy(state)
    for _ in range(STEPS):
        x = torch.randn(*leading, cell.input_size)
        state = parts(cell.step(x, *state))
        expected = case.reference(parameters, x.numpy(), *expected)
        for name, ours, theirs in zip(cell.state_sizes, as_numpy(state), expected, strict=True):
            assert ours.shape == theirs.shape == (*leading, cell.state_sizes[name])
            tolerance = TOLERANCE[torch.float64].element
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


def test_every_cell_is_tested_and_has_a_reference():
    tested = {case.cell for case in PLAIN}
    assert tested == set(cells.CELLS.values())
    assert {cell.__name__ for cell in tested} == set(REFERENCE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_parameter_changes_the_state_within_two_steps(case):
    cell = case.build()
    x = torch.randn(2, 5, cell.input_size)

    def two_steps():
        state = zero_state(cell, 5)
        for x_t in x:
            state = parts(cell.step(x_t, *state))
        return torch.cat(state, dim=-1)

    before = two_steps()
    for name, parameter in cell.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(torch.rand_like(parameter) + 0.1)
        assert not torch.equal(two_steps(), before), name
        with torch.no_grad():
            parameter.copy_(kept)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", sorted(cells.CELLS))
def test_bias_false_leaves_no_bias(name, bias):
    cell = cells.CELLS[name](3, 2, bias=bias)
    assert any(n.startswith("bias") for n, _ in cell.named_parameters()) is bias


@pytest.mark.parametrize("cell", [cells.Elman, cells.IndRNN, cells.Jordan])
def test_an_activation_may_be_a_callable(cell):
    by_name = randomise(cell(3, 2, activation="sigmoid"))
    by_value = cell(3, 2, activation=torch.sigmoid)
    by_value.load_state_dict(by_name.state_dict())
    x, state = torch.randn(5, 3), zero_state(by_name, 5)
    assert torch.equal(by_value.step(x, *state), by_name.step(x, *state))
    assert not torch.equal(by_value.step(x, *state), by_value.step(-x, *state))


def test_an_unknown_activation_suggests_the_nearest():
    with pytest.raises(cells.cell.OptionError, match=r"unknown activation 'tan': .*'tanh'"):
        cells.Elman(3, 2, activation="tan")


def test_a_cell_called_without_a_state_starts_from_zero():
    cell = randomise(cells.LSTM(3, 2))
    x = torch.randn(5, 3)
    for ours, expected in zip(cell(x), cell.step(x, *zero_state(cell, 5)), strict=True):
        assert torch.equal(ours, expected)


def test_the_output_of_a_jordan_network_has_its_own_size():
    cell = cells.Jordan(3, 2, output_size=4)
    assert cell.output_size == 4
    assert cell.state_sizes == {"y": 4}
