"""The plan with torch operations: any device, any dtype, and the second oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.backends.base import BackTape, Planned, Tape
from elman.backends.ragged import CUT, STOP
from elman.compiler.interpret import evaluate
from elman.compiler.ir import Node
from elman.compiler.plan import Plan


class Eager:
    """One call of the interpreter a step."""

    name = "eager"

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        return None

    def at_once(self, one: Planned, other: Planned, dtype: torch.dtype) -> bool:
        return False  # torch runs one operation at a time

    def forward(self, *runs: tuple[Plan, Tape]) -> None:
        for run in runs:
            _forward(*run)

    def backward(self, *runs: tuple[Plan, Tape, BackTape]) -> None:
        for run in runs:
            _backward(*run)


def _forward(plan: Plan, tape: Tape) -> None:
    wanted = [*plan.outputs, *(plan.saved if tape.training else ())]
    _enter(plan, tape)
    for index in range(tape.walk.steps):
        start, count = tape.walk.schedule[index]
        values = _values(plan, tape, index, _before(plan, tape, index))
        found = evaluate(wanted, values)
        for part, new in enumerate(found[: len(plan.outputs)]):
            at = index % 2 * tape.walk.batch if tape.rings[part] else start
            tape.states[part][at : at + count] = new
        for buffer, value in zip(tape.saved, found[len(plan.outputs) :], strict=True):
            buffer[start : start + count] = value


def _backward(plan: Plan, tape: Tape, back: BackTape) -> None:
    steps = plan.backward
    wanted = [d for d in (*steps.d_states, *steps.stored) if d is not None]
    for index in reversed(range(tape.walk.steps)):
        start, count = tape.walk.schedule[index]
        values = _values(plan, tape, index, _before(plan, tape, index))
        values |= _kept(plan, tape, start, count)
        for d, d_out, d_last in zip(steps.cotangents, back.d_states, back.d_last, strict=True):
            # A copy: `_carry` writes there, and a step may hand one part's gradient to another.
            come = d_last[:count].clone()
            values[d] = come if d_out is None else come + d_out[start : start + count]
        found = dict(zip(wanted, evaluate(wanted, values), strict=True))
        for node, buffer in zip(steps.stored, back.stored, strict=True):
            buffer[start : start + count] = found[node]
        olds = [None if node is None else found[node] for node in steps.d_states]
        _carry(tape, back, olds, start, count)


def _enter(plan: Plan, tape: Tape) -> None:
    """Compute what enters the loop, for all t at once, where torch has not done it already."""
    if plan.fused:
        values = dict(
            zip((*plan.inputs, *plan.prepared), (*tape.inputs, *tape.weights), strict=True)
        )
        tape.entering[: len(plan.entering)] = evaluate(plan.entering, values)


def unrolled(plan: Plan, tape: Tape) -> tuple[list[Tensor], list[Tensor]]:
    """The forward loop as one graph that torch differentiates, any number of times.

    Returns the states at all rows, in the order of the rows, and the last state.
    """
    walk = tape.walk
    _enter(plan, tape)
    state, steps = list(tape.given), {}
    for index, (start, count) in enumerate(walk.schedule):
        values = _values(
            plan, tape, index, [_entering(tape, p, s, index) for p, s in enumerate(state)]
        )
        found = zip(evaluate(plan.outputs, values), plan.states, strict=True)
        # What depends on weights alone has no rows of its own.
        new = [value.expand(count, part.size) for value, part in found]
        steps[start] = new
        state = [torch.cat([n, s[count:]]) for n, s in zip(new, state, strict=True)]
    order = sorted(steps)
    states = [torch.cat([steps[start][p] for start in order]) for p in range(len(state))]
    return states, state


def _entering(tape: Tape, part: int, state: Tensor, index: int) -> Tensor:
    """The state that enters a step, cut and stopped where the walk says so."""
    start, count = tape.walk.schedule[index]
    old = state[:count]
    if tape.walk.flags is None:
        return old
    flags = tape.walk.flags[start : start + count, None]
    old = torch.where((flags & CUT) != 0, tape.own[part][:count], old)
    return torch.where((flags & STOP) != 0, old.detach(), old)


def _state_before(tape: Tape, part: int, index: int) -> Tensor:
    """[count, S]: the state that enters a step of the walk."""
    walk = tape.walk
    start, count = walk.schedule[index]
    before, had = walk.schedule[index - 1] if index else (0, 0)
    if tape.rings[part]:
        before = (index - 1) % 2 * walk.batch
    had = min(had, count)
    old = torch.cat([tape.states[part][before : before + had], tape.given[part][had:count]])
    if walk.flags is not None:
        cut = (walk.flags[start : start + count, None] & CUT) != 0
        old = torch.where(cut, tape.own[part][:count], old)
    return old


def _before(plan: Plan, tape: Tape, index: int) -> list[Tensor]:
    return [_state_before(tape, part, index) for part in range(len(plan.states))]


def _values(plan: Plan, tape: Tape, index: int, state: list[Tensor]) -> dict[Node, Tensor]:
    start, count = tape.walk.schedule[index]
    values = dict(zip(plan.prepared, tape.weights, strict=True))
    values |= {
        node: rows[start : start + count]
        for node, rows in zip(plan.rows, tape.entering, strict=True)
        if rows is not None
    }
    values |= dict(zip(plan.states, state, strict=True))
    if plan.step.mask is not None and tape.mask is not None:
        values[plan.step.mask] = tape.mask[:count]
    return values


def _kept(plan: Plan, tape: Tape, start: int, count: int) -> dict[Node, Tensor]:
    """What the forward loop left: the saved values and the new state."""
    values = dict(zip(plan.outputs, tape.states, strict=True))
    values |= dict(zip(plan.saved, tape.saved, strict=True))
    return {node: rows[start : start + count] for node, rows in values.items() if node.is_row}


def _carry(tape: Tape, back: BackTape, olds: list[Tensor | None], start: int, count: int) -> None:
    """The gradient of the old state goes to the step before, unless it is cut there."""
    for part, d_old in enumerate(olds):
        d_last = back.d_last[part]
        d = torch.zeros_like(d_last[:count]) if d_old is None else d_old
        if tape.walk.flags is not None:
            flags = tape.walk.flags[start : start + count, None]
            free, cut = (flags & STOP) == 0, (flags & CUT) != 0
            if back.d_own is not None:
                back.d_own[part][:count] += torch.where(free & cut, d, 0)
            d = torch.where(free & ~cut, d, 0)
        d_last[:count] = d
