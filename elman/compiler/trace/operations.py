"""torch's operations on rows in the language of a step: products, and what runs along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from elman.compiler.ir.build import Build, RefusedError
from elman.compiler.ir.nodes import Node, linear
from elman.compiler.ir.weights import aten, reshaped, transposed

# ------------------------------------------------------------------ products


def _mm(b: Build, v: Node, W: Node) -> Node:
    """v W for a weight W: [K, N]."""
    if W.is_row or len(W.shape) != 2:
        raise RefusedError("only a weight matrix multiplies a vector of the step")
    return linear(b.row(v), transposed(W, b.line), b.line)


def _mv(b: Build, v: Node, w: Node) -> Node:
    if w.is_row:
        raise RefusedError("only a weight multiplies a vector of the step")
    return linear(b.row(v), reshaped(w, (1, w.size), b.line), b.line)


def _addmm(b: Build, c: Node, v: Node, W: Node, beta: float = 1, alpha: float = 1) -> Node:
    product = _mm(b, v, W)
    product = product if alpha == 1 else b("mul", product, alpha)
    return b("add", product, c if beta == 1 else b("mul", c, beta))


# ------------------------------------------------------------------ parts of a vector


def _split(b: Build, x: Node, sizes: int | Sequence[int], dim: int = 0) -> tuple[Node, ...]:
    b.last(dim)
    if isinstance(sizes, int):
        sizes = [min(sizes, x.size - at) for at in range(0, x.size, sizes)]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return tuple(b.slice(x, at, at + size) for at, size in zip(starts, sizes, strict=True))


def _slice(
    b: Build, x: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Node | None:
    whole = (start or 0) == 0 and (end is None or end >= 2**31) and step == 1
    if whole:
        return x
    b.last(dim)
    at, stop, _ = slice(start, end).indices(x.size)
    if step != 1:
        raise RefusedError("it takes only every few numbers")
    return b.slice(x, at, stop) if stop > at else None


def _select(b: Build, x: Node, dim: int, index: int) -> Node:
    b.last(dim)
    at = index % x.size
    return b.slice(x, at, at + 1)


def _unbind(b: Build, x: Node, dim: int = 0) -> tuple[Node, ...]:
    b.last(dim)
    return tuple(b.slice(x, at, at + 1) for at in range(x.size))


def _cat(b: Build, parts: Sequence[Node], dim: int = 0) -> Node:
    b.last(dim)
    return b.cat(list(parts))


def _stack(b: Build, parts: Sequence[Node], dim: int = 0) -> Node:
    if b.rank != 1 or dim not in (-1, 1):
        raise RefusedError("it makes a further axis")
    return b.cat(list(parts))


def _glu(b: Build, x: Node, dim: int = -1) -> Node:
    value, gate = _split(b, x, x.size // 2, dim)
    return b("mul", value, b("sigmoid", gate))


def _expand(b: Build, x: Node, sizes: Sequence[int], implicit: bool = False) -> Node:
    return x if sizes[-1] in (-1, x.size) else b.broadcast(x, sizes[-1])


def _same_row(b: Build, x: Node, *shape: Any, **options: Any) -> Node:
    """Another view of the same numbers: the tracer compares the shapes."""
    return x


# ------------------------------------------------------------------ along the last axis


def _along(b: Build, axis: int | Sequence[int] | None) -> None:
    axes = [axis] if isinstance(axis, int) or axis is None else list(axis)
    if len(axes) != 1:
        raise RefusedError("it is not along the last axis alone")
    b.last(axes[0])


def _sum(b: Build, x: Node, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Node:
    _along(b, dim)
    return b("sum", x)


def _mean(b: Build, x: Node, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Node:
    return b("div", _sum(b, x, dim), float(x.size))


def _amax(b: Build, x: Node, dim: Any = (), keepdim: bool = False) -> Node:
    _along(b, dim)
    return b("amax", x)


def _amin(b: Build, x: Node, dim: Any = (), keepdim: bool = False) -> Node:
    return b("neg", _amax(b, b("neg", x), dim))


def _var_mean(
    b: Build, x: Node, dim: Any = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Node, Node]:
    mean = _mean(b, x, dim)
    apart = b("sub", x, mean)
    free = x.size - (1 if correction is None else correction)
    return b("div", b("sum", b("mul", apart, apart)), float(max(free, 0))), mean


def _var(b: Build, *args: Any, **options: Any) -> Node:
    return _var_mean(b, *args, **options)[0]


def _root(b: Build, square: Node) -> Node:
    """The square root, with gradient 0 at 0: that of a norm."""
    zero = b("eq", square, 0.0)
    return b("where", zero, 0.0, b("sqrt", b("where", zero, 1.0, square)))


def _std(b: Build, *args: Any, **options: Any) -> Node:
    return _root(b, _var(b, *args, **options))


def _vector_norm(
    b: Build, x: Node, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Node:
    _along(b, dim)
    if ord == 1:
        return b("sum", b("abs", x))
    if ord != 2:
        raise RefusedError(f"the norm of order {ord} has no rule")
    return _root(b, b("sum", b("mul", x, x)))


def _softmax(b: Build, x: Node, dim: int, half_to_float: bool = False) -> Node:
    b.last(dim)
    raised = b("exp", b("sub", x, b.stop(b("amax", x))))
    return b("div", raised, b("sum", raised))


def _log_softmax(b: Build, x: Node, dim: int, half_to_float: bool = False) -> Node:
    b.last(dim)
    shifted = b("sub", x, b.stop(b("amax", x)))
    return b("sub", shifted, b("log", b("sum", b("exp", shifted))))


def _logsumexp(b: Build, x: Node, dim: Any, keepdim: bool = False) -> Node:
    _along(b, dim)
    top = b("amax", x)
    top = b.stop(b("where", b("eq", b("abs", top), math.inf), 0.0, top))
    return b("add", b("log", b("sum", b("exp", b("sub", x, top)))), top)


def _layer_norm(
    b: Build, x: Node, shape: Sequence[int], gain: Node | None, bias: Node | None, eps: float
) -> tuple[Node, Node, Node]:
    if list(shape) != [x.size]:
        raise RefusedError("it is not over the last axis alone")
    variance, mean = _var_mean(b, x, -1, 0)
    scale = b("rsqrt", b("add", variance, eps))
    y = b("mul", b("sub", x, mean), scale)
    y = y if gain is None else b("mul", y, gain)
    return y if bias is None else b("add", y, bias), mean, scale


#: By torch's name, the way to write it here. A rule gets nodes for tensors.
STRUCTURE: dict[Any, Callable[..., Any]] = {
    aten.mm: _mm,
    aten.mv: _mv,
    aten.addmm: _addmm,
    aten.sum: _sum,
    aten.mean: _mean,
    aten.amax: _amax,
    aten.amin: _amin,
    aten.var: _var,
    aten.var_mean: _var_mean,
    aten.std: _std,
    aten.linalg_vector_norm: _vector_norm,
    aten._softmax: _softmax,
    aten._log_softmax: _log_softmax,
    aten.logsumexp: _logsumexp,
    aten.native_layer_norm: _layer_norm,
    aten.glu: _glu,
}
#: Those that move values and do not compute with them.
MOVES: dict[Any, Callable[..., Any]] = {
    aten.split: _split,
    aten.split_with_sizes: _split,
    aten.slice: _slice,
    aten.select: _select,
    aten.unbind: _unbind,
    aten.cat: _cat,
    aten.stack: _stack,
    aten.expand: _expand,
    aten.detach: lambda b, x: b.stop(x),
    **dict.fromkeys(
        (
            *(aten.alias, aten.clone, aten.contiguous, aten._to_copy, aten.view, aten._unsafe_view),
            *(aten.reshape, aten.unsqueeze, aten.squeeze, aten.permute, aten.lift_fresh),
        ),
        _same_row,
    ),
}
