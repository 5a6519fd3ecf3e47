"""`scan` as one operator of torch: what `torch.compile` and `torch.export` put into their graphs.

    elman::scan           the loop, and what its backward loop reads
    elman::scan_backward  the gradients of x, of the state passed in and of the weights

A graph holds one node for a loop, whatever its length: walks, checks of values and kernels live
inside the operator, which runs what the eager mode runs. An operator takes tensors and plain
values only, so all that is fixed about a run stands in a table (`elman.runs`), and a string names
its place there and the sizes of the results.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Several
from typing import Any

import torch
from torch import Tensor

from elman.backends.choose import Execution
from elman.backends.literal import literal_loop
from elman.cells.cell import Cell, State
from elman.replay import Run, with_autograd
from elman.runs import describe, shape_of
from elman.scan import in_one_precision
from elman.sequence import Noise, Sequence


def compiled_scan(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    *,
    sequence: Sequence,
    noise: Noise,
    reverse: bool,
    all_states: bool,
    execution: Execution,
) -> tuple[State, State]:
    """`elman.scan.scan` as one node of the graph that is being made.

    Its arguments, results and errors; errors in values are raised when the graph runs. Where the
    backend is "loop", and under torch.func's transforms, the graph holds every step instead.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        weights, x, state = in_one_precision(weights, x, state)
    zoneout = tuple([True if isinstance(z, Tensor) else z for z in noise.zoneout])
    given = (sequence.lengths, sequence.reset, noise.state_mask)
    call, most = describe(
        cell, execution, tuple(weights), reverse, all_states, sequence.truncate is not None,
        tuple([tensor is not None for tensor in given]), zoneout, x.dtype, x.device.type,
    ).split("/")  # fmt: skip
    if not call:
        return literal_loop(cell, weights, x, state, sequence, noise, reverse, all_states)
    inputs = [x, *state, *weights.values()]
    masks = [t for t in (*given, *noise.zoneout) if isinstance(t, Tensor)]
    found = torch.ops.elman.scan(call, inputs, masks, sequence.truncate, _keeps(inputs, most))
    parts, shown = len(state), len(state) if all_states else 1
    return tuple(found[:shown]), tuple(found[shown : shown + parts])


def _keeps(inputs: list[Tensor], most: str) -> bool:
    """Whether the loop keeps what its backward loop reads, rather than be run again for it."""
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in inputs):
        return False
    # An exported graph is for inference, and says nothing on what fits into this machine.
    if torch.compiler.is_exporting() or most in ("all", "0"):
        return most == "all"
    x = inputs[0]
    return bool(x.shape[0] * x.shape[1] <= int(most))


# ---------------------------------------------------------------- the loop


@torch.library.custom_op("elman::scan", mutates_args=())
def scan_operator(
    call: str, inputs: Several[Tensor], masks: Several[Tensor], truncate: int | None, keep: bool
) -> list[Tensor]:
    """inputs: x, the parts of the state, the weights. masks: lengths, reset, state mask, zoneout.

    Returns the states at all steps, each part of the last state and, where keep: the other parts
    of the states at all steps, and what the plan saves, [T * B, n].
    """
    run = Run.of(call, inputs, masks, truncate)
    with torch.no_grad(), run.autocast():
        found = run.recorded(shape_of(call).saved) if keep else run.plain()
    return _owned(found, [*inputs, *masks])


@scan_operator.register_fake
def _(
    call: str, inputs: Several[Tensor], masks: Several[Tensor], truncate: int | None, keep: bool
) -> list[Tensor]:
    shape = shape_of(call)
    T, B = inputs[0].shape[:2]
    state = inputs[1 : 1 + shape.parts]
    states = [s.new_empty(T, B, s.shape[-1]) for s in state]
    found = states[: shape.shown] + [s.new_empty(s.shape) for s in state]
    if keep:
        found += states[shape.shown :]
        found += [state[0].new_empty(T * B, size) for size in shape.saved]
    return found


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    call, tensors, masks, truncate, keep = inputs
    shape = shape_of(call)
    results = shape.shown + shape.parts
    # The states are outputs as well: they are not kept twice.
    kept = [*output[: shape.shown], *output[results:]] if keep else []
    ctx.mark_non_differentiable(*output[results:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *masks, *kept)
    ctx.call, ctx.truncate, ctx.results = call, truncate, results
    ctx.counts = len(tensors), len(masks)


def _differentiate(ctx: Any, d_found: list[Tensor | None]) -> tuple[Any, ...]:
    wanted = list(ctx.needs_input_grad[1])
    inputs, masks, kept = _split(ctx.saved_tensors, ctx.counts)
    d_results = d_found[: ctx.results]
    grads = iter(())
    if any(wanted) and any(d is not None for d in d_results):
        given = [d is not None for d in d_results]
        there = [d for d in d_results if d is not None]
        grads = iter(
            torch.ops.elman.scan_backward(
                ctx.call, inputs, masks, kept, ctx.truncate, there, given, wanted
            )
        )
    else:
        wanted = [False] * len(wanted)
    return None, [next(grads) if want else None for want in wanted], [None] * len(masks), None, None


scan_operator.register_autograd(_differentiate, setup_context=_save)


def _split(tensors: Several[Tensor], counts: tuple[int, int]) -> tuple[list[Tensor], ...]:
    first, second = counts[0], sum(counts)
    return list(tensors[:first]), list(tensors[first:second]), list(tensors[second:])


# ---------------------------------------------------------------- its gradients


@torch.library.custom_op("elman::scan_backward", mutates_args=())
def backward_operator(
    call: str,
    inputs: Several[Tensor],
    masks: Several[Tensor],
    kept: Several[Tensor],
    truncate: int | None,
    d_results: Several[Tensor],
    given: Several[bool],
    wanted: Several[bool],
) -> list[Tensor]:
    """kept: of the results of the loop, the states of all parts and what was saved; nothing: the
    loop is run again. d_results: the gradients of those results that are ``given``.

    Returns the gradients of those inputs that are ``wanted``.
    """
    with with_autograd():
        leaves = [t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)]
        run = Run.of(call, leaves, masks, truncate)
        with run.autocast():
            found = run.replayed(list(kept)) if kept else run.eager()
        results = [f for f, there in zip(found, given, strict=True) if there]
        pairs = [(f, d) for f, d in zip(results, d_results, strict=True) if f.requires_grad]
        grads = _gradients(pairs, [t for t in leaves if t.requires_grad])
    return _owned(grads, [*inputs, *masks, *kept, *d_results])


def _gradients(pairs: list[tuple[Tensor, Tensor]], wrt: list[Tensor]) -> Iterable[Tensor]:
    if not pairs:
        return [torch.zeros_like(t) for t in wrt]
    results, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(results, wrt, cotangents, allow_unused=True, materialize_grads=True)


@backward_operator.register_fake
def _(
    call: str,
    inputs: Several[Tensor],
    masks: Several[Tensor],
    kept: Several[Tensor],
    truncate: int | None,
    d_results: Several[Tensor],
    given: Several[bool],
    wanted: Several[bool],
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, want in zip(inputs, wanted, strict=True) if want]


def _owned(found: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """The tensors, contiguous, each on memory that nothing else lies on, as torch demands."""
    taken = {t.untyped_storage().data_ptr() for t in others}
    owned = []
    for tensor in found:
        own = tensor.detach().contiguous()
        if own.untyped_storage().data_ptr() in taken or own.storage_offset():
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        owned.append(own)
    return owned
