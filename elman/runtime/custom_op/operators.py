"""`scan` as one operator of torch: what `torch.compile` and `torch.export` put into their graphs.

    elman::scan           the loop, and what its backward loop reads
    elman::scan_backward  the gradients of x, of the states passed in and of the weights

A graph holds one node for a loop, whatever its length: layouts, checks of values and kernels live
inside the operator, which runs what the eager mode runs. What it runs stands in the graph as text
(`description`, `elman.compiler.ir.serialise`), so a saved graph runs in any process that has elman:
the operator knows nothing of the cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Several
from typing import Any, NoReturn

import torch
from torch import Tensor

from elman.backends.gradients import aliases
from elman.backends.reference.literal import literal_loop
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import Cell, State
from elman.errors import BackendError
from elman.runtime.custom_op.description import Call, describe, kept_nodes, refuse_hooks, saved_by
from elman.runtime.custom_op.run import Run, with_autograd
from elman.runtime.dispatch import Execution
from elman.runtime.scan import in_one_precision


def being_traced() -> bool:
    """Whether what runs now is written down to be run again, so that kernels must stand in it as
    an operator: by torch.compile or torch.export, AOT autograd, make_fx, torch.jit.trace, or under
    `FakeTensorMode`."""
    if torch.compiler.is_compiling() or _jit_is_tracing():
        return True
    if not torch._C._len_torch_dispatch_stack():
        return bool(torch._ops._len_torch_dispatch_stack_pre_dispatch())  # type: ignore[no-untyped-call]
    kinds = torch._C._TorchDispatchModeKey
    modes = (kinds.FAKE, kinds.PROXY, kinds.FUNCTIONAL)
    return any(torch._C._get_dispatch_mode(kind) is not None for kind in modes)


def _jit_is_tracing() -> bool:
    return torch._C._get_tracing_state() is not None


def compiled_scan(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    *,
    sequence: SequenceInfo,
    noise: Regularisation,
    reverse: bool,
    all_states: bool,
    execution: Execution,
) -> tuple[State, State]:
    """`elman.runtime.scan.scan` as one node of the graph that is being made.

    Its arguments, results and errors; errors in values are raised when the graph runs. Where the
    backend is "loop", where a cell has no plan, under torch.func's transforms and under autocast
    on other devices the graph holds every step instead.
    """
    device = x.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if mixed and device == "cpu":
        weights, x, state = in_one_precision(weights, x, state)
    found = ""
    if not mixed or device == "cpu":
        dtypes = tuple([weight.dtype for weight in weights.values()])
        zoneout = tuple([True if isinstance(z, Tensor) else z for z in noise.zoneout])
        given = (sequence.lengths, sequence.reset, sequence.truncate)
        found = describe(
            cell, execution, x.dtype, tuple(weights), dtypes, noise.state_mask is not None, zoneout,
            *[value is not None for value in given], reverse, all_states,
        )  # fmt: skip
    if not found:
        _check_unrolled(cell, x)
        return literal_loop(cell, weights, x, state, sequence, noise, reverse, all_states)
    plan, call, names, most = found.split("\n")
    read = [weights[name] for name in names.split("\t") if name]
    own = cell.initial_state(tuple(x.shape[1:-1]), x) if sequence.reset is not None else ()
    inputs = [x, *state, *own, *read]
    masks = (sequence.lengths, sequence.reset, noise.state_mask, *noise.zoneout)
    tensors = [*inputs, *(mask for mask in masks if isinstance(mask, Tensor))]
    keep = _keeps(inputs, most)
    results = torch.ops.elman.scan(plan, call, tensors, sequence.truncate, keep)
    parts, shown = len(state), len(state) if all_states else 1
    return tuple(results[:shown]), tuple(results[shown : shown + parts])


def _check_unrolled(cell: Cell, x: Tensor) -> None:
    if torch.compiler.is_dynamo_compiling():
        refuse_hooks(cell)
    if torch.compiler.is_exporting() and isinstance(x.shape[0], torch.SymInt):
        raise BackendError(
            f"{type(cell).__name__} can stand in an exported graph only step by step, which needs "
            "a fixed number of steps: export it with a T that is not dynamic, or write its step "
            "with operations that elman compiles (layer.plan() says what is in the way)"
        )


def _keeps(inputs: list[Tensor], most: str) -> bool:
    """Whether the loop keeps what its backward loop reads, rather than be run again for it."""
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in inputs):
        return False
    # A saved graph is for inference, and says nothing on what fits into this machine.
    if torch.compiler.is_exporting() or _jit_is_tracing():
        return False
    if most in ("all", "0"):
        return most == "all"
    x = inputs[0]
    return bool(x.shape[0] * x.shape[1] <= int(most))


# ---------------------------------------------------------------- the loop


@torch.library.custom_op("elman::scan", mutates_args=())
def scan_operator(
    plan: str, call: str, tensors: Several[Tensor], truncate: int | None, keep: bool
) -> list[Tensor]:
    """tensors: x, the parts of the state, those of the cell's initial state where there are
    resets, the weights that the plan reads; then lengths, resets, state mask and zoneout masks.

    Returns the states at all steps, each part of the last state and, where keep: the other parts
    of the states at all steps, and what the plan saves, [T * B, n].
    """
    run = Run.of(plan, call, tensors, truncate)
    with torch.no_grad(), run.without_autocast():
        found = run.recorded() if keep else run.plain()
    return _owned(found, tensors)


@scan_operator.register_fake
def _(
    plan: str, call: str, tensors: Several[Tensor], truncate: int | None, keep: bool
) -> list[Tensor]:
    x, made = tensors[0], saved_by(plan).plan
    T, B = x.shape[:2]
    states = [x.new_empty(T, B, state.size) for state in made.states]
    shown = len(states) if Call.of(call).all_states else 1
    found = states[:shown] + [x.new_empty(B, state.size) for state in made.states]
    if keep:
        found += states[shown:]
        found += [x.new_empty(T * B, node.size) for node in kept_nodes(made)]
    return found


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    plan, call, tensors, truncate, keep = inputs
    parts = len(saved_by(plan).plan.states)
    shown = parts if Call.of(call).all_states else 1
    results = shown + parts
    # The states are outputs as well: they are not kept twice.
    kept = [*output[:shown], *output[results:]] if keep else []
    ctx.mark_non_differentiable(*output[results:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *kept)
    ctx.fixed, ctx.results, ctx.count = (plan, call, truncate), results, len(tensors)


def _differentiate(ctx: Any, d_found: list[Tensor | None]) -> tuple[Any, ...]:
    plan, call, truncate = ctx.fixed
    wanted = list(ctx.needs_input_grad[2])
    tensors, kept = list(ctx.saved_tensors[: ctx.count]), list(ctx.saved_tensors[ctx.count :])
    d_results = d_found[: ctx.results]
    given = [d is not None for d in d_results]
    if not any(wanted) or not any(given):
        return None, None, [None] * len(wanted), None, None
    there = [d for d in d_results if d is not None]
    if torch.is_grad_enabled() and not being_traced():
        found = iter(_again(ctx.fixed, tensors, there, given, wanted))
    else:
        found = iter(
            torch.ops.elman.scan_backward(plan, call, tensors, kept, truncate, there, given, wanted)
        )
    return None, None, [next(found) if want else None for want in wanted], None, None


scan_operator.register_autograd(_differentiate, setup_context=_save)


# ---------------------------------------------------------------- its gradients


@torch.library.custom_op("elman::scan_backward", mutates_args=())
def backward_operator(
    plan: str,
    call: str,
    tensors: Several[Tensor],
    kept: Several[Tensor],
    truncate: int | None,
    d_results: Several[Tensor],
    given: Several[bool],
    wanted: Several[bool],
) -> list[Tensor]:
    """kept: of the results of the loop, the states of all parts and what was saved; nothing: the
    loop is run again. d_results: the gradients of those results that are ``given``.

    Returns the gradients of those tensors that are ``wanted``.
    """
    with with_autograd():
        leaves = [t.detach().requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]
        run = Run.of(plan, call, leaves, truncate)
        with run.without_autocast():
            found = run.replayed(list(kept)) if kept else run.eager()
        grads = _gradients(found, d_results, given, [t for t in leaves if t.requires_grad])
    return _owned(grads, [*tensors, *kept, *d_results])


def _again(
    fixed: tuple[str, str, int | None],
    tensors: Several[Tensor],
    d_results: Several[Tensor],
    given: Several[bool],
    wanted: Several[bool],
) -> Iterable[Tensor]:
    """The gradients as functions that can be differentiated again: those of the eager mode."""
    plan, call, truncate = fixed
    inputs = aliases(tensors)
    run = Run.of(plan, call, inputs, truncate)
    with run.without_autocast():
        found = run.eager()
    wrt = [t for t, want in zip(inputs, wanted, strict=True) if want]
    return _gradients(found, d_results, given, wrt, create_graph=True)


def _gradients(
    found: Several[Tensor],
    d_results: Several[Tensor],
    given: Several[bool],
    wrt: list[Tensor],
    create_graph: bool = False,
) -> Iterable[Tensor]:
    shown = [f for f, there in zip(found, given, strict=True) if there]
    pairs = [(f, d) for f, d in zip(shown, d_results, strict=True) if f.requires_grad]
    if not pairs:
        return [torch.zeros_like(t) for t in wrt]
    results, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(
        results, wrt, cotangents, create_graph=create_graph,
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip


@backward_operator.register_fake
def _(
    plan: str,
    call: str,
    tensors: Several[Tensor],
    kept: Several[Tensor],
    truncate: int | None,
    d_results: Several[Tensor],
    given: Several[bool],
    wanted: Several[bool],
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, want in zip(tensors, wanted, strict=True) if want]


def _refuse(ctx: Any, d_grads: list[Tensor | None]) -> NoReturn:
    raise BackendError(
        "a traced graph has first gradients of a compiled loop alone: for second ones build the "
        "layer with backend='loop', or differentiate outside of the graph"
    )


backward_operator.register_autograd(_refuse)


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
