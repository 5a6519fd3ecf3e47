"""How the operators that compiled graphs hold run a cell over time, and back."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Several
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.operands import autocasts
from elman.backends.reference.literal import literal_loop
from elman.backends.sequence import Regularisation, SequenceInfo, check_lengths
from elman.cells.cell import State
from elman.compiler.plan import Plan
from elman.errors import BackendError, ShapeError
from elman.runtime.custom_op.description import Call, Saved, kept_nodes, saved_by
from elman.runtime.custom_op.planned_cell import PlannedCell
from elman.runtime.dispatch import Choice, Execution, choose_engine
from elman.runtime.function import run_forward, run_loops
from elman.runtime.launch import LoopIsDone
from elman.runtime.prepare import PendingRun, prepare
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
        noise = Regularisation(
            mask, tuple([next(given) if z is True else z for z in plan.zoneout.parts])
        )
        if lengths is not None:
            check_lengths(lengths, len(x))
        scan = Scan(
            PlannedCell.of(plan, weights, own), weights, x, state,
            SequenceInfo(lengths, reset, truncate), noise, call.reverse, call.all_states,
            Execution(call.backend, call.memory),
        )  # fmt: skip
        return Run(plan, scan)

    def without_autocast(self) -> AbstractContextManager[Any]:
        """The operator computes in the precision of its tensors."""
        x = self.scan.x
        return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()

    def eager(self) -> list[Tensor]:
        """The run as the eager mode has it."""
        return _listed(run_alone(self.scan, self._choice()))

    def plain(self) -> list[Tensor]:
        """The results, of which there will be no gradient, or that of another run."""
        if self._choice().engine is None:
            return self.eager()
        pending = self._pending(self.scan.all_states)
        if pending is None:
            return self._without_steps(self.scan.all_states)
        _, [results] = run_forward([pending.launch], [pending.inputs], training=False)
        return _listed(pending.end(results))

    def recorded(self) -> list[Tensor]:
        """The results, then the other parts of the states at all steps, and what is saved."""
        x, parts = self.scan.x, len(self.plan.states)
        rows = x.shape[0] * x.shape[1]
        pending = self._pending(all_states=True)
        if pending is None:
            found = self._without_steps(all_states=True)
            saved = [x.new_zeros(rows, node.size) for node in kept_nodes(self.plan)]
        else:
            [buffers], [results] = run_forward([pending.launch], [pending.inputs], training=True)
            found = _listed(pending.end(results))
            made = buffers.entering[: len(kept_nodes(self.plan)) - len(self.plan.saved)]
            kept = [*buffers.saved, *(entered for entered in made if entered is not None)]
            saved = _padded(kept, rows)
        states, last = found[:parts], found[parts:]
        shown = parts if self.scan.all_states else 1
        return [*states[:shown], *last, *states[shown:], *saved]

    def replayed(self, kept: list[Tensor]) -> list[Tensor]:
        """The results, as functions of the inputs, without running the loop again.

        kept: states [T, B, S] of each part, and what `kept_nodes` names, [T * B, n].
        """
        pending = self._pending(self.scan.all_states)
        if pending is None:
            return self._without_steps(self.scan.all_states)
        layout, parts = pending.launch.layout, len(self.plan.states)
        states = [layout.pack(known) for known in kept[:parts]]
        rest = [rows[: layout.rows] for rows in kept[parts:]]
        count = len(self.plan.saved)
        done = LoopIsDone(states, rest[:count], rest[count:])
        launch = replace(pending.launch, apart=False, done=done)
        return _listed(pending.end(run_loops([launch], [pending.inputs])[0]))

    def _choice(self) -> Choice:
        scan = self.scan
        return choose_engine(self.plan, scan.x, scan.execution.backend)

    def _pending(self, all_states: bool) -> PendingRun | None:
        """The run up to its loop, its states in memory of their own; None where no sequence has a
        step."""
        scan, choice = self.scan, self._choice()
        if choice.plan is None or choice.engine is None:
            raise BackendError(
                f"this graph was made for {self.plan.step.cell} on a compiled backend, and now "
                f"{choice.reason}; compile it again"
            )
        pending = prepare(
            scan.cell, choice.plan, choice.engine, scan.weights, scan.x, scan.state, scan.sequence,
            scan.noise, scan.reverse, all_states,
        )  # fmt: skip
        if pending is not None:
            pending.launch.apart = True
        return pending

    def _without_steps(self, all_states: bool) -> list[Tensor]:
        scan = self.scan
        return _listed(
            literal_loop(
                scan.cell, scan.weights, scan.x, scan.state, scan.sequence, scan.noise,
                scan.reverse, all_states,
            )
        )  # fmt: skip


def _listed(found: tuple[State, State]) -> list[Tensor]:
    states, last = found
    return [*states, *last]


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
        *(
            ("zoneout", (T, B, keep.size), torch.bool)
            for keep in plan.zoneout_masks
            if keep is not None
        ),
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
