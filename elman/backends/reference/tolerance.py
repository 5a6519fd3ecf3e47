"""How far two computations of the same numbers may lie apart, and where they first do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Limits for one dtype.

    element: of one number that is computed in two ways, absolutely and relative to it.
    kernel: of a kernel's result on a test's problem, relative to the largest number of its tensor,
        and ``kernel_errors`` times as far as the literal loop in this dtype lies from float64.
    run: the same of any run over time, of any cell; with ``run_errors``.
    check: of a kernel beside the eager backend (ELMAN_CHECK=1), relative to the largest number.
    """

    element: float
    kernel: float
    kernel_errors: int
    run: float
    run_errors: int
    check: float


TOLERANCE: dict[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(1e-12, 1e-11, 0, 1e-9, 0, 1e-9),
    torch.float32: Tolerance(2e-6, 2e-6, 4, 1e-4, 8, 2e-4),
    torch.bfloat16: Tolerance(3e-2, 2e-2, 4, 2e-2, 8, 2e-2),
    torch.float16: Tolerance(4e-3, 2e-2, 4, 2e-2, 8, 2e-2),
}


def first(wrong: Tensor) -> tuple[int, ...]:
    """The first index at which a bool tensor is true."""
    return tuple(int(i) for i in wrong.nonzero()[0])


def difference(found: Tensor, right: Tensor, limit: float) -> str:
    """Where two tensors of one shape first lie further apart than ``limit``, in words; "" where
    they do not. NaN lies apart from everything but NaN."""
    off = (found.double() - right.double()).abs()
    wrong = ~((off <= limit) | (found == right) | (found.isnan() & right.isnan()))
    if not bool(wrong.any()):
        return ""
    at = first(wrong)
    return (
        f"{found[at].item():.9g} at {at}, expected {right[at].item():.9g}; {int(wrong.sum())} of "
        f"{wrong.numel()} differ by more than {limit:.2g}, by {float(off.max()):.2g} at most"
    )
