"""ELMAN_CHECK=1: every run of a backend beside the same run of the eager one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elman import settings
from elman.backends.base import Again, BackwardBuffers, Engine, ForwardBuffers, PlannedLoop
from elman.backends.ragged import RaggedLayout
from elman.backends.reference.eager import Eager
from elman.backends.reference.tolerance import TOLERANCE, difference, largest
from elman.cells.cell import State
from elman.compiler.ir.nodes import Node
from elman.compiler.plan import Plan
from elman.errors import CheckError


def checked(engine: Engine) -> Engine:
    """The engine itself; with ELMAN_CHECK=1 one that compares each of its runs."""
    compared: Engine = Checked(engine, engine.name)
    return compared if settings.check() else engine


@dataclass
class Checked:
    """Runs a plan on an engine and on the eager backend.

    Raises CheckError with the tensor, the first place that differs, and both values.
    """

    engine: Engine
    name: str

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        return self.engine.refuses(plan, like)

    def describe(self, loop: PlannedLoop, dtype: torch.dtype, beside: bool = False) -> str:
        return self.engine.describe(loop, dtype, beside)

    def source(self, plan: Plan, dtype: torch.dtype, loop: str) -> str:
        return self.engine.source(plan, dtype, loop)

    def stepper(self, plan: Plan, weights: list[Tensor], state: State, again: Again) -> None:
        return None  # a sequence of one step is compared

    def at_once(self, one: PlannedLoop, other: PlannedLoop, dtype: torch.dtype) -> bool:
        return self.engine.at_once(one, other, dtype)

    def forward(self, *runs: tuple[Plan, ForwardBuffers]) -> None:
        twins = [_twin(buffers) for _, buffers in runs]
        self.engine.forward(*runs)
        for (plan, buffers), twin in zip(runs, twins, strict=True):
            Eager().forward((plan, twin))
            self._same_forward(plan, buffers, twin)

    def backward(self, *runs: tuple[Plan, ForwardBuffers, BackwardBuffers]) -> None:
        twins = [_back_twin(back) for *_, back in runs]
        self.engine.backward(*runs)
        for (plan, buffers, back), twin in zip(runs, twins, strict=True):
            Eager().backward((plan, buffers, twin))
            self._same_backward(plan, buffers.layout, back, twin)

    def _same_forward(self, plan: Plan, buffers: ForwardBuffers, twin: ForwardBuffers) -> None:
        for state, found, right, ring in zip(
            plan.states, buffers.states, twin.states, buffers.double_buffered, strict=True
        ):
            layout = None if ring else buffers.layout
            self._same(plan, f"state {state.attrs['name']}", found, right, layout)
        saved = zip(plan.saved if buffers.training else (), buffers.saved, twin.saved, strict=True)
        self._rows(plan, buffers.layout, "saved", saved)

    def _same_backward(
        self, plan: Plan, layout: RaggedLayout, back: BackwardBuffers, twin: BackwardBuffers
    ) -> None:
        stored = zip(plan.backward.stored, back.stored, twin.stored, strict=True)
        self._rows(plan, layout, "stored", stored)
        for kind, found, right in (
            ("d_", back.d_last_state, twin.d_last_state),
            ("d_initial_", back.d_reset_state or (), twin.d_reset_state or ()),
        ):
            for state, one, two in zip(plan.states, found, right, strict=False):
                self._same(plan, f"{kind}{state.attrs['name']}", one, two, None)

    def _rows(
        self,
        plan: Plan,
        layout: RaggedLayout,
        kind: str,
        pairs: Iterable[tuple[Node, Tensor, Tensor]],
    ) -> None:
        for number, (node, found, right) in enumerate(pairs):
            self._same(plan, f"{kind} {number} ({node.op} {node.line})", found, right, layout)

    def _same(
        self, plan: Plan, what: str, found: Tensor, right: Tensor, layout: RaggedLayout | None
    ) -> None:
        limit = TOLERANCE[right.dtype].check * largest(right)
        wrong = difference(found, right, limit)
        if wrong is None:
            return
        row, unit = wrong.at
        where = f"(b, h) = ({row}, {unit})"
        if layout is not None:
            where = "(t, b, h) = ({}, {}, {})".format(*_step_of(layout, row), unit)
        raise CheckError(
            f"{plan.step.cell} on {self.name}: {what} at {where} is {wrong.found:.9g}, on eager "
            f"{wrong.expected:.9g}; run it with backend='eager' to go on, and with "
            "ELMAN_DUMP=folder to keep the code"
        )


def _step_of(layout: RaggedLayout, row: int) -> tuple[int, int]:
    """The step and the sequence, as they came in, of a row."""
    at = row if layout.source is None else int(layout.source[row])
    return divmod(at, layout.batch)


def _twin(buffers: ForwardBuffers) -> ForwardBuffers:
    entering = list(buffers.entering)
    return replace(
        buffers, entering=entering, states=_twins(buffers.states), saved=_twins(buffers.saved)
    )


def _back_twin(back: BackwardBuffers) -> BackwardBuffers:
    reset = None if back.d_reset_state is None else [d.clone() for d in back.d_reset_state]
    last = [d.clone() for d in back.d_last_state]
    return replace(back, d_last_state=last, d_reset_state=reset, stored=_twins(back.stored))


def _twins(buffers: Sequence[Tensor]) -> list[Tensor]:
    """Buffers like these, all full of NaN: what one backend alone writes is seen."""
    return [torch.full_like(buffer.fill_(torch.nan), torch.nan) for buffer in buffers]
