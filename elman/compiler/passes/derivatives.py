"""The derivative of every operation: one table."""

from __future__ import annotations

import math
from collections.abc import Callable

from elman.compiler.ir.build import Build
from elman.compiler.ir.nodes import LOGICAL, Node, linear
from elman.compiler.ir.weights import aten, call, is_transposed, transposed

#: What each argument of a node gets from the gradient d of its value; None: nothing.
Gradients = tuple[Node | None, ...]


def gradients_of_arguments(node: Node, d: Node) -> Gradients:
    """The gradients of a node's arguments.

    d: the gradient of its value, of the same size. An argument of size 1 that went with a longer
    one gets a gradient of that length, to be summed. A slice, a cat and the weight of a product
    are for the walk: what they get is no elementwise value.
    """
    if node.op in LOGICAL or node.op in ("sign", "stop"):
        return (None,) * len(node.args)
    assert node.op in DERIVATIVES, f"{node!r} has no derivative"
    return DERIVATIVES[node.op](Build(node.line), d, node, *node.args)


def _tied(b: Build, d: Node, x: Node, other: Node, lost: str) -> Node:
    """The greatest gets d; of two that are equal, each a half."""
    won = b("where", b(lost, x, other), 0.0, d)
    return b("where", b("eq", x, other), b("mul", d, 0.5), won)


def _amax(b: Build, d: Node, y: Node, x: Node) -> Gradients:
    greatest = b("eq", x, y)
    share = b("div", d, b("sum", b("where", greatest, 1.0, 0.0)))
    return (b("where", greatest, share, 0.0),)


def _pow(b: Build, d: Node, y: Node, x: Node, exponent: Node) -> Gradients:
    slope = b("mul", exponent, b("pow", x, b("sub", exponent, 1.0)))
    d_x = b("where", b("eq", exponent, 0.0), 0.0, b("mul", d, slope))
    flat = b("and", b("eq", x, 0.0), b("ge", exponent, 0.0))
    d_exponent = b("where", flat, 0.0, b("mul", d, b("mul", y, b("log", x))))
    return d_x, d_exponent


def _linear(b: Build, d: Node, y: Node, v: Node, W: Node) -> Gradients:
    return linear(d, transposed(W, b.line), b.line), None


def _mul(b: Build, d: Node, y: Node, x: Node, z: Node) -> Gradients:
    if x is z:
        return b("mul", b("mul", d, 2.0), x), None
    return b("mul", d, z), b("mul", d, x)


def _div(b: Build, d: Node, y: Node, x: Node, z: Node) -> Gradients:
    d_x = b("div", d, z)
    return d_x, b("neg", b("mul", d_x, y))


def _call(b: Build, d: Node, y: Node, *args: Node) -> Gradients:
    if is_transposed(y):
        return (transposed(d),)
    assert y.attrs["func"] is aten.reshape.default, f"torch differentiates {y!r}: cut it there"
    shape = args[0].shape
    return (call(aten.reshape.default, [d, shape], shape),)


DERIVATIVES: dict[str, Callable[..., Gradients]] = {
    # op: from d, the gradient of y = op(x, z), those of x and z
    "neg": lambda b, d, y, x: (b("neg", d),),
    "exp": lambda b, d, y, x: (b("mul", d, y),),
    "log": lambda b, d, y, x: (b("div", d, x),),
    "log1p": lambda b, d, y, x: (b("div", d, b("add", x, 1.0)),),
    "expm1": lambda b, d, y, x: (b("mul", d, b("exp", x)),),  # y + 1 has no digits below 1e-16
    "sqrt": lambda b, d, y, x: (b("div", d, b("mul", y, 2.0)),),
    "rsqrt": lambda b, d, y, x: (b("mul", d, b("mul", b("mul", b("mul", y, y), y), -0.5)),),
    "reciprocal": lambda b, d, y, x: (b("neg", b("mul", d, b("mul", y, y))),),
    "abs": lambda b, d, y, x: (b("mul", d, b("sign", x)),),
    "sigmoid": lambda b, d, y, x: (b("mul", d, b("mul", y, b("sub", 1.0, y))),),
    "tanh": lambda b, d, y, x: (b("mul", d, b("sub", 1.0, b("mul", y, y))),),
    "erf": lambda b, d, y, x: (
        b("mul", d, b("mul", b("exp", b("neg", b("mul", x, x))), 2 / math.sqrt(math.pi))),
    ),
    "relu": lambda b, d, y, x: (b("where", b("le", y, 0.0), 0.0, d),),
    "sin": lambda b, d, y, x: (b("mul", d, b("cos", x)),),
    "cos": lambda b, d, y, x: (b("neg", b("mul", d, b("sin", x))),),
    "add": lambda b, d, y, x, z: (d, d),
    "sub": lambda b, d, y, x, z: (d, b("neg", d)),
    "mul": _mul,
    "div": _div,
    "maximum": lambda b, d, y, x, z: (_tied(b, d, x, z, "lt"), _tied(b, d, z, x, "lt")),
    "minimum": lambda b, d, y, x, z: (_tied(b, d, x, z, "gt"), _tied(b, d, z, x, "gt")),
    "pow": _pow,
    "where": lambda b, d, y, c, x, z: (None, b("where", c, d, 0.0), b("where", c, 0.0, d)),
    "sum": lambda b, d, y, x: (d,),
    "amax": _amax,
    "broadcast": lambda b, d, y, x: (d,),
    "linear": _linear,
    "call": _call,
}
