"""The ways in which a program calls its layer, and what it does with the results."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from elman.layers.layer import map_state
from elman.testing.fuzz.layers import streams
from elman.testing.fuzz.world import World, leaves

Run = Callable[..., tuple[Tensor, ...]]


def call(
    w: World,
    T: int,
    B: int | None,
    *,
    lengths: bool = False,
    reset: bool = False,
    truncate: int | None = None,
    states: bool = False,
    state: str = "none",
    mode: str = "grad",
    way: str = "plain",
    form: str = "plain",
    x_grad: bool = True,
    back: str = "accumulate",
) -> None:
    """One call, and the gradients of what it returns."""
    x, leaf = _input(w, T, B, form, x_grad and mode == "grad")
    given = _given(w, B, state)
    options: dict[str, Any] = {}
    if lengths and B is not None:
        options["lengths"] = (w.chance("lengths", B) * (T + 1)).long().clamp(max=T)
    if reset:
        options["reset"] = w.chance("reset", *x.shape[:-1]) < 0.3
    if truncate is not None:
        options["truncate"] = truncate
    if states:
        options["return_states"] = True
    shape: list[Any] = []

    def run(x: Tensor, *given_leaves: Tensor) -> tuple[Tensor, ...]:
        start = _refilled(given, iter(given_leaves))
        found = w.layer(x, start, **options)
        shape[:] = [found]
        return tuple(leaves(found))

    with MODES[mode]():
        found = WAYS[way](run, x, *leaves(given))
    for number, value in enumerate(found):
        w.record(f"result {number}", value)
    wrt = {} if leaf is None else {"x": leaf}
    wrt |= {f"state {i}": s for i, s in enumerate(leaves(given)) if s.is_leaf and s.requires_grad}
    if mode == "grad":
        BACKS[back](w, found, wrt, x)
    nest = _refilled(shape[0], iter(found))
    # What was changed in place is not what the oracle has.
    w.state = None if back.endswith("changed") else map_state(_computed, nest[1])
    if mode == "inference":  # what torch can save depends on what each way to run it saves
        w.state = map_state(Tensor.clone, w.state)
    w.fits = (B, w.kind)


def _input(w: World, T: int, B: int | None, form: str, grad: bool) -> tuple[Tensor, Tensor | None]:
    """x, and the leaf that it comes from, where it has a gradient."""
    I = w.layer.input_size
    first = [T] if B is None else [B, T] if w.layer.batch_first else [T, B]
    x = w.tensor("x", *first, I)
    if form == "strided":
        x = w.tensor("x", *first, 2 * I)
    leaf = x.requires_grad_() if grad else None
    if form == "strided":
        x = x[..., ::2]
    elif form == "turned":
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    elif form == "negative":
        x = torch._neg_view(x)
    elif form == "made":
        x = torch.tanh(x)
    return x, leaf


def _given(w: World, B: int | None, state: str) -> Any:
    if state == "none" or w.state is None or w.fits != (B, w.kind):
        return None
    if state == "attached":
        return w.state
    given = map_state(lambda part: part.detach().clone(), w.state)
    if state == "wanted":
        given = map_state(lambda part: part.requires_grad_(), given)
    return given


def _computed(part: Tensor) -> Tensor:
    """A state that is no leaf: the loop may hand on the one that it was given."""
    return part.view_as(part) if part.is_leaf and part.requires_grad else part


def _refilled(nest: Any, values: Any) -> Any:
    if isinstance(nest, Tensor):
        return next(values)
    if isinstance(nest, tuple | list):
        return tuple(_refilled(part, values) for part in nest)
    return nest


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "grad": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


def _under(context: Callable[[], AbstractContextManager[Any]]) -> Callable[..., Any]:
    def way(run: Run, *inputs: Tensor) -> tuple[Tensor, ...]:
        with context():
            return run(*inputs)

    return way


def _checkpointed(reentrant: bool) -> Callable[..., Any]:
    return lambda run, *inputs: checkpoint(run, *inputs, use_reentrant=reentrant)


WAYS: dict[str, Callable[..., Any]] = {
    "plain": lambda run, *inputs: run(*inputs),
    "checkpoint": _checkpointed(False),
    "reentrant checkpoint": _checkpointed(True),
    "save_on_cpu": _under(save_on_cpu),
    "saved tensors as copies": _under(lambda: saved_tensors_hooks(Tensor.clone, Tensor.clone)),
    "autocast": _under(lambda: torch.autocast("cpu", torch.bfloat16)),
}


# ------------------------------------------------------------------ backwards


def _loss(w: World, found: tuple[Tensor, ...], key: str = "cotangent") -> Tensor | None:
    pairs = [(i, value) for i, value in enumerate(found) if value.requires_grad]
    if not pairs:
        return None
    terms = [(value * w.tensor(f"{key} {i}", *value.shape)).sum() for i, value in pairs]
    return torch.stack(terms).sum()


def _accumulate(w: World, found: Any, wrt: dict[str, Tensor], x: Tensor) -> None:
    loss = _loss(w, found)
    if loss is not None:
        torch.autograd.backward(loss)
    for name, value in (wrt | w.wanted()).items():  # no gradient is one of 0
        w.record(f"d {name}", torch.zeros_like(value) if value.grad is None else value.grad)


def _grads(w: World, found: Any, wrt: dict[str, Tensor], x: Tensor, times: int = 1) -> None:
    loss, wrt = _loss(w, found), wrt | w.wanted()
    for number in range(times):
        grads = _gradients(loss, wrt, retain_graph=number + 1 < times)
        for name, grad in zip(wrt, grads, strict=True):
            w.record(f"d {name}", grad)


def _gradients(loss: Tensor | None, wrt: dict[str, Tensor], **options: Any) -> Sequence[Tensor]:
    """Those of a loss; zeros where there is nothing to differentiate: what has a graph though all
    its gradients are 0 is each backend's own affair."""
    values = list(wrt.values())
    if loss is None or not values:
        return [torch.zeros_like(value) for value in values]
    return torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True, **options)


def _second(w: World, found: Any, wrt: dict[str, Tensor], x: Tensor) -> None:
    """First-order gradients as a graph, and theirs."""
    loss, wrt = _loss(w, found), wrt | w.wanted()
    grads = _gradients(loss, wrt, create_graph=True)
    for name, grad in zip(wrt, grads, strict=True):
        w.record(f"d {name}", grad)
    seconds = _gradients(_loss(w, tuple(grads), "second"), wrt)
    for name, grad in zip(wrt, seconds, strict=True):
        w.record(f"dd {name}", grad)


def _batched(w: World, found: Any, wrt: dict[str, Tensor], x: Tensor) -> None:
    wrt = wrt | w.wanted()
    cotangents = w.tensor("cotangents", 2, *found[0].shape)
    grads: Sequence[Tensor | None] = [None] * len(wrt)
    if found[0].requires_grad and wrt:
        grads = torch.autograd.grad(
            found[0], list(wrt.values()), cotangents, is_grads_batched=True, allow_unused=True
        )
    for (name, of), grad in zip(wrt.items(), grads, strict=True):
        # torch makes the zeros of what has no gradient without the batch.
        w.record(f"d {name}", of.new_zeros(2, *of.shape) if grad is None else grad)


def _changed(which: str) -> Callable[..., None]:
    """Gradients after a change in place: as without it, or of the changed value; or refused.

    The oracle, whose own operations may keep what is changed, changes nothing in place.
    """

    def back(w: World, found: Any, wrt: dict[str, Tensor], x: Tensor) -> None:
        if which != "input":
            # To the loop two parts may be one tensor, where a step returns it twice.
            at = 0 if which == "output" else len(found) - 1
            new = found[at] * 0.5 if w.oracle else found[at].mul_(0.5)
            found = (*found[:at], new, *found[at + 1 :])
        elif not w.oracle:
            with torch.no_grad():
                x.add_(1.0)
        _grads(w, found, wrt, x)

    return back


BACKS: dict[str, Callable[..., None]] = {
    "none": lambda w, found, wrt, x: None,
    "accumulate": _accumulate,
    "grad": _grads,
    "grad twice": lambda w, found, wrt, x: _grads(w, found, wrt, x, times=2),
    "second order": _second,
    "batched": _batched,
    "output changed": _changed("output"),
    "last state changed": _changed("last state"),
    "input changed": _changed("input"),
}


# ------------------------------------------------------------------ other ways in


def again(w: World, T: int, B: int, second: bool) -> None:
    """layer(layer(x)), with gradients of first and second order."""
    x, leaf = _input(w, T, B, "plain", True)
    if w.layer.input_size != w.layer.output_size or leaf is None:
        return
    y, state = w.layer(x)
    z, _ = w.layer(y, state)
    w.record("result", z)
    (_second if second else _grads)(w, (z,), {"x": leaf}, x)


def step(w: World, T: int, B: int, back: str) -> None:
    """`layer.step`, time after time."""
    if not streams(w.layer):
        return
    xs = [w.tensor(f"x {t}", B, w.layer.input_size).requires_grad_() for t in range(T)]
    state, outputs = None, []
    for x in xs:
        y, state = w.layer.step(x, state)
        outputs.append(y)
        w.record("output", y)
    found = (*outputs, *leaves(state))
    BACKS[back](w, found, {f"x {t}": x for t, x in enumerate(xs)}, xs[0])


def stream(w: World, T: int, B: int | None) -> None:
    """`layer.stream`: what it hands out is written to, a copy goes on by itself."""
    if not streams(w.layer):
        return
    running = w.layer.stream(batch_size=B)
    shape = [w.layer.input_size] if B is None else [B, w.layer.input_size]
    for t in range(T):
        if t == T // 2:
            other = copy.deepcopy(running)
            running = pickle.loads(pickle.dumps(running))
            w.record("copy", other(w.tensor("x", *shape)))
        y = running(w.tensor(f"x {t}", *shape))
        w.record("output", y)
        y.zero_()
    w.record_all("state", running.state)


def vmap(w: World, T: int, B: int) -> None:
    """torch.vmap over several batches."""
    xs = torch.stack([_input(w, T, B, "plain", False)[0], w.tensor("other", *_shape(w, T, B))])
    w.record("result", torch.vmap(lambda x: w.layer(x)[0], randomness="same")(xs))


def _shape(w: World, T: int, B: int) -> tuple[int, ...]:
    first = (B, T) if w.layer.batch_first else (T, B)
    return (*first, w.layer.input_size)


def func(w: World, T: int, B: int, kind: str) -> None:
    """torch.func: the gradient of a functional call, and forward mode."""
    x = w.tensor("x", *_shape(w, T, B))
    if kind == "jvp":
        tangent = w.tensor("tangent", *x.shape)
        for value in torch.func.jvp(lambda x: w.layer(x)[0], (x,), (tangent,)):
            w.record("result and tangent", value)
        return
    values = {name: p.detach() for name, p in w.parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        y, _ = torch.func.functional_call(w.layer, values, (x,))
        return (y * w.tensor("cotangent", *y.shape)).sum()

    for name, grad in torch.func.grad(loss)(values).items():
        w.record(f"d {name}", grad)


def functional(w: World, T: int, B: int) -> None:
    """A step of gradient descent inside the graph, and the gradient through it (MAML)."""
    x = w.tensor("x", *_shape(w, T, B))
    values = dict(w.wanted())
    if not values:
        return
    y, _ = torch.func.functional_call(w.layer, values, (x,))
    grads = torch.autograd.grad(
        y.square().sum(), list(values.values()), create_graph=True,
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    moved = {n: v - 0.1 * g for (n, v), g in zip(values.items(), grads, strict=True)}
    y, _ = torch.func.functional_call(w.layer, moved, (x,))
    w.record("result", y)
    _grads(w, (y,), {}, x)


def threads(w: World, T: int, B: int, back: bool) -> None:
    """Two threads on one layer, as in evaluation."""
    training = w.layer.training
    w.layer.eval()
    wanted = list(w.wanted().values())
    xs = [w.tensor(f"x {k}", *_shape(w, T, B)) for k in range(2)]

    def run(x: Tensor) -> list[Tensor]:
        y, state = w.layer(x)
        if not back or not wanted:
            return [y.detach(), *leaves(state)]
        loss = y.square().sum()
        grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        return [y, *grads]

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(run, xs):
            for value in found:
                w.record("of a thread", value)
    w.layer.train(training)


def packed(w: World, T: int, B: int) -> None:
    """A PackedSequence, for what takes one."""
    if not hasattr(w.layer, "mode"):
        return
    x = w.tensor("x", T, B, w.layer.input_size).requires_grad_()
    lengths = (w.chance("lengths", B) * T).long() + 1
    given = pack_padded_sequence(x, lengths.clamp(max=T), enforce_sorted=False)
    y, state = w.layer(given)
    assert isinstance(y, PackedSequence)
    w.record("result", y.data)
    _grads(w, (y.data, *leaves(state)), {"x": x}, x)
