"""One run of a plan: from tensors of torch to the memory that a backend works in, and back."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.base import BackTape, Engine, Tape
from elman.backends.gradients import aliases, gradients_of, split
from elman.backends.notices import say_once
from elman.backends.ragged import Walk, walk_over
from elman.backends.reference.eager import unrolled
from elman.backends.reference.literal import literal_loop
from elman.backends.sequence import Noise, Sequence
from elman.cells.cell import Cell, State
from elman.compiler.interpret import evaluate, evaluate_in_order
from elman.compiler.ir import Node, walk
from elman.compiler.plan import Plan
from elman.runtime.function import differentiable

DENSE = torch.contiguous_format


@dataclass
class Compiled:
    """A plan on one backend with one set of weights.

    job: what makes the run; None: `Job`.
    """

    cell: Cell
    plan: Plan
    engine: Engine
    weights: dict[str, Tensor]
    job: Callable[..., Job] | None = None

    def run(
        self,
        x: Tensor,
        state: State,
        sequence: Sequence,
        noise: Noise,
        reverse: bool,
        all_states: bool,
    ) -> tuple[State, State]:
        begun = self.begin(x, state, sequence, noise, reverse, all_states)
        if begun is None:  # nothing to compile for
            return literal_loop(
                self.cell, self.weights, x, state, sequence, noise, reverse, all_states
            )
        return begun.end(begun.job(begun.inputs))

    def begin(
        self,
        x: Tensor,
        state: State,
        sequence: Sequence,
        noise: Noise,
        reverse: bool,
        all_states: bool,
    ) -> Begun | None:
        """The run up to its loop; None where no sequence has a step."""
        T, batch = x.shape[0], x.shape[1:-1]
        B = prod(batch)
        walk = walk_over(T, B, sequence, reverse)
        if walk.rows == 0:
            return None
        if len(batch) != 1:
            x = x.reshape(T, B, x.shape[-1])
            state = tuple(s.reshape(B, s.shape[-1]) for s in state)
        parts = len(state) if all_states else 1
        sources = [walk.pack(x), *self.plan.read(self.cell, self.weights).values()]
        job = (self.job or Job)(self.plan, self.engine, walk, parts, sources)
        rows, prepared = job.made()
        own: State = ()
        if walk.flags is not None:
            own = tuple(walk.sort(s) for s in self.cell.initial_state((B,), x))
        mask = noise.state_mask
        inputs = (
            *rows,
            *self._keeps(walk, x, noise),
            *prepared,
            *(walk.sort(s) for s in state),
            *own,
            *(() if mask is None else (walk.sort(mask.reshape(B, -1)),)),
        )
        return Begun(job, inputs, (T, *batch))

    def _keeps(self, rows: Walk, x: Tensor, noise: Noise) -> list[Tensor]:
        """The zoneout masks, as numbers."""
        keeps = []
        for mask, keep in zip(noise.zoneout, self.plan.keeps, strict=False):
            if keep is not None:
                assert isinstance(mask, Tensor)
                kept = rows.pack(mask.reshape(*x.shape[:2], -1))
                keeps.append(memory.empty(x, *kept.shape).copy_(kept))
        return keeps


@dataclass
class Begun:
    """A run of which everything before the loop is done. shape: (T, *batch) of x."""

    job: Job
    inputs: tuple[Tensor, ...]
    shape: tuple[int, ...]

    def end(self, found: tuple[Tensor, ...]) -> tuple[State, State]:
        """The states at all steps and the last state, from what the job has found."""
        (T, *batch), walk, parts = self.shape, self.job.walk, self.job.parts
        states = tuple([walk.unpack(s, T) for s in found[:parts]])
        last = tuple([walk.unsort(s) for s in found[parts:]])
        if len(batch) == 1:
            return states, last
        return (
            tuple([s.reshape(T, *batch, s.shape[-1]) for s in states]),
            tuple([s.reshape(*batch, s.shape[-1]) for s in last]),
        )


@dataclass
class Job:
    """One run of a plan: what stays the same from the forward to the backward loop.

    sources: x [rows, I] and the parameters that the plan reads, from which `made` makes the inputs.
    rooms: where each part of the state lies, once the loop has run: its address, and the bytes of
        the memory that it shares with the state passed in, by which a copy at the same address,
        as a hook on saved tensors may make it, is told from it.
    """

    plan: Plan
    engine: Engine
    walk: Walk
    parts: int
    sources: Several[Tensor]
    rooms: tuple[tuple[int, int], ...] = ()

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return differentiable(self, inputs)

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

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Tape:
        """Memory for a run on these inputs."""
        plan, walk = self.plan, self.walk
        groups = self.grouped(inputs)
        like = groups.given[0]
        keep = len(plan.states) if training else self.parts
        rings = [part >= keep for part in range(len(plan.states))]
        states = [
            like.new_empty(2 * walk.batch, s.size) if ring else self.room(like, s.size, training)
            for s, ring in zip(plan.states, rings, strict=True)
        ]
        kept = plan.saved if training else ()
        saved = [memory.empty(like, walk.rows, node.size) for node in kept]
        return self._taped(groups, states, saved, rings, training)

    def room(self, like: Tensor, size: int, training: bool) -> Tensor:
        """[rows, S], for a part of the state at all rows."""
        if training:
            return _window(like, self.walk, size)
        return memory.empty(like, self.walk.rows, size)

    def _taped(
        self,
        groups: _Groups,
        states: Several[Tensor],
        saved: Several[Tensor],
        rings: Several[bool],
        training: bool,
    ) -> Tape:
        """What enters the loop is made by the backend where the plan is fused."""
        entering = [None] * len(self.plan.entering) if self.plan.fused else groups.inputs
        return Tape(
            self.walk, groups.inputs, [*entering, *groups.keeps], groups.weights, groups.mask,
            groups.given, groups.own, states, saved, rings, training,
        )  # fmt: skip

    def grouped(self, inputs: Several[Any]) -> _Groups:
        """The inputs of the run by what they are."""
        return _Groups(*split(inputs, self._counts))

    @property
    def _counts(self) -> tuple[int, ...]:
        """How many inputs each group has."""
        plan = self.plan
        parts, keeps = len(plan.states), len(plan.rows) - len(plan.entering)
        own = 0 if self.walk.flags is None else parts
        mask = 0 if plan.step.mask is None else 1
        return len(plan.inputs), keeps, len(plan.prepared), parts, own, mask

    def forward(self, tape: Tape) -> tuple[Tensor, ...]:
        """Run the loop: the states at all rows, then the last state."""
        self.engine.forward((self.plan, tape))
        return self.results(tape)

    def results(self, tape: Tape) -> tuple[Tensor, ...]:
        """The states at all rows, then the last state."""
        states = tape.states[: self.parts]
        return (*states, *(self._last(tape, part) for part in range(len(tape.given))))

    def unrolled(self, inputs: Several[Tensor]) -> tuple[Tensor, ...]:
        """The results as one graph of torch operations, which can be differentiated again."""
        states, last = unrolled(self.plan, self._taped(self.grouped(inputs), (), (), (), True))
        return (*states[: self.parts], *last)

    def _last(self, tape: Tape, part: int) -> Tensor:
        walk = self.walk
        if walk.source is None:
            start = 0 if walk.reverse else walk.rows - walk.batch
            if tape.rings[part]:
                start = (walk.steps - 1) % 2 * walk.batch
            return tape.states[part][start : start + walk.batch].clone()
        final = walk.final_in_ring if tape.rings[part] else walk.final
        final = final.to(tape.given[part].device)
        found = tape.states[part].index_select(0, final.clamp(min=0))
        return torch.where((final >= 0)[:, None], found, tape.given[part])

    # ------------------------------------------------------------ between

    def kept(self, tape: Tape, inputs: Several[Tensor], found: Several[Tensor]) -> list[Tensor]:
        """All that the backward pass reads, for torch to keep: inputs as they came and results as
        they went, so that torch knows them and raises where they were changed since."""
        rows, *rest = split(inputs, self._counts)
        count = len(self.plan.entering) if self._keeps_entering else 0
        return [
            *(rows if self._keeps_rows else self.sources),
            *(tensor for group in rest for tensor in group),
            *found[: self.parts],
            *tape.states[self.parts :],
            *tape.saved,
            *(entered for entered in tape.entering[:count] if entered is not None),
        ]

    @property
    def _keeps_rows(self) -> bool:
        """Whether the inputs of the loop are kept, rather than made again if they are needed."""
        return self.plan.fused or self.plan.reads_entering

    @property
    def _keeps_entering(self) -> bool:
        """Whether what the backend has made of the inputs is kept beside them."""
        return self.plan.fused and self.plan.reads_entering

    @property
    def kept_counts(self) -> tuple[int, ...]:
        """How many tensors are kept: of the rows or sources, of each other group of inputs, of
        the states, of what the plan saves, and of what has entered."""
        rows, *rest = self._counts
        first = rows if self._keeps_rows else 1 + len(self.plan.parameters)
        entering = len(self.plan.entering) if self._keeps_entering else 0
        return first, *rest, len(self.plan.states), len(self.plan.saved), entering

    def released(self, tape: Tape) -> Job:
        """The run that the backward pass takes up again: without the caller's tensors."""
        rooms = tuple([_place(states) for states in tape.states])
        return Job(self.plan, self.engine, self.walk, self.parts, (), rooms)

    def restored(self, kept: Several[Tensor]) -> Tape:
        """The tape of the run, from what `kept` has named."""
        rows, *inputs, states, saved, entering = split(kept, self.kept_counts)
        groups = _Groups(rows if self._keeps_rows else (), *inputs)
        saved, entering = (tuple([t.contiguous() for t in part]) for part in (saved, entering))
        rings = [False] * len(states)
        tape = self._taped(groups, self._in_rooms(states), saved, rings, True)
        if entering:
            tape.entering = [*entering, *groups.keeps]
        elif not self._keeps_rows:
            tape.entering = [*[None] * len(self.plan.entering), *groups.keeps]
        return tape

    def _in_rooms(self, states: Several[Tensor]) -> list[Tensor]:
        """The states with room beside them, also where a hook on saved tensors has moved them."""
        rooms = zip(states, self.rooms, strict=True)
        return [
            rows if _place(rows) == room else _window(rows, self.walk, rows.shape[1]).copy_(rows)
            for rows, room in rooms
        ]

    # ------------------------------------------------------------ backward

    def backward(
        self, tape: Tape, d_found: Several[Tensor | None], wanted: list[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that are wanted."""
        back = self.back_tape(tape, d_found, wanted)
        self.engine.backward((self.plan, tape, back))
        return self.gradients(tape, back, wanted)

    def back_tape(
        self, tape: Tape, d_found: Several[Tensor | None], wanted: Several[bool]
    ) -> BackTape:
        """Memory for the backward loop under these gradients of the results."""
        plan, like = self.plan, tape.given[0]
        d_states = [None if d is None else d.contiguous() for d in d_found[: self.parts]]
        d_states += [None] * (len(plan.states) - self.parts)
        d_last = [
            given.new_zeros(given.shape) if d is None else d.clone(memory_format=DENSE)
            for given, d in zip(tape.given, d_found[self.parts :], strict=True)
        ]
        needs_own = any(self.grouped(wanted).own)
        d_own = [own.new_zeros(own.shape) for own in tape.own] if needs_own else None
        stored = [memory.empty(like, self.walk.rows, node.size) for node in plan.backward.stored]
        return BackTape(d_states, d_last, d_own, stored)

    def gradients(
        self, tape: Tape, back: BackTape, wanted: Several[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs, after the backward loop."""
        plan, needs = self.plan, self.grouped(wanted)
        by_node = dict(zip(plan.backward.stored, back.stored, strict=True))
        after = self._after(tape, by_node, [*needs.inputs, *needs.weights])
        d_inputs, d_weights = after[: len(plan.inputs)], after[len(plan.inputs) :]
        d_keeps = [None] * len(needs.keeps)
        d_mask: list[Tensor | None] = [] if tape.mask is None else [None]
        nothing: list[Tensor | None] = [None] * len(tape.own)
        d_own = back.d_own or nothing
        return (*d_inputs, *d_keeps, *d_weights, *back.d_last, *d_own, *d_mask)

    def again(
        self, kept: Several[Tensor], d_found: Several[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs as functions that can be differentiated again."""
        say_once(
            f"{self.plan.step.cell}: gradients that can be differentiated again, or are batched, "
            "are computed a step at a time by torch's operations, which is slower"
        )
        first, *rest = split(kept, self.kept_counts)
        groups = rest[: len(self._counts) - 1]
        with torch.enable_grad():
            rows = first if self._keeps_rows else replace(self, sources=first).made()[0]
            inputs = aliases([*rows, *(tensor for group in groups for tensor in group)])
            found = self.unrolled(inputs)
        return tuple(gradients_of(found, d_found, inputs))

    def _after(
        self, tape: Tape, stored: dict[Node, Tensor], needs: Several[bool]
    ) -> list[Tensor | None]:
        """The gradients of the inputs and of the weights, over all rows at once."""
        plan = self.plan
        all_nodes = (*plan.backward.d_inputs, *plan.backward.d_prepared)
        nodes = [d if need else None for d, need in zip(all_nodes, needs, strict=True)]
        values = _Rows(plan, self.walk, tape, stored)
        wanted = tuple([d for d in nodes if d is not None])
        there, orders = values.needed(wanted)
        found = {
            node: _over_rows(node, order, there) for node, order in zip(wanted, orders, strict=True)
        }
        shapes = [None] * len(plan.inputs) + [weight.shape for weight in tape.weights]
        return [
            None if node is None else found[node] if shape is None else found[node].reshape(shape)
            for node, shape in zip(nodes, shapes, strict=True)
        ]


def _over_rows(node: Node, order: Several[Node], values: dict[Node, Tensor]) -> Tensor:
    """A value for all rows; a product of what is there already into memory that is kept."""
    if node.op != "linear" or node.args[0] not in values:
        return evaluate_in_order(order, [node], values)[0]
    v = values[node.args[0]]
    [W] = evaluate([node.args[1]], values)
    return torch.mm(v, W.t(), out=memory.empty(v, len(v), len(W)))


@dataclass
class _Groups:
    """The inputs of a run, or as many values of another kind, by what they are."""

    inputs: Several[Any]
    keeps: Several[Any]
    weights: Several[Any]
    given: Several[Any]
    own: Several[Any]
    masks: Several[Any]

    @property
    def mask(self) -> Any:
        """That of the state dropout, or None."""
        return self.masks[0] if self.masks else None


class _Rows:
    """The values of the loop at all rows, for what is computed after it."""

    def __init__(self, plan: Plan, walk: Walk, tape: Tape, stored: dict[Node, Tensor]) -> None:
        self.plan, self.walk, self.tape, self.stored = plan, walk, tape, stored

    def needed(self, wanted: tuple[Node, ...]) -> tuple[dict[Node, Tensor], list[list[Node]]]:
        """The leaves of what is wanted and every value that lies in memory; and for each that is
        wanted what has to be computed, in order."""
        plan, tape = self.plan, self.tape
        values = dict(zip(plan.prepared, tape.weights, strict=True))
        entering = zip(plan.rows, tape.entering, strict=True)
        values |= {node: rows for node, rows in entering if rows is not None}
        values |= dict(zip(plan.inputs, tape.inputs, strict=False))
        values |= dict(zip(plan.outputs, tape.states, strict=True))
        values |= dict(zip(plan.saved, tape.saved, strict=True))
        values |= self.stored
        known = wanted, tuple(values)
        orders: list[list[Node]] | None = plan.made_of.get(known)
        if orders is None:
            orders = plan.made_of[known] = [[*walk([node], until=values)] for node in wanted]
        reached = {node for order in orders for node in order}
        for part, node in enumerate(plan.states):
            if node in reached:
                values[node] = self._before(part)
        mask = plan.step.mask
        if mask is not None and mask in reached and tape.mask is not None:
            values[mask] = memory.gather(tape.mask, self.walk.sequences.to(tape.mask.device))
        return values, orders

    def _before(self, part: int) -> Tensor:
        """[rows, S]: the state that enters each row."""
        walk, states, given = self.walk, self.tape.states[part], self.tape.given[part]
        room = _beside(states, walk, given)
        if walk.source is None and walk.cut is None:
            return room[walk.batch :] if walk.reverse else room[: walk.rows]
        old = memory.gather(room, walk.previous.to(states.device))
        if walk.cut is not None:
            old[walk.cut] = self.tape.own[part][walk.sequences.to(states.device)[walk.cut]]
        return old


def _place(states: Tensor) -> tuple[int, int]:
    return states.data_ptr(), states.untyped_storage().nbytes()


def _window(like: Tensor, walk: Walk, size: int) -> Tensor:
    """[rows, S] with room for the state passed in beside it, so that the states before each row
    are one piece of memory, shifted by one step."""
    batch = walk.batch
    room = memory.empty(like, walk.rows + batch, size)
    # Not a view: the states are results of their own to autograd.
    at = 0 if walk.reverse else batch * size
    return like.new_empty(0).set_(room.untyped_storage(), at, (walk.rows, size), (size, 1))


def _beside(states: Tensor, walk: Walk, given: Tensor) -> Tensor:
    """[rows + B, S]: the states and, where the walk begins, the state passed in, in the memory
    that `_window` made."""
    batch, size = given.shape
    room = states.new_empty(0).set_(
        states.untyped_storage(), 0, (walk.rows + batch, size), (size, 1)
    )
    begin = walk.rows if walk.reverse else 0
    room[begin : begin + batch] = given
    return room
