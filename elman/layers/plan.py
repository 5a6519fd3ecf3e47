"""What a layer would run, and why: ``layer.plan()``."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from elman.backends.base import PlannedLoop
from elman.backends.ragged import ragged_layout
from elman.cells.cell import Cell, like_of
from elman.compiler.plan import Plan
from elman.compiler.printing.report import Explanation, explain, section
from elman.layers.regularisers import Regularisers
from elman.runtime.dispatch import Choice, choose
from elman.runtime.scan import Execution, SequenceInfo


@dataclass(frozen=True)
class CellPlan:
    """What runs one cell over time in one direction.

    place: where it stands in the layer, as "layers.0.forward_layer" or "l0_reverse".
    backend: "llvm", "eager", "loop" (the literal loop), or "torch" (torch's own fused kernels).
    reason: why that is not the fastest backend; "" where it is.
    threads: how they share the work at this batch size.
    bytes_per_step: memory kept for the backward pass, for each step of each row of the batch,
        beside the outputs; 0 without a gradient, and for the literal loop, where torch decides.
    page: the equations of the plan; None for the literal loop, which has none.
    choice: what `scan` runs, with its plan.
    """

    place: str
    cell: str
    backend: str
    reason: str
    dtype: torch.dtype
    device: torch.device
    training: bool
    threads: str
    bytes_per_step: int
    page: Explanation | None
    choice: Choice = field(repr=False)

    @property
    def hoisted(self) -> tuple[str, ...]:
        """What is computed for all t at once, before the loop."""
        return () if self.page is None else self.page.hoisted

    @property
    def in_loop(self) -> tuple[str, ...]:
        """The matrix products that wait for the step before, and for what of it."""
        return () if self.page is None else self.page.in_loop

    @property
    def saved(self) -> tuple[str, ...]:
        """What the forward loop keeps for the backward loop."""
        return () if self.page is None or not self.training else self.page.saved

    @property
    def recomputed(self) -> tuple[str, ...]:
        """What the backward loop computes again instead."""
        return () if self.page is None or not self.training else self.page.recomputed

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        mode = "training" if self.training else "inference"
        kind = str(self.dtype).removeprefix("torch.")
        head = f"{where}{self.cell} on {self.backend}, {kind}, {self.device}, {mode}"
        lines = [f"why not the fastest: {self.reason}"] if self.reason else []
        lines += [f"threads: {self.threads}"] if self.threads else []
        if self.page is None and self.backend != "torch":
            lines.append("no plan: one call of step a time step, under autograd")
        if self.page is None:
            return section(head, lines)
        lines += [f"before the loop: {line}" for line in self.hoisted or ("nothing",)]
        lines += [f"in the loop: {_squeezed(line)}" for line in self.in_loop]
        if self.training:
            size = f"{self.bytes_per_step} bytes per step and sequence"
            lines.append(f"kept: {size}: {_list(self.saved)}")
            lines.append(f"computed again: {_list(self.recomputed)}")
        return section(head, lines)


@dataclass(frozen=True)
class PlanReport:
    """What a layer would run: one `CellPlan` for each cell and direction, in order."""

    cells: tuple[CellPlan, ...]

    @property
    def backend(self) -> str:
        """The backend of all cells, or all of theirs: "llvm, loop"."""
        return ", ".join(dict.fromkeys(cell.backend for cell in self.cells))

    @property
    def reason(self) -> str:
        """Why a cell does not run on the fastest backend; "" where all do."""
        return "; ".join(dict.fromkeys(cell.reason for cell in self.cells if cell.reason))

    @property
    def bytes_per_step(self) -> int:
        """Memory kept for the backward pass by all cells, for each step of each row."""
        return sum(cell.bytes_per_step for cell in self.cells)

    def below(self, place: str) -> tuple[CellPlan, ...]:
        """The same cells, seen from the layer that holds this one under a name."""
        return tuple(
            CellPlan(**vars(cell) | {"place": ".".join(filter(None, (place, cell.place)))})
            for cell in self.cells
        )

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.cells))

    __repr__ = __str__


def plan_cell(
    cell: Cell,
    weights: dict[str, Tensor],
    regularisers: Regularisers,
    execution: Execution,
    *,
    training: bool,
    batch_size: int,
    place: str = "",
) -> CellPlan:
    """The plan of one direction of one layer, with these weights. Runs nothing over time.

    Raises BackendError where the backend that was asked for cannot run it.
    """
    like = like_of(weights.values())
    x = like.new_zeros(1, batch_size, cell.input_size)
    state = cell.initial_state((batch_size,), x)
    with torch.random.fork_rng():  # the noise is not used: only what kinds of it there are
        noise = regularisers.noise(cell, x, training)
    choice = choose(cell, weights, x, state, noise, execution, quiet=True, sequence=SequenceInfo())
    plan = choice.plan
    return CellPlan(
        place=place,
        cell=type(cell).__name__,
        backend=choice.backend,
        reason=choice.reason,
        dtype=x.dtype,
        device=x.device,
        training=training,
        threads=_threads(choice, x.dtype, batch_size, training),
        bytes_per_step=plan.bytes_per_row(x.element_size()) if plan and training else 0,
        page=None if plan is None else explain(plan),
        choice=choice,
    )


def plan_both(
    cells: Several[CellPlan], batch_size: int, *executions: Execution
) -> tuple[CellPlan, CellPlan]:
    """The plans of the two directions of a layer, each made alone, as they run together."""
    one, other = cells
    engine, plans = one.choice.engine, (one.choice.plan, other.choice.plan)
    if engine is None or plans[0] is None or plans[1] is None or engine != other.choice.engine:
        return one, other
    loops = [_planned(plan, batch_size, one.training) for plan in plans if plan is not None]
    if not engine.at_once(loops[0], loops[1], one.dtype):
        return one, other
    return _beside(one, batch_size, executions), _beside(other, batch_size, executions)


def _beside(cell: CellPlan, batch_size: int, executions: Several[Execution]) -> CellPlan:
    memory = {execution.memory for execution in executions} if cell.training else set()
    if "recompute" in memory:
        text = f"{cell.threads}; not beside the other direction, as memory is recomputed"
    else:
        text = _threads(cell.choice, cell.dtype, batch_size, cell.training, beside=True)
        text += "; at the same time as the other direction"
        text += "" if memory <= {"save", "auto"} else " unless memory is recomputed"
    return replace(cell, threads=text)


#: Steps of a sequence that is long enough for threads to be worth their waking.
LONG = 1000


def _planned(plan: Plan, batch_size: int, training: bool) -> PlannedLoop:
    return PlannedLoop(
        plan, ragged_layout(LONG, batch_size, SequenceInfo(), reverse=False), training
    )


def _threads(
    choice: Choice, dtype: torch.dtype, batch_size: int, training: bool, beside: bool = False
) -> str:
    if choice.plan is None or choice.engine is None:
        return "as torch shares out each of its operations"
    return choice.engine.describe(_planned(choice.plan, batch_size, training), dtype, beside)


def _list(lines: tuple[str, ...]) -> str:
    return ", ".join(map(_squeezed, lines)) or "nothing"


def _squeezed(line: str) -> str:
    """A line of a page without its note."""
    return line.partition(" #")[0].rstrip()
