"""Loops of plans as one operation that torch differentiates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from elman.backends.base import BackwardBuffers, ForwardBuffers
from elman.backends.gradients import saved_tensors, split, transforming
from elman.backends.operands import resolved
from elman.runtime.launch import Launch
from elman.runtime.records import LoopInputs, LoopResults, Record, SavedForBackward

R = TypeVar("R", bound=Record)


def run_loops(launches: Sequence[Launch], inputs: Sequence[LoopInputs]) -> list[LoopResults]:
    """Run one loop, or two that do not wait for each other at the same time.

    Two are one operation, because CPU autograd runs its operations one after the other.
    """
    flat = _flat(inputs)
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in flat):
        return run_forward(launches, inputs, training=False)[1]
    if transforming():  # torch.func has to see every operation
        return [launch.unrolled(given) for launch, given in zip(launches, inputs, strict=True)]
    counts = [(launch.parts, len(launch.plan.states)) for launch in launches]
    return _each(LoopResults, counts, LoopFunction.apply(launches, inputs, *flat))  # type: ignore[no-untyped-call]


def run_forward(
    launches: Sequence[Launch], inputs: Sequence[LoopInputs], training: bool
) -> tuple[list[ForwardBuffers], list[LoopResults]]:
    """Run the forward loops: their buffers and their results."""
    pairs = zip(launches, inputs, strict=True)
    runs = [(launch, launch.forward_buffers(given, training)) for launch, given in pairs]
    if launches[0].done is None:
        launches[0].engine.forward(*[(launch.plan, buffers) for launch, buffers in runs])
    return [buffers for _, buffers in runs], [launch.results(buffers) for launch, buffers in runs]


class _Kept(NamedTuple):
    """A run between its forward and its backward loop. inputs, results, saved: the counts of its
    records."""

    launch: Launch
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    saved: tuple[int, ...]


class LoopFunction(torch.autograd.Function):
    """What the backward pass reads is kept by torch, and by nothing else: it is freed with the
    graph, and hooks on saved tensors and `torch.utils.checkpoint` have their say."""

    @staticmethod
    def forward(
        ctx: Any, launches: Sequence[Launch], inputs: Sequence[LoopInputs], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        counts = [given.counts for given in inputs]
        detached = tuple([t.detach() if t.requires_grad else t for t in flat])
        loop_inputs = _each(LoopInputs, counts, detached)
        all_buffers, results = run_forward(launches, loop_inputs, training=True)
        kept, saved = [], []
        runs = zip(launches, all_buffers, inputs, counts, results, strict=True)
        for launch, buffers, given, count, found in runs:
            tensors = launch.saved_for_backward(buffers, given, found)
            kept.append(_Kept(launch.released(buffers), count, found.counts, tensors.counts))
            saved.append(tensors)
        ctx.save_for_backward(*_flat(saved))
        ctx.kept = kept
        ctx.set_materialize_grads(False)
        return _flat(results)

    @staticmethod
    def backward(ctx: Any, *d_flat: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(d is None for d in d_flat):
            return (None,) * len(ctx.needs_input_grad)
        kept: list[_Kept] = ctx.kept
        saved = _each(SavedForBackward, [run.saved for run in kept], saved_tensors(ctx))
        d_flat = tuple([d if d is None else resolved(d) for d in d_flat])
        d_results = _each(LoopResults, [run.results for run in kept], d_flat)
        wanted = _each(LoopInputs, [run.inputs for run in kept], ctx.needs_input_grad[2:])
        again = torch.is_grad_enabled() or transforming(*d_flat)
        gradients = _double_backward if again else _backward
        return (None, None, *_flat(gradients(kept, saved, d_results, wanted)))


def _backward(
    kept: list[_Kept],
    saved: list[SavedForBackward],
    d_results: list[LoopResults],
    wanted: list[LoopInputs],
) -> list[LoopInputs]:
    """The gradients of the inputs that are wanted."""
    loops: list[tuple[ForwardBuffers, BackwardBuffers] | None] = []
    for run, tensors, d, want in zip(kept, saved, d_results, wanted, strict=True):
        if _is_zero(d):
            loops.append(None)
            continue
        buffers = run.launch.restored(_inputs(run, tensors), tensors)
        loops.append((buffers, run.launch.backward_buffers(buffers, d, want)))
    runs = list(zip(kept, wanted, loops, strict=True))
    kept[0].launch.engine.backward(*[(run.launch.plan, *loop) for run, _, loop in runs if loop])
    return [
        LoopInputs.nothing(run.inputs) if loop is None else run.launch.gradients(*loop, want)
        for run, want, loop in runs
    ]


def _double_backward(
    kept: list[_Kept],
    saved: list[SavedForBackward],
    d_results: list[LoopResults],
    wanted: list[LoopInputs],
) -> list[LoopInputs]:
    """The gradients of the inputs as functions that can be differentiated again."""
    return [
        LoopInputs.nothing(run.inputs)
        if _is_zero(d)
        else run.launch.double_backward(_inputs(run, tensors), tensors, d)
        for run, tensors, d in zip(kept, saved, d_results, strict=True)
    ]


def _is_zero(d_results: LoopResults) -> bool:
    return all(gradient is None for gradient in d_results.flat())


def _inputs(run: _Kept, saved: SavedForBackward) -> LoopInputs:
    """The inputs, by name; without the rows where these were not kept."""
    rows, *rest = run.inputs
    return LoopInputs.of((0 if saved.sources else rows, *rest), saved.inputs)


def _flat(records: Sequence[Record]) -> tuple[Any, ...]:
    if len(records) == 1:
        return records[0].flat()
    return tuple([value for record in records for value in record.flat()])


def _each(kind: type[R], counts: Sequence[tuple[int, ...]], flat: Sequence[Any]) -> list[R]:
    """Records of these counts, one after the other."""
    if len(counts) == 1:
        return [kind.of(counts[0], flat)]
    parts = split(flat, [sum(each) for each in counts])
    return [kind.of(each, part) for each, part in zip(counts, parts, strict=True)]
