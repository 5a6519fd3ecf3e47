"""Numbers in a step, of whatever size, are those of the loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman

NAN, INF = float("nan"), float("inf")
TERMS = (
    lambda u: torch.tanh(u * 1e39),
    lambda u: torch.minimum(u, torch.full_like(u, INF)),
    lambda u: torch.tanh(u + INF),
    lambda u: torch.where(u > 0, u, NAN),
    lambda u: torch.sigmoid(u) * (2**60 + 2**36 + 1),
    lambda u: torch.sigmoid(u) / (2**53 + 1),
    lambda u: u * -0.0,
    lambda u: u.clamp(-3.4e38, 1e38) * 1e-38,
)


class Numbers(elman.Cell):
    """Each of four numbers of the state by a term of its own."""

    def __init__(self) -> None:
        super().__init__(4, h=4 * len(TERMS))
        self.U = nn.Parameter(torch.randn(4, 4 * len(TERMS)) * 0.01)

    def step(self, x, h):
        u = x + F.linear(h.clamp(-1, 1), self.U)
        return torch.cat([term(u) for term in TERMS], -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_any_size(dtype) -> None:
    torch.manual_seed(0)
    cell, x = Numbers().to(dtype), torch.randn(1, 3, 4, dtype=dtype)
    right, found = (elman.Recurrent(cell, backend=b)(x)[0] for b in ("loop", "llvm"))
    assert right.isnan().any() and right.isfinite().any()
    torch.testing.assert_close(found, right, equal_nan=True)
    signs = found[right == 0].signbit(), right[right == 0].signbit()
    assert torch.equal(*signs) and signs[0].any()


def test_a_number_that_torch_refuses_is_refused() -> None:
    class Large(elman.Cell):
        def step(self, x, h):
            return (x + h).clamp(max=3.45e38)

    for backend in ("loop", "llvm"):
        with pytest.raises(RuntimeError, match="without overflow"):
            elman.Recurrent(Large(4, h=4), backend=backend)(torch.randn(2, 3, 4))


class Greatest(elman.Cell):
    """h' = 0.1 max_k(-1 - |x_k + h_k|) + 0.5 h: the greatest of numbers that all lie below 0."""

    def __init__(self, size):
        super().__init__(size, h=size)

    def step(self, x, h):
        low = -1 - (x + h).abs()
        return 0.1 * low.amax(-1, keepdim=True) + 0.1 * low.sum(-1, keepdim=True) + 0.5 * h


@pytest.mark.parametrize("size", [1, 3, 8, 17, 33])
def test_the_greatest_of_negative_numbers(size):
    torch.manual_seed(0)
    x = torch.randn(5, 2, size, dtype=torch.float64)
    found, expected = (
        elman.Recurrent(Greatest(size).double(), backend=backend)(x)[0]
        for backend in ("llvm", "loop")
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
