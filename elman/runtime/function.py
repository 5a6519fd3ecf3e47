"""The loops of plans as operations that torch differentiates."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any, Protocol

import torch
from torch import Tensor

from elman.backends.gradients import saved_tensors, transforming
from elman.backends.operands import resolved


class Loops(Protocol):
    """A run whose backward pass is written out: one job, or several together.

    What `tape` returns is the run's own affair.
    """

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Any:
        """Memory for a run on these inputs."""

    def forward(self, tape: Any) -> tuple[Tensor, ...]:
        """Run forward: the results."""

    def unrolled(self, inputs: Several[Tensor]) -> tuple[Tensor, ...]:
        """The results as one graph of torch's own operations."""

    def kept(self, tape: Any, inputs: Several[Tensor], found: Several[Tensor]) -> list[Tensor]:
        """All that the backward pass reads."""

    def released(self, tape: Any) -> Loops:
        """The run that the backward pass takes up again: without the caller's tensors."""

    def restored(self, kept: Several[Tensor]) -> Any:
        """The tape of the run, from what was kept of it."""

    def backward(
        self, tape: Any, d_found: Several[Tensor | None], wanted: list[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that are wanted."""

    def again(
        self, kept: Several[Tensor], d_found: Several[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs as functions that can be differentiated again."""


def differentiable(loops: Loops, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Run them as one operation of torch."""
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in inputs):
        return loops.forward(loops.tape(inputs, training=False))
    if transforming():  # torch.func has to see every operation
        return loops.unrolled(inputs)
    return _Scan.apply(loops, *inputs)  # type: ignore[no-untyped-call]


class _Scan(torch.autograd.Function):
    """What the backward pass reads is kept by torch, and by nothing else: it is freed with the
    graph, and hooks on saved tensors and `torch.utils.checkpoint` have their say."""

    @staticmethod
    def forward(ctx: Any, loops: Loops, *inputs: Tensor) -> tuple[Tensor, ...]:
        tape = loops.tape(
            tuple([t.detach() if t.requires_grad else t for t in inputs]), training=True
        )
        found = loops.forward(tape)
        ctx.loops = loops.released(tape)
        ctx.save_for_backward(*loops.kept(tape, inputs, found))
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *d_found: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(d is None for d in d_found):
            return (None,) * len(ctx.needs_input_grad)
        loops: Loops = ctx.loops
        kept = saved_tensors(ctx)
        d_found = tuple([d if d is None else resolved(d) for d in d_found])
        if torch.is_grad_enabled() or transforming(*d_found):
            return (None, *loops.again(kept, d_found))
        tape = loops.restored(kept)
        return (None, *loops.backward(tape, d_found, list(ctx.needs_input_grad[1:])))
