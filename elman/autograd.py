"""The loops of plans as operations that torch differentiates."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any, Protocol

import torch
from torch import Tensor


class Loops(Protocol):
    """A run whose backward pass is written out: one job, or several together.

    What `tape` returns is the run's own affair.
    """

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Any:
        """Memory for a run on these inputs."""

    def forward(self, tape: Any) -> tuple[Tensor, ...]:
        """Run forward: the results."""

    def forget(self, tape: Any) -> None:
        """Let go of what the backward loop does not read."""

    def passed(self, inputs: Several[Tensor]) -> list[Tensor]:
        """Of the inputs, what `again` takes."""

    def read(self, tape: Any, inputs: Several[Tensor], found: tuple[Tensor, ...]) -> list[Tensor]:
        """What the backward pass reads beside: torch raises where it was changed since."""

    def backward(
        self, tape: Any, d_found: tuple[Tensor | None, ...], wanted: list[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that are wanted."""

    def again(
        self, tape: Any, states: Several[Tensor], d_found: Several[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs as functions that can be differentiated again."""


def differentiable(loops: Loops, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Run them as one operation of torch."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _Scan.apply(loops, *inputs)  # type: ignore[no-untyped-call]
    return loops.forward(loops.tape(inputs, training=False))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loops: Loops, *inputs: Tensor) -> tuple[Tensor, ...]:
        tape = loops.tape(
            tuple([t.detach() if t.requires_grad else t for t in inputs]), training=True
        )
        found = loops.forward(tape)
        ctx.loops, ctx.tape = loops, tape
        loops.forget(tape)
        passed = loops.passed(inputs)
        ctx.save_for_backward(*passed, *loops.read(tape, inputs, found))
        ctx.states = len(passed)
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *d_found: Tensor | None) -> tuple[Tensor | None, ...]:
        loops: Loops = ctx.loops
        kept = ctx.saved_tensors  # raises where an output was changed in place
        if all(d is None for d in d_found):
            return (None,) * len(ctx.needs_input_grad)
        if torch.is_grad_enabled():
            return (None, *loops.again(ctx.tape, kept[: ctx.states], d_found))
        return (None, *loops.backward(ctx.tape, d_found, list(ctx.needs_input_grad[1:])))


def gradients_of(
    found: Several[Tensor], d_found: Several[Tensor | None], inputs: Several[Tensor]
) -> list[Tensor | None]:
    """The gradients of the inputs, None where there is none, as a graph of their own."""
    pairs = [(f, d) for f, d in zip(found, d_found, strict=True) if d is not None]
    wanted = [t for t in inputs if t.requires_grad]
    grads = torch.autograd.grad(
        [f for f, _ in pairs], wanted, [d for _, d in pairs], create_graph=True, allow_unused=True
    )
    by_input = {id(t): g for t, g in zip(wanted, grads, strict=True)}
    return [by_input.get(id(t)) for t in inputs]
