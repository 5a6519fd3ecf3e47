"""The plan with torch operations: any device, any dtype, and the second oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.backends.base import Again, BackwardBuffers, ForwardBuffers, PlannedLoop
from elman.backends.ragged import CUT, STOP
from elman.cells.cell import State
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import Node
from elman.compiler.plan import Plan


class Eager:
    """One call of the interpreter a step."""

    name = "eager"

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        return None

    def describe(self, loop: PlannedLoop, dtype: torch.dtype, beside: bool = False) -> str:
        return "as torch shares out each of its operations"

    def source(self, plan: Plan, dtype: torch.dtype, loop: str) -> str:
        return ""

    def stepper(self, plan: Plan, weights: list[Tensor], state: State, again: Again) -> None:
        return None

    def at_once(self, one: PlannedLoop, other: PlannedLoop, dtype: torch.dtype) -> bool:
        return False  # torch runs one operation at a time

    def forward(self, *runs: tuple[Plan, ForwardBuffers]) -> None:
        for run in runs:
            _forward(*run)

    def backward(self, *runs: tuple[Plan, ForwardBuffers, BackwardBuffers]) -> None:
        for run in runs:
            _backward(*run)


def _forward(plan: Plan, buffers: ForwardBuffers) -> None:
    wanted = [*plan.outputs, *(plan.saved if buffers.training else ())]
    _enter(plan, buffers)
    for index in range(buffers.layout.steps):
        start, count = buffers.layout.schedule[index]
        values = _values(plan, buffers, index, _before(plan, buffers, index))
        found = evaluate(wanted, values)
        for part, new in enumerate(found[: len(plan.outputs)]):
            at = index % 2 * buffers.layout.batch if buffers.double_buffered[part] else start
            buffers.states[part][at : at + count] = new
        for buffer, value in zip(buffers.saved, found[len(plan.outputs) :], strict=True):
            buffer[start : start + count] = value


def _backward(plan: Plan, buffers: ForwardBuffers, back: BackwardBuffers) -> None:
    steps = plan.backward
    wanted = [d for d in (*steps.d_states, *steps.stored) if d is not None]
    for index in reversed(range(buffers.layout.steps)):
        start, count = buffers.layout.schedule[index]
        values = _values(plan, buffers, index, _before(plan, buffers, index))
        values |= _kept(plan, buffers, start, count)
        for d, d_out, d_last in zip(
            steps.cotangents, back.d_states, back.d_last_state, strict=True
        ):
            # A copy: `_carry` writes there, and a step may hand one part's gradient to another.
            come = d_last[:count].clone()
            values[d] = come if d_out is None else come + d_out[start : start + count]
        found = dict(zip(wanted, evaluate(wanted, values), strict=True))
        for node, buffer in zip(steps.stored, back.stored, strict=True):
            buffer[start : start + count] = found[node]
        olds = [None if node is None else found[node] for node in steps.d_states]
        _carry(buffers, back, olds, start, count)


def _enter(plan: Plan, buffers: ForwardBuffers) -> None:
    """Compute what enters the loop, for all t at once, where torch has not done it already."""
    if plan.fused:
        values = dict(
            zip((*plan.inputs, *plan.prepared), (*buffers.inputs, *buffers.weights), strict=True)
        )
        buffers.entering[: len(plan.entering)] = evaluate(plan.entering, values)


def unrolled(plan: Plan, buffers: ForwardBuffers) -> tuple[list[Tensor], list[Tensor]]:
    """The forward loop as one graph that torch differentiates, any number of times.

    Returns the states at all rows, in the order of the rows, and the last state.
    """
    layout = buffers.layout
    _enter(plan, buffers)
    state, steps = list(buffers.initial_state), {}
    for index, (start, count) in enumerate(layout.schedule):
        values = _values(
            plan, buffers, index, [_entering(buffers, p, s, index) for p, s in enumerate(state)]
        )
        found = zip(evaluate(plan.outputs, values), plan.states, strict=True)
        # What depends on weights alone has no rows of its own.
        new = [value.expand(count, part.size) for value, part in found]
        steps[start] = new
        state = [torch.cat([n, s[count:]]) for n, s in zip(new, state, strict=True)]
    order = sorted(steps)
    states = [torch.cat([steps[start][p] for start in order]) for p in range(len(state))]
    return states, state


def _entering(buffers: ForwardBuffers, part: int, state: Tensor, index: int) -> Tensor:
    """The state that enters a step, cut and stopped where its flags say so."""
    start, count = buffers.layout.schedule[index]
    old = state[:count]
    if buffers.layout.flags is None:
        return old
    flags = buffers.layout.flags[start : start + count, None]
    old = torch.where((flags & CUT) != 0, buffers.reset_state[part][:count], old)
    return torch.where((flags & STOP) != 0, old.detach(), old)


def _state_before(buffers: ForwardBuffers, part: int, index: int) -> Tensor:
    """[count, S]: the state that enters a step."""
    layout = buffers.layout
    start, count = layout.schedule[index]
    before, had = layout.schedule[index - 1] if index else (0, 0)
    if buffers.double_buffered[part]:
        before = (index - 1) % 2 * layout.batch
    had = min(had, count)
    old = torch.cat(
        [buffers.states[part][before : before + had], buffers.initial_state[part][had:count]]
    )
    if layout.flags is not None:
        cut = (layout.flags[start : start + count, None] & CUT) != 0
        old = torch.where(cut, buffers.reset_state[part][:count], old)
    return old


def _before(plan: Plan, buffers: ForwardBuffers, index: int) -> list[Tensor]:
    return [_state_before(buffers, part, index) for part in range(len(plan.states))]


def _values(
    plan: Plan, buffers: ForwardBuffers, index: int, state: list[Tensor]
) -> dict[Node, Tensor]:
    start, count = buffers.layout.schedule[index]
    values = dict(zip(plan.prepared, buffers.weights, strict=True))
    values |= {
        node: rows[start : start + count]
        for node, rows in zip(plan.rows, buffers.entering, strict=True)
        if rows is not None
    }
    values |= dict(zip(plan.states, state, strict=True))
    if plan.step.mask is not None and buffers.state_mask is not None:
        values[plan.step.mask] = buffers.state_mask[:count]
    return values


def _kept(plan: Plan, buffers: ForwardBuffers, start: int, count: int) -> dict[Node, Tensor]:
    """What the forward loop left: the saved values and the new state."""
    values = dict(zip(plan.outputs, buffers.states, strict=True))
    values |= dict(zip(plan.saved, buffers.saved, strict=True))
    return {node: rows[start : start + count] for node, rows in values.items() if node.is_row}


def _carry(
    buffers: ForwardBuffers,
    back: BackwardBuffers,
    olds: list[Tensor | None],
    start: int,
    count: int,
) -> None:
    """The gradient of the old state goes to the step before, unless it is cut there."""
    for part, d_old in enumerate(olds):
        d_last = back.d_last_state[part]
        d = torch.zeros_like(d_last[:count]) if d_old is None else d_old
        if buffers.layout.flags is not None:
            flags = buffers.layout.flags[start : start + count, None]
            free, cut = (flags & STOP) == 0, (flags & CUT) != 0
            if back.d_reset_state is not None:
                back.d_reset_state[part][:count] += torch.where(free & cut, d, 0)
            d = torch.where(free & ~cut, d, 0)
        d_last[:count] = d
