"""Weights and buffers of other dtypes and shapes than the step computes in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from tests.backends.layers import FAST
from tests.cells.test_reads import as_the_loop


class Held(elman.Cell):
    """A step of a function of the cell, x and h, with buffers."""

    def __init__(self, function, **buffers) -> None:
        super().__init__(4, h=4)
        self.function = function
        self.U = nn.Parameter(torch.randn(4, 4) * 0.5)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def step(self, x, h):
        return self.function(self, x, F.linear(h, self.U))


TRUE = torch.tensor([True, False, True, False])
COUNTS = torch.tensor([0, 1, 2, 3])
OPERANDS = {
    "a float64 number": (
        lambda c, x, h: h + c.dt * torch.tanh(x),
        {"dt": torch.tensor(np.float64(0.1))},
    ),
    "a bool mask": (lambda c, x, h: h.masked_fill(c.mask, 0.0) + x, {"mask": TRUE}),
    "a bool condition": (lambda c, x, h: torch.where(c.mask, x, h), {"mask": TRUE}),
    "a comparison of weights": (lambda c, x, h: torch.where(c.b > 0, x, h), {"b": COUNTS - 1.0}),
    "logic of weights and rows": (
        lambda c, x, h: torch.where(c.mask & (x > h) | (c.b > 1), x, h),
        {"mask": TRUE, "b": COUNTS},
    ),
    "weights chosen by a mask": (
        lambda c, x, h: torch.where(c.mask, c.b, h.new_zeros(4)) * x + h,
        {"mask": TRUE, "b": COUNTS + 0.5},
    ),
    "a mask as numbers": (lambda c, x, h: x * c.mask + h * ~c.mask, {"mask": TRUE}),
    "whole numbers": (lambda c, x, h: h * c.n / 2 + x**c.n, {"n": COUNTS}),
    "bounds that may be NaN": (
        lambda c, x, h: torch.clamp(h, c.low, c.low + 1) + x,
        {"low": torch.tensor([0.0, -1.0, float("nan"), 0.5])},
    ),
    "infinite numbers": (
        lambda c, x, h: torch.where(x > 0, h.clamp(max=float("inf")), x * 1e39 * 1e-39),
        {},
    ),
    "what is not a number": (lambda c, x, h: torch.where(x > 0, float("nan"), h), {}),
    "a large whole number": (lambda c, x, h: (x + h) * (2**60 + 2**35 + 1) * 2.0**-60, {}),
}


@FAST
@pytest.mark.parametrize("name", OPERANDS)
def test_operands_as_in_the_loop(name, backend) -> None:
    torch.manual_seed(0)
    function, buffers = OPERANDS[name]
    cell, x = Held(function, **buffers), torch.randn(3, 2, 4, requires_grad=True)
    answers = []
    for each in (backend, "loop"):
        outputs = elman.Recurrent(cell, backend=each)(x)[0]
        grads = torch.autograd.grad(outputs.nansum(), (x, cell.U), materialize_grads=True)
        answers.append([outputs.detach(), *grads])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_number_that_torch_refuses_is_torchs_error() -> None:
    cell = Held(lambda c, x, h: (x + h).clamp(max=3.45e38))
    with pytest.raises(RuntimeError, match="without overflow"):
        elman.Recurrent(cell)(torch.randn(3, 2, 4))


WRONG = {
    "a bias of another dtype": lambda c: setattr(c, "bias_hh", nn.Parameter(c.bias_hh.double())),
    "a bias that is too short": lambda c: setattr(c, "bias_hh", nn.Parameter(c.bias_hh[:3])),
    "a narrow matrix": lambda c: setattr(c, "weight_hh", nn.Parameter(c.weight_ih[:, :2])),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_are_torchs_error(name) -> None:
    layer, x = elman.Recurrent(elman.cells.LSTM(4, 4)), torch.randn(3, 2, 4)
    layer(x)
    WRONG[name](layer.cell)
    with pytest.warns(RuntimeWarning, match="cannot be computed"), pytest.raises(RuntimeError):
        layer(x)


class Plain(elman.Cell):
    """A tensor that is neither parameter nor buffer, of which wrappers and hooks make use."""

    def __init__(self) -> None:
        super().__init__(4, h=4)
        self.scale = torch.rand(4) + 0.5

    def step(self, x, h):
        return torch.tanh(x + h) * self.scale


@FAST
def test_plain_attributes_are_weights(backend) -> None:
    cell, x = Plain(), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, backend)
    cell.scale.mul_(0.5)
    assert not torch.equal(before, as_the_loop(cell, x, backend))
    cell.scale = torch.full((4,), 0.25, requires_grad=True)
    as_the_loop(cell, x, backend)
    elman.Recurrent(cell, backend=backend)(x)[0].sum().backward()
    assert cell.scale.grad.abs().min() > 0
    cell.scale = 0.5
    as_the_loop(cell, x, backend)
    cell.scale = 0.75
    as_the_loop(cell, x, backend)
