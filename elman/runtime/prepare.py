"""Before a loop: lengths to rows, and everything that it reads as one record."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor

from elman.backends import memory
from elman.backends.base import Engine
from elman.backends.ragged import RaggedLayout, ragged_layout
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import Cell, State
from elman.compiler.plan import Plan
from elman.runtime.launch import Launch
from elman.runtime.records import LoopInputs, LoopResults


@dataclass
class PendingRun:
    """A run of which everything before the loop is done. shape: (T, *batch) of x."""

    launch: Launch
    inputs: LoopInputs
    shape: tuple[int, ...]

    def end(self, results: LoopResults) -> tuple[State, State]:
        """The states at all steps and the last state, from what the loop has left."""
        (T, *batch), layout = self.shape, self.launch.layout
        states = tuple([layout.unpack(s, T) for s in results.states])
        last = tuple([layout.unsort(s) for s in results.last_state])
        if len(batch) == 1:
            return states, last
        return (
            tuple([s.reshape(T, *batch, s.shape[-1]) for s in states]),
            tuple([s.reshape(*batch, s.shape[-1]) for s in last]),
        )


def prepare(
    cell: Cell,
    plan: Plan,
    engine: Engine,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    noise: Regularisation,
    reverse: bool,
    all_states: bool,
) -> PendingRun | None:
    """A run of a plan up to its loop; None where no sequence has a step."""
    T, batch = x.shape[0], x.shape[1:-1]
    B = prod(batch)
    layout = ragged_layout(T, B, sequence, reverse)
    if layout.rows == 0:
        return None
    if len(batch) != 1:
        x = x.reshape(T, B, x.shape[-1])
        state = tuple(s.reshape(B, s.shape[-1]) for s in state)
    sources = [layout.pack(x), *plan.read(cell, weights).values()]
    launch = Launch(plan, engine, layout, len(state) if all_states else 1, sources)
    rows, prepared = launch.made()
    reset_state: State = ()
    if layout.flags is not None:
        reset_state = tuple(layout.sort(s) for s in cell.initial_state((B,), x))
    mask = noise.state_mask
    inputs = LoopInputs(
        rows=rows,
        zoneout_masks=_zoneout_masks(plan, layout, x, noise),
        weights=prepared,
        initial_state=[layout.sort(s) for s in state],
        reset_state=reset_state,
        state_mask=() if mask is None else (layout.sort(mask.reshape(B, -1)),),
    )
    return PendingRun(launch, inputs, (T, *batch))


def _zoneout_masks(
    plan: Plan, layout: RaggedLayout, x: Tensor, noise: Regularisation
) -> list[Tensor]:
    """The zoneout masks, as numbers."""
    masks = []
    for mask, keep in zip(noise.zoneout, plan.zoneout_masks, strict=False):
        if keep is not None:
            assert isinstance(mask, Tensor)
            rows = layout.pack(mask.reshape(*x.shape[:2], -1))
            masks.append(memory.empty(x, *rows.shape).copy_(rows))
    return masks
