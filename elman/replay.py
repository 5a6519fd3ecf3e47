"""How the operators that compiled graphs hold run a cell over time, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.choose import Choice, choose
from elman.backends.engine import Tape
from elman.cells.cell import Cell, State, bind
from elman.errors import BackendError
from elman.job import Compiled, Job
from elman.runs import Call, kept_nodes, look_up, shape_of
from elman.scan import scan
from elman.sequence import Noise, Sequence, check_lengths


@dataclass
class Run:
    """A run with its tensors: results are the states at all steps, then the last state."""

    cell: Cell
    call: Call
    weights: dict[str, Tensor]
    x: Tensor
    state: State
    sequence: Sequence
    noise: Noise

    @staticmethod
    def of(text: str, inputs: Several[Tensor], masks: Several[Tensor], truncate: int | None) -> Run:
        """Raises BackendError where the cell is no more, ShapeError where lengths are wrong."""
        shape = shape_of(text)
        cell, call = look_up(shape.place)
        rest = iter(masks)
        x, *others = inputs
        weights = dict(zip(call.names, others[shape.parts :], strict=True))
        lengths, reset, mask = (next(rest) if there else None for there in call.given)
        noise = Noise(mask, tuple(next(rest) if z is True else z for z in call.zoneout))
        if lengths is not None:
            check_lengths(lengths, len(x))
        state = tuple(others[: shape.parts])
        bound = _bound(cell, weights)
        return Run(bound, call, weights, x, state, Sequence(lengths, reset, truncate), noise)

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast as it was where the graph was made."""
        kind = self.x.device.type
        if self.call.autocast is not None:
            return torch.autocast(*self.call.autocast)
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return torch.autocast(kind, enabled=False)
        return nullcontext()

    def eager(self) -> list[Tensor]:
        """The run as the eager mode has it."""
        call = self.call
        states, last = scan(
            self.cell, self.weights, self.x, self.state, sequence=self.sequence, noise=self.noise,
            reverse=call.reverse, all_states=call.all_states, execution=call.execution,
        )  # fmt: skip
        return self._cast([*states, *last])

    def plain(self) -> list[Tensor]:
        """The results, of which there will be no gradient, or that of another run."""
        choice = self._choice()
        if choice.plan is None:
            return self.eager()
        states, last = self._run(choice, _Running, self.call.all_states)
        return self._cast([*states, *last])

    def recorded(self, sizes: Several[int]) -> list[Tensor]:
        """The results, then the other parts of the states at all steps, and what is saved, which
        has these sizes."""
        jobs: list[_Recording] = []

        def record(*fields: Any) -> Job:
            jobs.append(_Recording(*fields))
            return jobs[-1]

        states, last = self._run(self._choice(), record, all_states=True)
        shown = len(states) if self.call.all_states else 1
        rows = self.x.shape[0] * self.x.shape[1]
        if jobs:
            saved = _padded(jobs[0].read_later(), rows)
        else:  # there was no row to run
            saved = [self.state[0].new_zeros(rows, size) for size in sizes]
        return self._cast([*states[:shown], *last, *states[shown:], *saved])

    def replayed(self, kept: list[Tensor]) -> list[Tensor]:
        """The results, as functions of the inputs, without running the loop again."""

        def replay(*fields: Any) -> Job:
            job = _Replaying(*fields)
            job.known, job.read_later = kept[: len(self.state)], kept[len(self.state) :]
            return job

        states, last = self._run(self._choice(), replay, self.call.all_states)
        return self._cast([*states, *last])

    def _choice(self) -> Choice:
        execution = self.call.execution
        return choose(self.cell, self.weights, self.x, self.state, self.noise, execution)

    def _run(
        self, choice: Choice, job: Callable[..., Job], all_states: bool
    ) -> tuple[State, State]:
        if choice.plan is None or choice.engine is None:
            raise BackendError(
                f"{type(self.cell).__name__} had a plan when this graph was compiled and has none "
                f"now: {choice.reason}; compile it again"
            )
        compiled = Compiled(self.cell, choice.plan, choice.engine, self.weights, job)
        reverse = self.call.reverse
        return compiled.run(self.x, self.state, self.sequence, self.noise, reverse, all_states)

    def _cast(self, found: list[Tensor]) -> list[Tensor]:
        """In the dtype of the state: a graph knows it before anything has run."""
        return [t.to(self.state[0].dtype) for t in found]


def _bound(cell: Cell, weights: dict[str, Tensor]) -> Cell:
    """The cell with these values, which its initial state may be made of, and with its plans."""
    return bind(cell, weights)


class _Running(Job):
    """A run whose states lie in memory of their own, as the results of an operator must."""

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.forward(self.tape(inputs, training=False))

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Tape:
        tape = super().tape(inputs, training)
        tape.states = [
            rows if ring else memory.empty(rows, *rows.shape)
            for rows, ring in zip(tape.states, tape.rings, strict=True)
        ]
        return tape


class _Recording(_Running):
    """A run for which there will be a backward loop elsewhere."""

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.recorded = self.tape(inputs, training=True)
        return self.forward(self.recorded)

    def read_later(self) -> list[Tensor]:
        """What `kept_nodes` names."""
        made = self.recorded.entering[: len(kept_nodes(self.plan)) - len(self.plan.saved)]
        return [*self.recorded.saved, *(rows for rows in made if rows is not None)]


class _Replaying(Job):
    """A run that has been: states [T, B, S] of each part, and what was kept, [T * B, n]."""

    known: list[Tensor]
    read_later: list[Tensor]

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Tape:
        tape = super().tape(inputs, training)
        for rows, known in zip(tape.states, self.known, strict=True):
            rows.copy_(self.walk.pack(known))
        kept = [kept[: self.walk.rows] for kept in self.read_later]
        count = len(self.plan.saved)
        tape.saved, made = kept[:count], kept[count:]
        tape.entering[: len(made)] = made
        return tape

    def forward(self, tape: Tape) -> tuple[Tensor, ...]:
        return self.results(tape)


def _padded(kept: Several[Tensor], rows: int) -> list[Tensor]:
    """[rows, n]: what a ragged batch leaves free stays as it is."""
    if not kept or len(kept[0]) == rows:
        return list(kept)
    wholes = [memory.empty(tensor, rows, tensor.shape[1]) for tensor in kept]
    for whole, tensor in zip(wholes, kept, strict=True):
        whole[: len(tensor)] = tensor
        whole[len(tensor) :] = 0
    return wholes


@contextmanager
def with_autograd() -> Iterator[None]:
    """Let torch differentiate inside an operator, where it does not otherwise."""
    exclude = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradOther", "ADInplaceOrView"):
        exclude = exclude.remove(getattr(torch._C.DispatchKey, key))
    include = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(include, exclude), torch.enable_grad():
        yield
