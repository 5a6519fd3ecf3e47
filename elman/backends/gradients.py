"""What all operations with a backward pass of their own have in common."""

from __future__ import annotations

from collections.abc import Sequence as Several
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from elman.backends.operands import is_freed
from elman.errors import ShapeError

V = TypeVar("V")


def transforming(*tensors: Tensor | None) -> bool:
    """Whether one of torch.func's transforms is at work, or one of the tensors is a batch of
    gradients (``is_grads_batched``): torch runs each of its operations in its own way then, and
    knows none but these."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(t is not None and is_batched(t) for t in tensors)


def saved_tensors(ctx: Any) -> tuple[Tensor, ...]:
    """What an operation has saved; raises RuntimeError where it was changed in place since."""
    try:
        kept: tuple[Tensor, ...] = ctx.saved_tensors
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise RuntimeError(
            f"{error} The backward pass of an elman layer reads its outputs, its input, its state "
            "and its weights: change a copy of them, as in y = y + x or F.relu(y), not y += x or "
            "F.relu_(y)."
        ) from None
    for tensor in kept:
        if is_freed(tensor):
            raise ShapeError(
                f"the memory of what an elman layer saved for its backward pass, "
                f"{list(tensor.shape)} {tensor.dtype}, has been freed (its storage was resized to "
                "0): free outputs, inputs and weights after backward()"
            )
    return kept


def aliases(tensors: Several[Tensor]) -> list[Tensor]:
    """The same values, of which none depends on another.

    Gradients with respect to the tensors themselves would count a path twice wherever one of
    them was computed from another: a state from the weights, an input from a former output.
    """
    return [t.view_as(t) if t.requires_grad else t for t in tensors]


def gradients_of(
    found: Several[Tensor], d_found: Several[Tensor | None], inputs: Several[Tensor]
) -> list[Tensor | None]:
    """The gradients of the inputs, None where there is none; where torch records what is done now,
    they can be differentiated again.

    inputs: `aliases` of what was passed in, or leaves, from which ``found`` was computed.
    """
    pairs = [
        (f, d) for f, d in zip(found, d_found, strict=True) if d is not None and f.requires_grad
    ]
    wanted = [t for t in inputs if t.requires_grad]
    if not pairs or not wanted:
        return [None] * len(inputs)
    results, cotangents = zip(*pairs, strict=True)
    again = torch.is_grad_enabled()
    grads = iter(
        torch.autograd.grad(results, wanted, cotangents, create_graph=again, allow_unused=True)
    )
    return [next(grads) if t.requires_grad else None for t in inputs]


def split(flat: Several[V], counts: Several[int]) -> list[tuple[V, ...]]:
    """One after the other, so many each."""
    return [tuple(flat[a:b]) for a, b in pairwise(accumulate(counts, initial=0))]
