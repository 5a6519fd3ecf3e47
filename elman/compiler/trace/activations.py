"""torch's elementwise functions in the language of a step: values and gradients are torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from elman.compiler.ir.build import Build, RefusedError
from elman.compiler.ir.nodes import Node
from elman.compiler.ir.weights import aten

Number = Node | float


def _same(op: str) -> Callable[..., Node]:
    return lambda b, *args: b(op, *args)


def _add(b: Build, x: Number, y: Number, alpha: float = 1) -> Node:
    return b("add", x, y if alpha == 1 else b("mul", y, alpha))


def _sub(b: Build, x: Number, y: Number, alpha: float = 1) -> Node:
    return b("sub", x, y if alpha == 1 else b("mul", y, alpha))


def _div(b: Build, x: Number, y: Number, rounding_mode: str | None = None) -> Node:
    if rounding_mode is not None:
        raise RefusedError("it rounds")
    return b("div", x, y)


def _pow(b: Build, x: Number, exponent: Number) -> Node:
    if isinstance(exponent, Node) or not isinstance(x, Node):
        return b("pow", x, exponent)
    x = b.row(x)
    if exponent == 0:
        return b.broadcast(b.row(1.0), x.size)
    roots = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if float(exponent) in roots:
        return b(roots[float(exponent)], x)
    if exponent in (1, 2, 3):
        return x if exponent == 1 else b("mul", x if exponent == 2 else b("mul", x, x), x)
    return b("pow", x, exponent)


def _clamp(b: Build, x: Node, low: Number | None = None, high: Number | None = None) -> Node:
    y = x if low is None else _bounded(b, "lt", x, low)
    return y if high is None else _bounded(b, "gt", y, high)


def _bounded(b: Build, beyond: str, x: Node, bound: Number) -> Node:
    if bound != bound:  # NaN, whatever x is
        return b.broadcast(b.row(bound), x.size)
    outside = b(beyond, x, bound)
    if isinstance(bound, Node):  # which may be NaN
        outside = b("or", outside, b("ne", bound, bound))
    return b("where", outside, bound, x)


def _hardtanh(b: Build, x: Node, low: float = -1.0, high: float = 1.0) -> Node:
    inner = b("where", b("ge", x, high), high, x)
    return b("where", b("le", x, low), low, inner)


def _hardsigmoid(b: Build, x: Node) -> Node:
    return b("div", _hardtanh(b, b("add", x, 3.0), 0.0, 6.0), 6.0)


def _hardswish(b: Build, x: Node) -> Node:
    return b("div", b("mul", x, _hardtanh(b, b("add", x, 3.0), 0.0, 6.0)), 6.0)


def _gelu(b: Build, x: Node, approximate: str = "none") -> Node:
    if approximate == "none":
        bent = b("erf", b("mul", x, math.sqrt(0.5)))
    else:
        cube = b("mul", b("mul", b("mul", x, x), x), 0.044715)
        bent = b("tanh", b("mul", b("add", x, cube), math.sqrt(2 / math.pi)))
    return b("mul", b("mul", x, 0.5), b("add", bent, 1.0))


def _softplus(b: Build, x: Node, beta: float = 1, threshold: float = 20) -> Node:
    scaled = b("mul", x, beta)
    linear = b("gt", scaled, threshold)
    # Where the line is taken, exp would overflow and its gradient become NaN.
    soft = b("log1p", b("exp", b("where", linear, 0.0, scaled)))
    return b("where", linear, x, b("div", soft, beta))


def _log_sigmoid_forward(b: Build, x: Node) -> tuple[Node, None]:
    positive = b("gt", x, 0.0)
    soft = b("log1p", b("exp", b("neg", _distance(b, positive, x))))
    return b("sub", b("where", positive, 0.0, x), soft), None


def _distance(b: Build, positive: Node, x: Node) -> Node:
    """|x|, whose slope at 0 is that of one side: what is smooth there is so in every order."""
    return b("where", positive, x, b("neg", x))


def _elu(b: Build, x: Node, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Node:
    positive = b("gt", x, 0.0)
    below = b("mul", b("where", positive, 0.0, x), input_scale)
    return b("where", positive, b("mul", x, scale), b("mul", b("expm1", below), alpha * scale))


def _celu(b: Build, x: Node, alpha: float = 1) -> Node:
    return _elu(b, x, alpha, 1.0, 1.0 / alpha)


def _leaky_relu(b: Build, x: Node, slope: Number = 0.01) -> Node:
    return b("where", b("gt", x, 0.0), x, b("mul", x, slope))


def _threshold(b: Build, x: Node, threshold: float, value: float) -> Node:
    return b("where", b("le", x, threshold), value, x)


def _mish(b: Build, x: Node) -> Node:
    return b("mul", x, b("tanh", _softplus(b, x)))


def _addcmul(b: Build, x: Node, y: Node, z: Node, value: float = 1) -> Node:
    return _add(b, x, b("mul", y, z), value)


def _addcdiv(b: Build, x: Node, y: Node, z: Node, value: float = 1) -> Node:
    return _add(b, x, b("div", y, z), value)


def _lerp(b: Build, start: Node, end: Node, weight: Number) -> Node:
    apart = b("sub", end, start)
    if not isinstance(weight, Node) and abs(weight) >= 0.5:
        return b("sub", end, b("mul", apart, 1 - weight))
    return b("add", start, b("mul", weight, apart))


def _logaddexp(b: Build, x: Node, y: Node) -> Node:
    alike = b("and", b("eq", x, y), b("eq", b("abs", x), math.inf))  # inf - inf is 0 here
    apart = b("where", alike, 0.0, b("sub", x, y))
    above = b("gt", apart, 0.0)
    soft = b("log1p", b("exp", b("neg", _distance(b, above, apart))))
    return b("add", b("where", above, x, y), soft)


def _xor(b: Build, x: Node, y: Node) -> Node:
    return b("or", b("and", x, b("not", y)), b("and", b("not", x), y))


def _scaled(op: str, before: float = 1.0, after: float = 1.0) -> Callable[..., Node]:
    def rule(b: Build, x: Node) -> Node:
        y = b(op, x if before == 1.0 else b("mul", x, before))
        return y if after == 1.0 else b("mul", y, after)

    return rule


#: By torch's name, the way to write it here.
ELEMENTWISE: dict[Any, Callable[..., Any]] = {
    **{
        getattr(aten, op): _same(op)
        for op in (
            *("neg", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "abs"),
            *("sign", "sigmoid", "tanh", "erf", "relu", "sin", "cos", "mul", "maximum"),
            *("minimum", "lt", "le", "gt", "ge", "eq", "ne"),
        )
    },
    aten.sgn: _same("sign"),
    aten.add: _add,
    aten.sub: _sub,
    aten.rsub: lambda b, x, y, alpha=1: _sub(b, y, x, alpha),
    aten.div: _div,
    aten.pow: _pow,
    aten.square: lambda b, x: b("mul", x, x),
    aten.clamp: _clamp,
    aten.clamp_min: _clamp,
    aten.clamp_max: lambda b, x, high: _clamp(b, x, None, high),
    aten.hardtanh: _hardtanh,
    aten.relu6: lambda b, x: _hardtanh(b, x, 0.0, 6.0),
    aten.hardsigmoid: _hardsigmoid,
    aten.hardswish: _hardswish,
    aten.gelu: _gelu,
    aten.silu: lambda b, x: b("mul", x, b("sigmoid", x)),
    aten.mish: _mish,
    aten.softplus: _softplus,
    aten.log_sigmoid_forward: _log_sigmoid_forward,
    aten.elu: _elu,
    aten.celu: _celu,
    aten.leaky_relu: _leaky_relu,
    aten._prelu_kernel: _leaky_relu,
    aten.threshold: _threshold,
    aten.addcmul: _addcmul,
    aten.addcdiv: _addcdiv,
    aten.lerp: _lerp,
    aten.logaddexp: _logaddexp,
    aten.tan: lambda b, x: b("div", b("sin", x), b("cos", x)),
    aten.exp2: _scaled("exp", before=math.log(2)),
    aten.log2: _scaled("log", after=1 / math.log(2)),
    aten.log10: _scaled("log", after=1 / math.log(10)),
    aten.isnan: lambda b, x: b("ne", x, x),
    aten.isinf: lambda b, x: b("eq", b("abs", x), math.inf),
}
#: Those that take truth values as they are.
LOGICAL: dict[Any, Callable[..., Node]] = {
    aten.where: _same("where"),
    aten.masked_fill: lambda b, x, mask, value: b("where", mask, value, x),
    aten.logical_not: _same("not"),
    aten.bitwise_not: _same("not"),
    aten.logical_and: _same("and"),
    aten.bitwise_and: _same("and"),
    aten.logical_or: _same("or"),
    aten.bitwise_or: _same("or"),
    aten.logical_xor: _xor,
    aten.bitwise_xor: _xor,
}
