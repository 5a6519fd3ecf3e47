"""How fast gradients grow and fade over time, in numbers known by hand."""

import pytest
import torch

import elman
from elman import cells

STEPS = 50


def univariate(w):
    """h' = w h + x, the linear network of one unit."""
    cell = cells.Elman(1, 1, activation="identity", bias=False)
    with torch.no_grad():
        cell.weight_hh.fill_(w)
        cell.weight_ih.fill_(1)
    return elman.Recurrent(cell)


@pytest.mark.parametrize("w,factor", [(1.1, 117.39), (0.9, 0.005154), (1.0, 1.0), (-1.1, 117.39)])
def test_the_gradient_of_a_linear_unit_is_multiplied_by_w_at_each_step(w, factor):
    start = torch.ones(1, 1, requires_grad=True)
    _, last = univariate(w)(torch.zeros(STEPS, 1, 1), start)
    (gradient,) = torch.autograd.grad(last.sum(), start)
    assert gradient.item() == pytest.approx(factor, rel=1e-4)
    assert gradient.item() == pytest.approx(w**STEPS, rel=1e-12)


def test_the_gradient_to_each_input_is_a_power_of_w():
    x = torch.zeros(STEPS, 1, requires_grad=True)
    _, last = univariate(0.9)(x)
    (gradient,) = torch.autograd.grad(last.sum(), x)
    expected = 0.9 ** torch.arange(STEPS - 1, -1, -1.0)
    torch.testing.assert_close(gradient[:, 0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("k", [1, 7, 49, 50, 80])
def test_truncation_cuts_the_initial_state_off(k):
    start = torch.ones(1, 1, requires_grad=True)
    x = torch.zeros(STEPS, 1, 1, requires_grad=True)
    _, last = univariate(1.1)(x, start, truncate=k)
    to_start, to_x = torch.autograd.grad(last.sum(), [start, x], materialize_grads=True)
    assert to_start.item() == 0
    assert last.item() == pytest.approx(1.1**STEPS, rel=1e-12)
    reached = int(to_x.count_nonzero())
    assert reached == (STEPS - 1) % k + 1


def test_the_gradient_to_the_recurrent_weight_sums_over_all_steps():
    layer = univariate(0.9)
    _, last = layer(torch.zeros(STEPS, 1, 1), torch.ones(1, 1))
    (gradient,) = torch.autograd.grad(last.sum(), layer.cell.weight_hh)
    assert gradient.item() == pytest.approx(STEPS * 0.9 ** (STEPS - 1), rel=1e-12)


def test_an_lstm_whose_gates_are_open_carries_the_gradient_of_its_cell_unchanged():
    cell = cells.LSTM(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias_ih[:2] = torch.tensor([-60.0, 60.0])
    h, c = torch.zeros(1, 1), torch.ones(1, 1, requires_grad=True)
    _, (_, last) = elman.Recurrent(cell)(torch.zeros(STEPS, 1, 1), (h, c))
    (gradient,) = torch.autograd.grad(last.sum(), c)
    assert gradient.item() == pytest.approx(1, rel=1e-12)
