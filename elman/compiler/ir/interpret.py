"""What every operation of a step means, in torch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.compiler.ir.nodes import Node, walk
from elman.compiler.ir.weights import replay

#: A constant is a number until an operation needs it as a tensor.
Value = Any


def evaluate(outputs: Sequence[Node], values: Mapping[Node, Tensor]) -> list[Tensor]:
    """The values of the outputs, by torch operations that autograd can follow.

    values: of the leaves at least. A row value is [R, n], a weight has its own shape. Any node
    found there is taken as it is, so the step can be cut anywhere. What depends on weights alone
    keeps its own shape too: an output that does is (n,).
    """
    return evaluate_in_order(list(walk(outputs, until=values)), outputs, values)


def evaluate_in_order(
    order: Iterable[Node], outputs: Sequence[Node], values: Mapping[Node, Tensor]
) -> list[Tensor]:
    """`evaluate`, where it is known already what ``walk(outputs)`` meets."""
    like = next((v for v in values.values() if v.is_floating_point()), None)
    like = torch.zeros((), device="cpu") if like is None else like
    found: dict[Node, Value] = dict(values)
    for node in order:
        if node not in found:
            found[node] = _value(node, [found[arg] for arg in node.args], like)
    return [_tensor(found[node], like) for node in outputs]


def _value(node: Node, args: list[Value], like: Tensor) -> Value:
    if node.op == "const":
        return node.attrs["value"]
    if node.op not in MEANING:
        raise KeyError(f"the {node.op} {node!r} has no value")
    if node.op not in TAKES_NUMBERS or not any(isinstance(arg, Tensor) for arg in args):
        args = [_tensor(arg, like) for arg in args]
    return MEANING[node.op](node, *args)


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else like.new_full((1,), value)


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda node, *args: function(*args)


def _cat(node: Node, *parts: Tensor) -> Tensor:
    rows = next((p.shape[:-1] for p in parts if p.dim() > 1), ())
    return torch.cat([p.expand(*rows, p.shape[-1]) for p in parts], dim=-1)


def _slice(node: Node, a: Tensor) -> Tensor:
    return a[..., node.attrs["start"] : node.attrs["stop"]]


def _broadcast(node: Node, a: Tensor) -> Tensor:
    return a.expand(*a.shape[:-1], node.size)


def _outer(node: Node, d: Tensor, v: Tensor) -> Tensor:
    both = d.dim() == v.dim() == 2
    if both and d.shape[0] == v.shape[0]:
        return d.T @ v
    rows = max(len(d), len(v)) if both else len(d if d.dim() == 2 else v)
    return d.expand(rows, d.shape[-1]).T @ v.expand(rows, v.shape[-1])


MEANING: dict[str, Callable[..., Tensor]] = {
    **{
        name: _plain(getattr(torch, name))
        for name in (
            *("neg", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "abs"),
            *("sign", "sigmoid", "tanh", "erf", "relu", "sin", "cos", "maximum", "minimum"),
        )
    },
    "not": _plain(torch.logical_not),
    "and": _plain(torch.logical_and),
    "or": _plain(torch.logical_or),
    **{name: _plain(getattr(operator, name)) for name in ("add", "sub", "mul", "pow")},
    "div": _plain(operator.truediv),
    **{name: _plain(getattr(operator, name)) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "where": _plain(torch.where),
    "sum": lambda node, a: a.sum(-1, keepdim=True),
    "amax": lambda node, a: a.amax(-1, keepdim=True),
    "slice": _slice,
    "cat": _cat,
    "broadcast": _broadcast,
    "linear": lambda node, v, W: torch.nn.functional.linear(v, W),
    "stop": lambda node, a: a.detach(),
    "outer": _outer,
    "rowsum": lambda node, e: e.sum(0),
    "call": lambda node, *args: replay(node, args),
}
#: Operations that take a number beside a tensor.
TAKES_NUMBERS = frozenset(("add", "sub", "mul", "div", "pow", "lt", "le", "gt", "ge", "eq", "ne"))
