"""From the step of a cell to its plan: every pass, in order."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.cells.cell import Cell
from elman.compiler.ir.nodes import Step
from elman.compiler.ir.verify import verify
from elman.compiler.passes.simplify import simplify_step
from elman.compiler.plan import PLAIN, Plan, Zoneout, make_plan
from elman.compiler.printing.report import explain, step_text
from elman.compiler.trace.tracer import trace
from elman.compiler.trace.untraced import untraced
from elman.settings import PASSES, PLAN, tell, timed


def compile_cell(
    cell: Cell,
    weights: dict[str, Tensor] | None = None,
    *,
    dtype: torch.dtype | None = None,
    masked: bool = False,
    zoneout: Zoneout = PLAIN,
    streamed: bool = False,
) -> Plan:
    """The plan of a cell: trace, simplify, hoist, differentiate, choose what to save.

    weights, dtype: see `trace`. masked: with state dropout. streamed: for one step at a time, see
    `make_plan`.

    Raises UnsupportedError for an operation that has no rule.
    """
    name = type(cell).__name__
    with timed(f"{name}, trace"), untraced():
        step = trace(cell, weights, masked=masked, dtype=dtype)
    _check("trace", step)
    with timed(f"{name}, simplify"):
        step = simplify_step(step)
    _check("simplify", step)
    with timed(f"{name}, hoist"):
        plan = make_plan(step, zoneout, streamed)
    verify(plan.outputs)
    if streamed:
        return plan
    with timed(f"{name}, differentiate"):
        backward = plan.backward
    verify([d for d in (*backward.d_states, *backward.stored) if d is not None])
    tell(PLAN, f"{name}, the plan", lambda: str(explain(plan)))
    return plan


def _check(done: str, step: Step) -> None:
    verify(step.outputs)
    tell(PASSES, f"{step.cell} after {done}", lambda: step_text(step))
