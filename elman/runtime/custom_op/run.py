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
from elman.backends.base import Tape
from elman.backends.operands import autocasts
from elman.backends.sequence import Noise, Sequence, check_lengths
from elman.cells.cell import State
from elman.compiler.plan import Plan
from elman.errors import BackendError, ShapeError
from elman.runtime.custom_op.description import Call, Saved, kept_nodes, saved_by
from elman.runtime.custom_op.planned_cell import PlannedCell
from elman.runtime.dispatch import Choice, Execution, choose_engine
from elman.runtime.launch import Compiled, Job
from elman.runtime.scan import Scan, run_alone


@dataclass
class Run:
    """A run with its tensors: results are the states at all steps, then the last state."""

    plan: Plan
    scan: Scan

    @staticmethod
    def of(plan_text: str, call_text: str, tensors: Several[Tensor], truncate: int | None) -> Run:
        """Raises SavedPlanError where a text is not one, ShapeError where a tensor does not fit."""
        saved, call = saved_by(plan_text), Call.of(call_text)
        _check(saved, call, tensors)
        plan = saved.plan
        given = iter(tensors)
        x = next(given)
        state = tuple([next(given) for _ in plan.states])
        own = tuple([next(given) for _ in plan.states if call.reset])
        weights = {name: next(given) for _, name in plan.parameters}
        lengths = next(given) if call.lengths else None
        reset = next(given) if call.reset else None
        mask = None if plan.step.mask is None else next(given).to(x.dtype)
        noise = Noise(mask, tuple([next(given) if z is True else z for z in plan.zoneout.parts]))
        if lengths is not None:
            check_lengths(lengths, len(x))
        scan = Scan(
            PlannedCell.of(plan, weights, own), weights, x, state,
            Sequence(lengths, reset, truncate), noise, call.reverse, call.all_states,
            Execution(call.backend, call.memory),
        )  # fmt: skip
        return Run(plan, scan)

    def without_autocast(self) -> AbstractContextManager[Any]:
        """The operator computes in the precision of its tensors."""
        x = self.scan.x
        return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()

    def eager(self) -> list[Tensor]:
        """The run as the eager mode has it."""
        states, last = run_alone(self.scan, self._choice())
        return [*states, *last]

    def plain(self) -> list[Tensor]:
        """The results, of which there will be no gradient, or that of another run."""
        choice = self._choice()
        if choice.engine is None:
            return self.eager()
        states, last = self._run(choice, _Running, self.scan.all_states)
        return [*states, *last]

    def recorded(self) -> list[Tensor]:
        """The results, then the other parts of the states at all steps, and what is saved."""
        jobs: list[_Recording] = []

        def record(*fields: Any) -> Job:
            jobs.append(_Recording(*fields))
            return jobs[-1]

        states, last = self._run(self._choice(), record, all_states=True)
        shown = len(states) if self.scan.all_states else 1
        x = self.scan.x
        rows = x.shape[0] * x.shape[1]
        if jobs:
            saved = _padded(jobs[0].read_later(), rows)
        else:  # there was no row to run
            saved = [x.new_zeros(rows, node.size) for node in kept_nodes(self.plan)]
        return [*states[:shown], *last, *states[shown:], *saved]

    def replayed(self, kept: list[Tensor]) -> list[Tensor]:
        """The results, as functions of the inputs, without running the loop again."""
        parts = len(self.plan.states)

        def replay(*fields: Any) -> Job:
            job = _Replaying(*fields)
            job.known, job.read_later = kept[:parts], kept[parts:]
            return job

        states, last = self._run(self._choice(), replay, self.scan.all_states)
        return [*states, *last]

    def _choice(self) -> Choice:
        scan = self.scan
        return choose_engine(self.plan, scan.x, scan.execution.backend)

    def _run(
        self, choice: Choice, job: Callable[..., Job], all_states: bool
    ) -> tuple[State, State]:
        scan = self.scan
        if choice.plan is None or choice.engine is None:
            raise BackendError(
                f"this graph was made for {self.plan.step.cell} on a compiled backend, and now "
                f"{choice.reason}; compile it again"
            )
        compiled = Compiled(scan.cell, choice.plan, choice.engine, scan.weights, job)
        return compiled.run(scan.x, scan.state, scan.sequence, scan.noise, scan.reverse, all_states)


def _check(saved: Saved, call: Call, tensors: Several[Tensor]) -> None:
    """Raise ShapeError where the operator is given other tensors than its texts say."""
    x, plan = tensors[0], saved.plan
    T, B = x.shape[:2] if x.dim() == 3 else (0, 0)
    weights = zip(plan.parameters, saved.dtypes, strict=True)
    state = [(s.attrs["name"], (B, s.size), x.dtype) for s in plan.states]
    expected: list[tuple[str, tuple[int, ...], torch.dtype | None]] = [
        ("x", (T, B, plan.step.x.size), x.dtype),
        *state,
        *(state if call.reset else ()),
        *((name, node.shape, dtype) for (node, name), dtype in weights),
        *([("lengths", (B,), torch.int64)] if call.lengths else ()),
        *([("reset", (T, B), torch.bool)] if call.reset else ()),
        *([] if plan.step.mask is None else [("state mask", (B, plan.step.mask.size), None)]),
        *(("zoneout", (T, B, keep.size), torch.bool) for keep in plan.keeps if keep is not None),
    ]
    if len(expected) != len(tensors):
        raise ShapeError(f"elman::scan: expected {len(expected)} tensors, got {len(tensors)}")
    for (name, shape, dtype), tensor in zip(expected, tensors, strict=True):
        if tensor.shape != shape or dtype not in (None, tensor.dtype) or tensor.device != x.device:
            raise ShapeError(
                f"elman::scan of {plan.step.cell}: '{name}' must be {list(shape)} "
                f"{dtype or x.dtype} on {x.device}, got {list(tensor.shape)} {tensor.dtype} on "
                f"{tensor.device}"
            )


class _Running(Job):
    """A run whose states lie in memory of their own, as the results of an operator must."""

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.forward(self.tape(inputs, training=False))

    def room(self, like: Tensor, size: int, training: bool) -> Tensor:
        return super().room(like, size, training=False)


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
