"""From the step of a cell to its plan: every pass, in order."""

from __future__ import annotations

from elman.cells.cell import Cell
from elman.compiler.plan import Plan, Zoneout, make_plan
from elman.compiler.simplify import simplify_step
from elman.compiler.trace import trace
from elman.compiler.verify import verify


def compile_cell(cell: Cell, *, masked: bool = False, zoneout: Zoneout = Zoneout()) -> Plan:
    """The plan of a cell: trace, simplify, hoist, differentiate, choose what to save.

    masked: with state dropout. Raises UnsupportedError for an operation that has no rule.
    """
    step = trace(cell, masked)
    verify(step.outputs)
    step = simplify_step(step)
    verify(step.outputs)
    plan = make_plan(step, zoneout)  # hoists
    backward = plan.backward  # differentiates
    verify([d for d in (*backward.d_states, *backward.stored) if d is not None])
    return plan
