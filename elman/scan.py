"""The one border between torch and the engine that runs a cell over time."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.backends.choose import AUTOMATIC, Choice, Execution, choose
from elman.backends.literal import literal_loop
from elman.backends.segments import in_segments, segment_length
from elman.cells.cell import Cell, State
from elman.job import Compiled
from elman.sequence import Noise, Sequence

__all__ = ["Execution", "Noise", "Sequence", "scan"]


def scan(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    *,
    sequence: Sequence | None = None,
    noise: Noise | None = None,
    reverse: bool = False,
    all_states: bool = False,
    execution: Execution = AUTOMATIC,
) -> tuple[State, State]:
    """Run a cell over time.

        for t in 0 ... T-1, or T-1 ... 0 where reverse:
            old   = initial where a cut lies between this step and the one before, else state
            old   = stop_gradient(old) where the number of steps done is a multiple of truncate
            new   = zoneout(step(x[t], *old), old)
            state = new where t < lengths, else state
            states[t] = new where t < lengths, else 0

    x: [T, B, I]   state: parts [B, S]   ->   (states: parts [T, B, S], state: parts [B, S])
    weights: what stands in place of the cell's parameters, as `weights_of` names them.
    all_states: return every part at every step, not the first alone.
    execution: which backend runs it.

    Raises ShapeError where the step returns a state of other shapes than it was given, and
    BackendError where the backend that was asked for cannot run it.
    """
    sequence, noise = sequence or Sequence(), noise or Noise()
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        x, state = like_weights(weights, x, state)
        with torch.autocast(x.device.type, enabled=False):
            return scan(
                cell, weights, x, state, sequence=sequence, noise=noise, reverse=reverse,
                all_states=all_states, execution=execution,
            )  # fmt: skip
    choice = choose(cell, weights, x, state, noise, execution)

    def run(
        weights: dict[str, Tensor], x: Tensor, state: State, sequence: Sequence, noise: Noise
    ) -> tuple[State, State]:
        if choice.plan is None or choice.engine is None:
            return literal_loop(cell, weights, x, state, sequence, noise, reverse, all_states)
        compiled = Compiled(cell, choice.plan, choice.engine, weights)
        return compiled.run(x, state, sequence, noise, reverse, all_states)

    length = _segments(choice, weights, x, state, sequence, reverse, execution.memory)
    if length is None:
        return run(weights, x, state, sequence, noise)
    batch = tuple(x.shape[1:-1])
    return in_segments(
        run, length, weights, x, state, sequence, noise, reverse,
        lambda: cell.initial_state(batch, x),
    )  # fmt: skip


def like_weights(weights: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    """x and the state in the precision of the weights, which is no less than autocast's: the one
    that kernels compute in."""
    kind = next((w.dtype for w in weights.values() if w.is_floating_point()), x.dtype)
    return x.to(kind), tuple([s.to(kind) for s in state])


def _segments(
    choice: Choice,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: Sequence,
    reverse: bool,
    memory: str | int,
) -> int | None:
    """How many steps to keep at once for the backward pass; None: all."""
    wanted = (x, *state, *weights.values())
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in wanted):
        return None
    if reverse and sequence.lengths is not None and sequence.truncate is not None:
        return None  # each row counts from its own end: the borders are not those of segments
    plan = choice.plan
    sizes = sum(s.shape[-1] for s in state)
    # The literal loop keeps every value that it comes by: several for each that a plan keeps.
    row = 8 * sizes * x.element_size() if plan is None else plan.bytes_per_row(x.element_size())
    return segment_length(memory, len(x), row * (x[0].numel() // x.shape[-1] if len(x) else 0))
