"""Backpropagation over a long sequence in the memory of a short one.

The forward pass keeps the state at the borders of segments alone; the backward pass runs each
segment once more, with everything that its own backward loop needs, and forgets it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from elman.backends import limits
from elman.backends.gradients import (
    aliases,
    gradients_of,
    saved_tensors,
    split,
    transforming,
)
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import State


def segment_length(memory: str | int, steps: int, bytes_per_step: int) -> int | None:
    """How many steps a segment has under this memory option; None: no segments.

    bytes_per_step: what saving takes for each step of the whole batch.
    """
    if memory == "save" or steps < 2:
        return None
    if memory == "recompute":
        return math.isqrt(steps - 1) + 1
    budget = memory_budget(memory)
    if steps * bytes_per_step <= budget:
        return None
    return max(1, budget // bytes_per_step)


def memory_budget(memory: str | int) -> int:
    """How many bytes "auto", or a number of bytes, lets a run keep for its backward pass."""
    return _quarter() if memory == "auto" else int(memory)


def _quarter() -> int:
    """A quarter of the memory that this process may use, in bytes."""
    return limits.memory() // 4


Run = Callable[
    [dict[str, Tensor], Tensor, State, SequenceInfo, Regularisation], tuple[State, State]
]


def in_segments(
    run: Run,
    length: int,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    noise: Regularisation,
    reverse: bool,
    initial: Callable[[], State],
) -> tuple[State, State]:
    """``run`` over x: [T, B, I] in segments of ``length`` steps, as if over all of it at once.

    initial: the state that a reset goes to.
    """
    T = len(x)
    if sequence.truncate is not None:  # borders of truncation stay where they were
        length = max(1, length // sequence.truncate) * sequence.truncate
    first = (T - 1) % length + 1 if reverse else length
    starts = [0, *range(first, T, length)]
    sizes = [b - a for a, b in zip(starts, [*starts[1:], T], strict=True)]
    pieces = list(zip(starts, torch.split(x, sizes), strict=True))
    found: list[State] = []
    for start, piece in reversed(pieces) if reverse else pieces:
        stop = start + len(piece)
        if reverse and stop < T:
            state = _cut(state, sequence, stop, initial)
        here = _sequence(sequence, start, stop), _noise(noise, start, stop)
        states, state = _segment(run, weights, piece, state, *here)
        found.append(states)
    if reverse:
        found.reverse()
    return tuple(torch.cat(part) for part in zip(*found, strict=True)), state


def _sequence(sequence: SequenceInfo, start: int, stop: int) -> SequenceInfo:
    lengths, reset = sequence.lengths, sequence.reset
    return replace(
        sequence,
        lengths=None if lengths is None else (lengths - start).clamp(0, stop - start),
        reset=None if reset is None else reset[start:stop],
    )


def _noise(noise: Regularisation, start: int, stop: int) -> Regularisation:
    parts = (z[start:stop] if isinstance(z, Tensor) else z for z in noise.zoneout)
    return replace(noise, zoneout=tuple(parts))


def _cut(state: State, sequence: SequenceInfo, t: int, initial: Callable[[], State]) -> State:
    """The state that goes from step t back to the one before it."""
    if sequence.reset is None:
        return state
    cut = sequence.reset[t]
    if sequence.lengths is not None:
        cut = cut & (t < sequence.lengths)
    return tuple(
        torch.where(cut[..., None], own, s) for own, s in zip(initial(), state, strict=True)
    )


def _segment(
    run: Run,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    noise: Regularisation,
) -> tuple[State, State]:
    names, parts, truncate = list(weights), len(state), sequence.truncate
    # Tensors are inputs of the operation, so that torch keeps them, and nothing else does.
    extras = (sequence.lengths, sequence.reset, noise.state_mask, *noise.zoneout)
    numbers = tuple([None if isinstance(extra, Tensor) else extra for extra in extras])
    masks = {place: extra for place, extra in enumerate(extras) if isinstance(extra, Tensor)}
    places = tuple(masks)

    def again(*inputs: Tensor) -> tuple[Tensor, ...]:
        x, state, values, tensors = split(inputs, (1, parts, len(names), len(places)))
        given: list[Any] = list(numbers)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        lengths, reset, mask, *zoneout = given
        states, last = run(
            dict(zip(names, values, strict=True)), x[0], state,
            SequenceInfo(lengths, reset, truncate), Regularisation(mask, tuple(zoneout)),
        )  # fmt: skip
        return (*states, *last)

    inputs = (x, *state, *weights.values(), *masks.values())
    # torch.func has to see every operation.
    found = again(*inputs) if transforming() else _Again.apply(again, *inputs)  # type: ignore[no-untyped-call]
    return found[:-parts], found[-parts:]


class _Again(torch.autograd.Function):
    """A function that is run again when its gradient is wanted."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> Any:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return function(*(t.detach() for t in inputs))

    @staticmethod
    def backward(ctx: Any, *d_found: Tensor | None) -> Any:
        kept, again = saved_tensors(ctx), torch.is_grad_enabled()
        with torch.enable_grad():
            if again or transforming(*d_found):
                inputs = aliases(kept)
            else:
                needed = ctx.needs_input_grad[1:]
                inputs = [t.detach().requires_grad_(n) for t, n in zip(kept, needed, strict=True)]
            found = ctx.function(*inputs)
        return None, *gradients_of(found, d_found, inputs)
