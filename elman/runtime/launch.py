"""One run of a plan: the memory of its loops, and what is made of what they leave there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.base import BackwardBuffers, Engine, ForwardBuffers
from elman.backends.gradients import aliases, gradients_of
from elman.backends.notices import say_once
from elman.backends.ragged import RaggedLayout
from elman.backends.reference.eager import unrolled
from elman.compiler.ir.interpret import evaluate_in_order
from elman.compiler.plan import Plan
from elman.runtime.after import after_loop
from elman.runtime.buffers import Place, in_their_places, place, states_with_room
from elman.runtime.records import LoopInputs, LoopResults, SavedForBackward

DENSE = torch.contiguous_format


class LoopIsDone(NamedTuple):
    """What a former run of the loop has left, where it need not be run again.

    states: all parts at all rows. saved, entered: as in `SavedForBackward`.
    """

    states: Sequence[Tensor]
    saved: Sequence[Tensor]
    entered: Sequence[Tensor]


@dataclass
class Launch:
    """One run of a plan: what stays the same from the forward to the backward loop.

    parts: how many parts of the state are wanted at all steps.
    sources: x [rows, I] and the parameters that the plan reads, from which `made` makes the inputs.
    places: where each part of the state lies, once the loop has run.
    apart: whether the states lie in memory of their own, as the results of an operator must.
    done: what is there of a former run.
    """

    plan: Plan
    engine: Engine
    layout: RaggedLayout
    parts: int
    sources: Sequence[Tensor]
    places: tuple[Place, ...] = ()
    apart: bool = False
    done: LoopIsDone | None = None

    def made(self) -> tuple[list[Tensor], list[Tensor]]:
        """The inputs of the loop and the prepared weights, from the sources."""
        plan = self.plan
        x, *parameters = self.sources
        values = {plan.step.x: x}
        values |= zip((node for node, _ in plan.parameters), parameters, strict=True)
        values |= zip(plan.made, evaluate_in_order(plan.making, plan.made, values), strict=True)
        rows = [values[node].contiguous() for node in plan.inputs]
        return rows, [values[node] for node in plan.prepared]

    # ------------------------------------------------------------ forward

    def forward_buffers(self, inputs: LoopInputs, training: bool) -> ForwardBuffers:
        """Memory for a run on these inputs."""
        plan, layout, like = self.plan, self.layout, inputs.initial_state[0]
        shown = len(plan.states) if training else self.parts
        in_turn = [part >= shown for part in range(len(plan.states))]
        states = [
            like.new_empty(2 * layout.batch, s.size) if turn else self._rows(like, s.size, training)
            for s, turn in zip(plan.states, in_turn, strict=True)
        ]
        kept = plan.saved if training else ()
        saved = [memory.empty(like, layout.rows, node.size) for node in kept]
        buffers = self._buffers(inputs, states, saved, in_turn, training)
        if self.done is not None:
            for rows, known in zip(states, self.done.states, strict=True):
                rows.copy_(known)
            buffers.saved = self.done.saved
            buffers.entering[: len(self.done.entered)] = self.done.entered
        return buffers

    def _rows(self, like: Tensor, size: int, training: bool) -> Tensor:
        """[rows, S], for a part of the state at all rows."""
        if training and not self.apart:
            return states_with_room(like, self.layout, size)
        return memory.empty(like, self.layout.rows, size)

    def _buffers(
        self,
        inputs: LoopInputs,
        states: Sequence[Tensor],
        saved: Sequence[Tensor],
        double_buffered: Sequence[bool],
        training: bool,
    ) -> ForwardBuffers:
        """What enters the loop is made by the backend where the plan is fused."""
        entering = [None] * len(self.plan.entering) if self.plan.fused else inputs.rows
        return ForwardBuffers(
            layout=self.layout,
            inputs=inputs.rows,
            entering=[*entering, *inputs.zoneout_masks],
            weights=inputs.weights,
            state_mask=inputs.state_mask[0] if inputs.state_mask else None,
            initial_state=inputs.initial_state,
            reset_state=inputs.reset_state,
            states=states,
            saved=saved,
            double_buffered=double_buffered,
            training=training,
        )

    def results(self, buffers: ForwardBuffers) -> LoopResults:
        """What the loop has left in its memory."""
        last = [self._last(buffers, part) for part in range(len(buffers.initial_state))]
        return LoopResults(tuple(buffers.states[: self.parts]), last)

    def unrolled(self, inputs: LoopInputs) -> LoopResults:
        """The results as one graph of torch operations, which can be differentiated again."""
        states, last = unrolled(self.plan, self._buffers(inputs, (), (), (), True))
        return LoopResults(states[: self.parts], last)

    def _last(self, buffers: ForwardBuffers, part: int) -> Tensor:
        layout, in_turn = self.layout, buffers.double_buffered[part]
        if layout.source is None:
            start = 0 if layout.reverse else layout.rows - layout.batch
            if in_turn:
                start = (layout.steps - 1) % 2 * layout.batch
            return buffers.states[part][start : start + layout.batch].clone()
        initial = buffers.initial_state[part]
        final = (layout.final_in_turn if in_turn else layout.final).to(initial.device)
        found = buffers.states[part].index_select(0, final.clamp(min=0))
        return torch.where((final >= 0)[:, None], found, initial)

    # ------------------------------------------------------------ between

    def saved_for_backward(
        self, buffers: ForwardBuffers, inputs: LoopInputs, results: LoopResults
    ) -> SavedForBackward:
        """All that the backward pass reads, for torch to keep: inputs as they came and results as
        they went, so that torch knows them and raises where they were changed since."""
        entered: Sequence[Tensor | None] = ()
        if self.plan.fused and self.plan.reads_entering:
            entered = buffers.entering[: len(self.plan.entering)]
        rows_again = not self._keeps_rows
        return SavedForBackward(
            inputs=(replace(inputs, rows=()) if rows_again else inputs).flat(),
            sources=self.sources if rows_again else (),
            states=[*results.states, *buffers.states[self.parts :]],
            saved=buffers.saved,
            entered=[rows for rows in entered if rows is not None],
        )

    @property
    def _keeps_rows(self) -> bool:
        """Whether the inputs of the loop are kept, rather than made again if they are needed."""
        return self.plan.fused or self.plan.reads_entering

    def released(self, buffers: ForwardBuffers) -> Launch:
        """The run that the backward pass takes up again: without the caller's tensors."""
        places = tuple([place(states) for states in buffers.states])
        return Launch(self.plan, self.engine, self.layout, self.parts, (), places)

    def restored(self, inputs: LoopInputs, saved: SavedForBackward) -> ForwardBuffers:
        """The memory of the run, from what was saved of it. inputs: among them."""
        states = in_their_places(saved.states, self.places, self.layout)
        kept, entered = (tuple([t.contiguous() for t in v]) for v in (saved.saved, saved.entered))
        buffers = self._buffers(inputs, states, kept, [False] * len(states), True)
        if entered:
            buffers.entering = [*entered, *inputs.zoneout_masks]
        elif not self._keeps_rows:
            buffers.entering = [*[None] * len(self.plan.entering), *inputs.zoneout_masks]
        return buffers

    # ------------------------------------------------------------ backward

    def backward_buffers(
        self, buffers: ForwardBuffers, d_results: LoopResults, wanted: LoopInputs
    ) -> BackwardBuffers:
        """Memory for the backward loop under these gradients of the results."""
        plan, like = self.plan, buffers.initial_state[0]
        d_states = [None if d is None else d.contiguous() for d in d_results.states]
        d_states += [None] * (len(plan.states) - self.parts)
        d_last_state = [
            initial.new_zeros(initial.shape) if d is None else d.clone(memory_format=DENSE)
            for initial, d in zip(buffers.initial_state, d_results.last_state, strict=True)
        ]
        d_reset_state = None
        if any(wanted.reset_state):
            d_reset_state = [state.new_zeros(state.shape) for state in buffers.reset_state]
        rows = self.layout.rows
        stored = [memory.empty(like, rows, node.size) for node in plan.backward.stored]
        return BackwardBuffers(d_states, d_last_state, d_reset_state, stored)

    def gradients(
        self, buffers: ForwardBuffers, back: BackwardBuffers, wanted: LoopInputs
    ) -> LoopInputs:
        """The gradients of the inputs, after the backward loop."""
        d_rows, d_weights = after_loop(self.plan, buffers, back, wanted)
        return LoopInputs(
            rows=d_rows,
            zoneout_masks=[None] * len(wanted.zoneout_masks),
            weights=d_weights,
            initial_state=back.d_last_state,
            reset_state=back.d_reset_state or [None] * len(buffers.reset_state),
            state_mask=[None] * len(wanted.state_mask),
        )

    def double_backward(
        self, inputs: LoopInputs, saved: SavedForBackward, d_results: LoopResults
    ) -> LoopInputs:
        """The gradients of the inputs as functions that can be differentiated again."""
        say_once(
            f"{self.plan.step.cell}: gradients that can be differentiated again, or are batched, "
            "are computed a step at a time by torch's operations, which is slower"
        )
        with torch.enable_grad():
            if not self._keeps_rows:
                inputs = replace(inputs, rows=replace(self, sources=saved.sources).made()[0])
            variables = aliases(inputs.flat())
            results = self.unrolled(LoopInputs.of(inputs.counts, variables)).flat()
        return LoopInputs.of(inputs.counts, gradients_of(results, d_results.flat(), variables))
