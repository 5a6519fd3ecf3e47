"""What is known of a batch of sequences, and what regularisers do to them inside the loop."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from elman.errors import ShapeError


@dataclass(frozen=True)
class SequenceInfo:
    """What is known of a batch of sequences beside their values.

    lengths: [B] int64, the valid steps of each; None: all.
    reset: [T, B] bool, a cut before step t that nothing is carried across; None: no cut.
    truncate: k, so that no gradient flows back more than k steps; None: all the way.
    """

    lengths: Tensor | None = None
    reset: Tensor | None = None
    truncate: int | None = None
    #: What backends have made of it, under keys of their own.
    made_of: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def valid(self, steps: int) -> Tensor | None:
        """[T, B, 1] bool: which steps are inside their sequence."""
        if self.lengths is None:
            return None
        t = torch.arange(steps, device=self.lengths.device)
        return (t[:, None] < self.lengths)[..., None]

    def fill(self, x: Tensor) -> Tensor:
        """x: [T, B, I] with each sequence's own first step repeated past its end.

        A step may divide by x or take its logarithm: a value that it is made for harms no
        gradient, where a zero may. Sequences without a step are filled with ones.
        """
        valid = self.valid(x.shape[0])
        if valid is None or not len(x):
            return x
        return torch.where(valid, x, torch.where(valid[0], x[0], 1).detach())

    def mask(self, x: Tensor) -> Tensor:
        """x: [T, B, ...] with zeros past the end of each sequence."""
        valid = self.valid(x.shape[0])
        return x if valid is None else torch.where(valid, x, x.new_zeros(()))


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """x: [T, B, ...] with the valid steps of each sequence from the last to the first.

    Padding stays where it is.
    """
    t = torch.arange(len(x), device=x.device)[:, None]
    order = torch.where(t < lengths, lengths - 1 - t, t)
    return x[order, torch.arange(x.shape[1], device=x.device)]


def check_lengths(lengths: Tensor, steps: int) -> None:
    """Raise ShapeError where a length is not one of 0 ... steps."""
    wrong = (lengths < 0) | (lengths > steps)
    if wrong.any():
        b = int(wrong.nonzero()[0])
        raise ShapeError(f"lengths must lie in 0 ... T = {steps}, got {int(lengths[b])} at b={b}")


@dataclass(frozen=True)
class Regularisation:
    """What regularisers do inside the loop, drawn before it.

    state_mask: [B, S] factors on the output part of the state where it enters a product.
    zoneout: for each part [T, B, S] bool, which units keep their old value; or a rate in [0, 1),
        the share of the old value that stays (evaluation); or None. Empty: none for any part.
    """

    state_mask: Tensor | None = None
    zoneout: tuple[Tensor | float | None, ...] = field(default=())
