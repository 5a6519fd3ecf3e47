"""Operands of every dtype: a plan computes what the loop computes, or says that it does not."""

import math
import warnings
from itertools import product

import pytest
import torch
from torch import Tensor

import elman
from elman.errors import BackendError, ElmanError

SIZE = 4
#: Functions of x, h and an operand, which is a tensor.
OF_TENSORS = {
    "add": lambda x, h, v: h + v + x,
    "mul": lambda x, h, v: x * v + h,
    "sub": lambda x, h, v: v - h * x,
    "div": lambda x, h, v: h / v + x / 2,
    "divided": lambda x, h, v: v / (h * h + 1) + x,
    "pow": lambda x, h, v: (h * h + 0.5) ** v + x,
    "base": lambda x, h, v: v**x + h,
    "maximum": lambda x, h, v: torch.maximum(h, v) * x,
    "chosen": lambda x, h, v: torch.where(x > 0, v, h),
    "condition": lambda x, h, v: torch.where(v, x, h),
    "condition made": lambda x, h, v: torch.where(v > 0, x, h),
    "greater": lambda x, h, v: torch.where(h > v, x, h),
    "equal": lambda x, h, v: torch.where(h == v, x, h * 2),
    "filled": lambda x, h, v: h.masked_fill(v, 0.5) + x,
    "filled with": lambda x, h, v: h.masked_fill(x > 0, v) + x,
    "clamp": lambda x, h, v: torch.clamp(h, max=v) + x,
    "lerp": lambda x, h, v: torch.lerp(x.clamp(-9, 9), h, v),
    "addcmul": lambda x, h, v: torch.addcmul(h, x, v),
    "cat": lambda x, h, v: torch.cat([h[..., :2], (v + torch.zeros(2, dtype=v.dtype))[:2]
                                      .expand(x.shape[0], 2)], -1) + x,
    "spread": lambda x, h, v: h * v.expand(x.shape[0], SIZE) + x,
    "spread compared": lambda x, h, v: torch.where(v.expand(x.shape[0], SIZE) > 1, x, h),
    "logic": lambda x, h, v: torch.where(torch.logical_and(h > 0, v), x, h),
    "not": lambda x, h, v: torch.where(torch.logical_not(v) | (h > 0), x, h),
    "bits": lambda x, h, v: torch.where((h > 0) & v, x, h),
    "truths added": lambda x, h, v: ((h > 0) + v) * x + h,
    "halved": lambda x, h, v: x * (v // 2) + h,
    "by itself": lambda x, h, v: x * (v * v + v) + h,
    "with a fill": lambda x, h, v: h * (v + torch.ones_like(v) * 2) + x,
    "cast": lambda x, h, v: h * v.to(h.dtype) + x,
    "cast to int": lambda x, h, v: h * v.long() + x,
    "numbers": lambda x, h, v: h + v.numel() * x,
}  # fmt: skip
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
)
#: Functions of x, h and a number.
OF_NUMBERS = {
    "add": lambda x, h, v: h + v + x,
    "mul": lambda x, h, v: x * v + h,
    "mul twice": lambda x, h, v: x * v * v + h,
    "rsub": lambda x, h, v: v - h * x,
    "div": lambda x, h, v: h / v + x,
    "pow": lambda x, h, v: (h * h + 0.5) ** v + x,
    "chosen": lambda x, h, v: torch.where(x > 0, v, h),
    "two": lambda x, h, v: torch.where(x > 0, v, -1) * h + x,
    "greater": lambda x, h, v: torch.where(h > v, x, h),
    "equal": lambda x, h, v: torch.where(h == v, x, h * 2),
    "filled": lambda x, h, v: h.masked_fill(x > 0, v) + x,
    "clamp": lambda x, h, v: h.clamp(max=v) + x,
    "alpha": lambda x, h, v: torch.add(h, x, alpha=v),
    "fill": lambda x, h, v: h * torch.full((SIZE,), v) + x,
    "rows of it": lambda x, h, v: h * torch.full_like(h, v) + x,
    "int fill": lambda x, h, v: h * torch.full((), v, dtype=torch.int64) + x,
    "double fill": lambda x, h, v: h * torch.full((), v, dtype=torch.float64) + x,
    "fill of fills": lambda x, h, v: h * (torch.full((SIZE,), v) * 2 + 1) + x,
}
NUMBERS = (
    *(2, 0.1, -0.0, True, 1e39, 3.45e38, 3.4028235e38, 1e-46, math.inf, -math.inf, math.nan),
    *(2**24 + 1, 2**53 + 1, 2**60 + 2**35 + 1, 2**63),
)


class Typed(elman.Cell):
    """A step of a function, and an operand that is a buffer where it is a tensor."""

    def __init__(self, function, operand) -> None:
        super().__init__(SIZE, h=SIZE)
        self.function = function
        if isinstance(operand, Tensor):
            self.register_buffer("operand", operand)
        else:
            self.operand = operand

    def step(self, x, h):
        return self.function(x, h, self.operand)


def _inputs(dtype):
    generator = torch.Generator().manual_seed(0)
    x, h = (torch.randn(2, 3, SIZE, generator=generator).to(dtype) for _ in range(2))
    x[0, 0, 0] = 2**24 + 2
    return x.requires_grad_(), h[0].requires_grad_()


def _answers(cell, backend, dtype):
    """Outputs and gradients; or the error."""
    x, h = _inputs(dtype)
    try:
        outputs = elman.Recurrent(cell, backend=backend)(x, h)[0]
        grads = torch.autograd.grad(outputs.sum(), (x, h), materialize_grads=True)
    except (RuntimeError, TypeError, ValueError, OverflowError, ElmanError) as error:
        return error
    return [outputs.detach(), *grads]


def _compare(function, operand, backend, dtype) -> bool:
    """Whether a plan has run; it has the loop's answers."""
    cell = Typed(function, operand)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _answers(cell, "loop", dtype)
        found = _answers(cell, backend, dtype)
    if isinstance(expected, Exception):  # a plan may do without what torch cannot do
        return False
    if isinstance(found, Exception):
        assert isinstance(found, BackendError) and ".py:" in str(found), found
        return False
    # torch differentiates with the exponent less 1 in the exponent's own dtype.
    half = isinstance(operand, Tensor) and operand.dtype in (torch.float16, torch.bfloat16)
    tolerance = 1e-3 if half else 1e-5
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        torch.testing.assert_close(f, e, rtol=tolerance, atol=tolerance, equal_nan=True)
    return True


def _operand(shape, dtype):
    values = torch.tensor([0.1, 2.0, 0.0, 3.0]) if dtype.is_floating_point else torch.arange(4)
    if dtype == torch.int64:
        values = values + 2**24
    return (
        values[1 : 1 + math.prod(shape)].reshape(shape).to(dtype)
        if shape != (SIZE,)
        else (values.to(dtype))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OF_TENSORS)
def test_tensors_of_every_dtype(name, dtype) -> None:
    kinds = product(((), (1,), (SIZE,)), DTYPES)
    ran = [_compare(OF_TENSORS[name], _operand(*kind), "eager", dtype) for kind in kinds]
    assert any(ran) or dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_of_every_kind(name, dtype) -> None:
    ran = [_compare(OF_NUMBERS[name], number, "eager", dtype) for number in NUMBERS]
    assert any(ran) or dtype == torch.float64
