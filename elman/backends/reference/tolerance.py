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
    run: the same for any cell over any number of steps, with ``run_errors``.
    check: of a kernel beside the eager backend (ELMAN_CHECK=1), relative to the largest number.
    """

    element: float
    kernel: float
    kernel_errors: int
    run: float
    run_errors: int
    check: float


TOLERANCE: dict[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(
        element=1e-12, kernel=1e-11, kernel_errors=0, run=1e-9, run_errors=0, check=1e-9
    ),
    torch.float32: Tolerance(
        element=2e-6, kernel=2e-6, kernel_errors=4, run=1e-4, run_errors=8, check=2e-4
    ),
    torch.bfloat16: Tolerance(
        element=3e-2, kernel=2e-2, kernel_errors=4, run=2e-2, run_errors=8, check=2e-2
    ),
    torch.float16: Tolerance(
        element=4e-3, kernel=2e-2, kernel_errors=4, run=2e-2, run_errors=8, check=2e-2
    ),
}


def first_index(wrong: Tensor) -> tuple[int, ...]:
    """The first index at which a bool tensor is true."""
    return tuple(int(i) for i in wrong.nonzero()[0])


def largest(values: Tensor) -> float:
    """The largest of the finite values; 1 where there is none but 0."""
    finite = values[values.isfinite()]
    return (float(finite.abs().max()) if finite.numel() else 1.0) or 1.0


@dataclass(frozen=True)
class Difference:
    """Where two tensors first lie too far apart, both values there, and how many do in all."""

    at: tuple[int, ...]
    found: float
    expected: float
    wrong: int
    count: int
    limit: float
    greatest: float

    def __str__(self) -> str:
        return (
            f"{self.found:.9g} at {self.at}, expected {self.expected:.9g}; {self.wrong} of "
            f"{self.count} differ by more than {self.limit:.2g}, by {self.greatest:.2g} at most"
        )


def difference(found: Tensor, expected: Tensor, limit: float | Tensor) -> Difference | None:
    """Where two tensors of one shape first lie further apart than ``limit``; None where they do
    not. NaN agrees with NaN alone, and infinity with itself alone."""
    off = (found.double() - expected.double()).abs()
    same = (found == expected) | (found.isnan() & expected.isnan())
    wrong = ~((off <= limit) & off.isfinite() | same)
    if not bool(wrong.any()):
        return None
    at = first_index(wrong)
    return Difference(
        at=at,
        found=found[at].item(),
        expected=expected[at].item(),
        wrong=int(wrong.sum()),
        count=wrong.numel(),
        limit=float(limit[at]) if isinstance(limit, Tensor) else limit,
        greatest=float(off[wrong].max()),
    )
