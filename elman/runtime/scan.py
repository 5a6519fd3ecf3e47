"""The one border between torch and the engine that runs a cell over time."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor

from elman.backends import torch_fused
from elman.backends.operands import all_plain, dispatch_mode, resolved
from elman.backends.reference.literal import literal_loop
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import Cell, State
from elman.cells.hooks import is_hooked
from elman.runtime.concurrent import run_all
from elman.runtime.dispatch import AUTOMATIC, Choice, Execution, choose
from elman.runtime.prepare import PendingRun, prepare
from elman.runtime.recompute import in_segments, segment_length

__all__ = ["AUTOMATIC", "Execution", "Regularisation", "Scan", "SequenceInfo", "scan", "scan_all"]


#: The mode of `torch.autograd.graph.allow_mutation_on_saved_tensors`.
MUTATING = "CloneArgBeforeMutateMode"


@dataclass(frozen=True)
class Scan:
    """What there is to run, as `scan` takes it."""

    cell: Cell
    weights: dict[str, Tensor]
    x: Tensor
    state: State
    sequence: SequenceInfo = field(default_factory=SequenceInfo)
    noise: Regularisation = field(default_factory=Regularisation)
    reverse: bool = False
    all_states: bool = False
    execution: Execution = AUTOMATIC


def scan(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    *,
    sequence: SequenceInfo | None = None,
    noise: Regularisation | None = None,
    reverse: bool = False,
    all_states: bool = False,
    execution: Execution = AUTOMATIC,
) -> tuple[State, State]:
    """Run a cell over time.

        for t in 0 ... T-1, or T-1 ... 0 where reverse:
            old   = initial where a cut lies between this step and the one before, else state
            old   = stop_gradient(old) where the number of steps done is a multiple of truncate
            new   = zoneout(step(x[t], *old), old)
            state = new where t < lengths, else state
            states[t] = new where t < lengths, else 0

    x: [T, B, I]   state: parts [B, S]   ->   (states: parts [T, B, S], state: parts [B, S])
    weights: what stands in place of the cell's parameters, as `weights_of` names them.
    all_states: return every part at every step, not the first alone.
    execution: which backend runs it.

    Raises ShapeError where the step returns a state of other shapes than it was given, and
    BackendError where the backend that was asked for cannot run it.
    """
    sequence, noise = sequence or SequenceInfo(), noise or Regularisation()
    wanted = Scan(cell, weights, x, state, sequence, noise, reverse, all_states, execution)
    return scan_all([wanted])[0]


def scan_all(scans: Several[Scan]) -> list[tuple[State, State]]:
    """`scan` each of several that do not wait for each other: two kernels at the same time, where
    that is quicker and both keep all that their backward passes read."""
    if torch.is_autocast_enabled("cpu") and all(s.x.device.type == "cpu" for s in scans):
        with torch.autocast("cpu", enabled=False):
            return scan_all([_unmixed(s) for s in scans])
    pairs = [_chosen(s) for s in scans]
    pending = [_prepared(scan, choice) for scan, choice in pairs]
    ended = iter(run_all([run for run in pending if run is not None]))
    return [
        run_alone(scan, choice) if run is None else next(ended)
        for run, (scan, choice) in zip(pending, pairs, strict=True)
    ]


def _cut(scan: Scan, choice: Choice) -> Scan:
    """The scan, from a state whose parts are constants where no gradient flows to them, whatever is
    asked of the results: the graph that they came from, which may be gone, is not asked for one."""
    if scan.sequence.lengths is not None or not len(scan.x):  # a row without a step hands it on
        return scan
    if scan.sequence.truncate is not None:
        return replace(scan, state=tuple([part.detach() for part in scan.state]))
    if choice.plan is None or all(choice.plan.reads_states):
        return scan
    pairs = zip(scan.state, choice.plan.reads_states, strict=True)
    return replace(scan, state=tuple([part if read else part.detach() for part, read in pairs]))


def _prepared(scan: Scan, choice: Choice) -> PendingRun | None:
    """A run of a plan up to its loop; None where there is no plan, nothing to run, or not the
    memory to keep what its backward pass reads."""
    if choice.plan is None or choice.engine is None or _segments(choice, scan) is not None:
        return None
    return prepare(
        scan.cell, choice.plan, choice.engine, scan.weights, scan.x, scan.state, scan.sequence,
        scan.noise, scan.reverse, scan.all_states,
    )  # fmt: skip


def run_alone(scan: Scan, choice: Choice) -> tuple[State, State]:
    """A run by itself, from its first operation to the last."""
    cell, reverse, all_states = scan.cell, scan.reverse, scan.all_states

    def run(  # it is kept for the backward pass: nothing of the caller's tensors is in it
        weights: dict[str, Tensor],
        x: Tensor,
        state: State,
        sequence: SequenceInfo,
        noise: Regularisation,
    ) -> tuple[State, State]:
        if choice.of_torch:
            return torch_fused.run(cell, weights, x, state, sequence, reverse)
        if choice.plan is not None and choice.engine is not None:
            pending = prepare(
                cell, choice.plan, choice.engine, weights, x, state, sequence, noise, reverse,
                all_states,
            )  # fmt: skip
            if pending is not None:
                return run_all([pending])[0]
        if dispatch_mode() == MUTATING:
            # torch loses what it has saved of a view when its base changes: x_t, a gate's rows.
            weights, x = {name: w.clone() for name, w in weights.items()}, x.clone()
        return literal_loop(cell, weights, x, state, sequence, noise, reverse, all_states)

    weights, rest = scan.weights, (scan.x, scan.state, scan.sequence, scan.noise)
    length = _segments(choice, scan)
    if length is None:
        return run(weights, *rest)
    if choice.plan is not None:  # all that is handed over becomes a part of the graph
        read = {name for _, name in choice.plan.parameters}
        weights = {name: w if name in read else w.detach() for name, w in weights.items()}
    batch = tuple(scan.x.shape[1:-1])
    return in_segments(
        run, length, weights, *rest, reverse, lambda: scan.cell.initial_state(batch, scan.x)
    )


def _chosen(scan: Scan) -> tuple[Scan, Choice]:
    """A scan and what runs it."""
    choice = choose(
        scan.cell, scan.weights, scan.x, scan.state, scan.noise, scan.execution,
        sequence=scan.sequence, all_states=scan.all_states,
    )  # fmt: skip
    return _chosen(_settled(scan)) if choice.lazy else (_cut(scan, choice), choice)


def _settled(scan: Scan) -> Scan:
    """With every lazy negation and conjugation resolved, in all that `choose` looks at."""

    def done(value: Any) -> Any:
        return resolved(value) if isinstance(value, Tensor) else value

    weights = {name: resolved(weight) for name, weight in scan.weights.items()}
    state = tuple(map(resolved, scan.state))
    of, noise = scan.sequence, scan.noise
    sequence = replace(of, lengths=done(of.lengths), reset=done(of.reset))
    mask, zoneout = done(noise.state_mask), tuple(map(done, noise.zoneout))
    return replace(
        scan, x=resolved(scan.x), state=state, weights=weights, sequence=sequence,
        noise=replace(noise, state_mask=mask, zoneout=zoneout),
    )  # fmt: skip


def _unmixed(scan: Scan) -> Scan:
    weights, x, state = in_one_precision(scan.weights, scan.x, scan.state)
    return replace(scan, weights=weights, x=x, state=state)


def in_one_precision(
    weights: dict[str, Tensor], x: Tensor, state: State
) -> tuple[dict[str, Tensor], Tensor, State]:
    """All in the precision of the weights, the widest of them: the one that kernels compute in,
    which is no less than autocast's. Weights that are computed have autocast's own; a single
    number keeps its dtype, which torch gives to nothing else."""
    mixed = {n: w for n, w in weights.items() if w.is_floating_point() and w.dim()}
    kinds = {w.dtype for w in mixed.values()} or {x.dtype}
    kind = reduce(torch.promote_types, kinds)
    if len(kinds) > 1:
        weights = weights | {name: weight.to(kind) for name, weight in mixed.items()}
    return weights, x.to(kind), tuple([s.to(kind) for s in state])


def _segments(choice: Choice, scan: Scan) -> int | None:
    """How many steps to keep at once for the backward pass; None: all."""
    x, sequence = scan.x, scan.sequence
    if scan.execution.memory == "save" or not torch.is_grad_enabled():
        return None
    wanted = (x, *scan.state, *scan.weights.values())
    if choice.plan is None and (is_hooked(scan.cell) or not all_plain(wanted)):
        return None  # hooks run once, and what has to see every operation sees it once
    if not any(t.requires_grad for t in wanted):
        return None
    if scan.reverse and sequence.lengths is not None and sequence.truncate is not None:
        return None  # each row counts from its own end: the borders are not those of segments
    plan = choice.plan
    sizes = sum(s.shape[-1] for s in scan.state)
    # The literal loop keeps every value that it comes by: several for each that a plan keeps.
    row = 8 * sizes * x.element_size() if plan is None else plan.bytes_per_row(x.element_size())
    return segment_length(scan.execution.memory, x.shape[0], row * prod(x.shape[1:-1]))
