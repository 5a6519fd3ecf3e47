"""Elementwise functions on explicit vectors of LLVM.

No call leaves the generated code, and no fast-math flag is set: NaN and infinities come out as
in torch, and a value does not depend on where its instructions are written.
"""

from __future__ import annotations

from collections.abc import Callable

from elman.backends.cpu.codegen import circular, exponentials, logarithms
from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.codegen.lanes import Lanes

Emitter = Callable[..., str]


def emit(
    code: Code, ty: Vector, op: str, *args: str, features: frozenset[str] = frozenset()
) -> str:
    """Write ``op(*args)``; returns the name of the value.

    op: a name of `elman.compiler.ir.nodes.ELEMENTWISE`. args: values of type ``ty``; truth values,
    which "and", "or", "not" and the first argument of "where" take and comparisons give, are of
    type ``ty.bool``. features: of the processor, as LLVM names them.
    """
    return EMIT[op](Lanes(code, ty, features), *args)


def _comparison(predicate: str) -> Emitter:
    def write(m: Lanes, a: str, b: str) -> str:
        return m.compare(predicate, a, b)

    return write


def _sign(m: Lanes, x: str) -> str:
    """0 for NaN, as in torch."""
    above = m.select(m.compare("ogt", x, 0.0), 1.0, 0.0)
    return m.select(m.compare("olt", x, 0.0), -1.0, above)


def _extremum(predicate: str) -> Emitter:
    def write(m: Lanes, a: str, b: str) -> str:
        # The comparison alone gives b for any NaN.
        chosen = m.select(m.compare(predicate, a, b), a, b)
        return m.select(m.compare("uno", a, a), a, chosen)

    return write


def _relu(m: Lanes, x: str) -> str:
    return m.at_least(x, 0.0)


def _sqrt(m: Lanes, x: str) -> str:
    return m.intrinsic("sqrt", x)


def _rsqrt(m: Lanes, x: str) -> str:
    return m.div(1.0, _sqrt(m, x))


def _reciprocal(m: Lanes, x: str) -> str:
    return m.div(1.0, x)


EMIT: dict[str, Emitter] = {
    "neg": Lanes.neg,
    "abs": Lanes.abs,
    "add": Lanes.add,
    "sub": Lanes.sub,
    "mul": Lanes.mul,
    "div": Lanes.div,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "sign": _sign,
    "relu": _relu,
    "maximum": _extremum("ogt"),
    "minimum": _extremum("olt"),
    "exp": exponentials.exp,
    "expm1": exponentials.expm1,
    "sigmoid": exponentials.sigmoid,
    "tanh": exponentials.tanh,
    "erf": exponentials.erf,
    "log": logarithms.log,
    "log1p": logarithms.log1p,
    "pow": logarithms.pow,
    "sin": circular.sin,
    "cos": circular.cos,
    "and": Lanes.both,
    "or": Lanes.either,
    "not": Lanes.opposite,
    "lt": _comparison("olt"),
    "le": _comparison("ole"),
    "gt": _comparison("ogt"),
    "ge": _comparison("oge"),
    "eq": _comparison("oeq"),
    "ne": _comparison("une"),
    "where": Lanes.select,
}
