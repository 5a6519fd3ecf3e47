"""Local laws: an operation and its arguments, said more simply."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from elman.compiler.ir.build import Build
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import ELEMENTWISE, LOGICAL, Node, const

Rule = Callable[[Build, Node], Node | None]


def rewrite(node: Node) -> Node | None:
    """The same value in simpler words, or None. Its parts may again be simplified."""
    b = Build(node.line)
    if node.op in ELEMENTWISE:
        if any(len(arg.shape) != 1 for arg in node.args):
            return None  # a sum of gradients of a matrix
        found = _folded(b, node) or _unspread(b, node)
        if found is not None:
            return found
    rule = RULES.get(node.op)
    better = None if rule is None else rule(b, node)
    return better if better is None else b.broadcast(better, node.size)


def number(node: Node) -> float | None:
    """The number that a value is everywhere, if it is."""
    if node.op == "broadcast":
        return number(node.args[0])
    value: float | None = node.attrs["value"] if node.op == "const" else None
    return value


def _folded(b: Build, node: Node) -> Node | None:
    values = [number(arg) for arg in node.args]
    if any(value is None for value in values) or node.op in (*LOGICAL, "where"):
        return None
    single = Node(node.op, tuple(const(v) for v in values if v is not None), (1,), node.varies)
    like = torch.zeros((), dtype=torch.float64, device="cpu")
    value = evaluate([single], {const(0.0): like})[0].item()
    return b.broadcast(const(value), node.size)


def _unspread(b: Build, node: Node) -> Node | None:
    """A value of size 1 goes with any: it is not repeated first."""
    if not any(arg.op == "broadcast" for arg in node.args):
        return None
    plain = [arg.args[0] if arg.op == "broadcast" else arg for arg in node.args]
    result = b(node.op, *plain)
    return result if result.size == node.size else b.broadcast(result, node.size)


def _add(b: Build, node: Node) -> Node | None:
    x, y = node.args
    for one, other in ((x, y), (y, x)):
        if number(one) == 0:
            return other
        if one.op == "neg":
            return b("sub", other, one.args[0])
    return None


def _sub(b: Build, node: Node) -> Node | None:
    x, y = node.args
    if number(y) == 0:
        return x
    if number(x) == 0:
        return b("neg", y)
    if y.op == "neg":
        return b("add", x, y.args[0])
    return b("neg", b("add", x.args[0], y)) if x.op == "neg" else None


def _mul(b: Build, node: Node) -> Node | None:
    for x, y in (node.args, node.args[::-1]):
        factor = number(y)
        if x.op == "neg":
            return b("neg", b("mul", x.args[0], y))
        if factor is None:
            continue
        if factor in (1, -1):
            return x if factor == 1 else b("neg", x)
        if x.op == "mul":
            for part, rest in (x.args, x.args[::-1]):
                inner = number(part)
                if inner is not None and _holds(inner * factor):
                    return b("mul", rest, inner * factor)
    return None


def _holds(number: float) -> bool:
    """Whether a number, and its reciprocal, are ordinary ones in every dtype but float16."""
    return 1e-30 < abs(number) < 1e30


def _div(b: Build, node: Node) -> Node | None:
    x, y = node.args
    divisor = number(y)
    if divisor is not None and _holds(divisor):
        return b("mul", x, 1 / divisor)
    if x.op == "neg":
        return b("neg", b("div", x.args[0], y))
    return b("neg", b("div", x, y.args[0])) if y.op == "neg" else None


def _neg(b: Build, node: Node) -> Node | None:
    (x,) = node.args
    if x.op == "neg":
        return x.args[0]
    if x.op == "sub":
        return b("sub", x.args[1], x.args[0])
    if x.op == "mul":
        for one, other in (x.args, x.args[::-1]):
            factor = number(one)
            if factor is not None:
                return b("mul", other, -factor)
    return None


def _where(b: Build, node: Node) -> Node | None:
    c, x, y = node.args
    if x is y or (number(x) is not None and repr(number(x)) == repr(number(y))):
        return x
    if c.op == "not":
        return b("where", c.args[0], y, x)
    if x.op == "where" and x.args[0] is c:
        return b("where", c, x.args[1], y)
    if y.op == "where" and y.args[0] is c:
        return b("where", c, x, y.args[2])
    return None


def _slice(b: Build, node: Node) -> Node | None:
    (a,) = node.args
    start, stop = node.attrs["start"], node.attrs["stop"]
    if a.op == "slice":
        return b.slice(a.args[0], a.attrs["start"] + start, a.attrs["start"] + stop)
    if a.op == "broadcast":
        return b.broadcast(a.args[0], node.size)
    if a.op != "cat":
        return None
    parts, at = [], 0
    for part in a.args:
        low, high = max(start - at, 0), min(stop - at, part.size)
        if low < high:
            parts.append(b.slice(part, low, high))
        at += part.size
    return b.cat(parts)


def _cat(b: Build, node: Node) -> Node | None:
    parts: list[Node] = []
    for part in (p for arg in node.args for p in (arg.args if arg.op == "cat" else (arg,))):
        joined = _joined(b, parts[-1], part) if parts else None
        if joined is not None:
            parts[-1] = joined
        else:
            parts.append(part)
    return None if parts == list(node.args) else b.cat(parts)


def _joined(b: Build, left: Node, right: Node) -> Node | None:
    """Two values side by side as one."""
    sliced = left.op == right.op == "slice" and left.args == right.args
    if sliced and left.attrs["stop"] == right.attrs["start"]:
        return b.slice(left.args[0], left.attrs["start"], right.attrs["stop"])
    value = number(left)
    if value is not None and repr(value) == repr(number(right)):
        return b.broadcast(const(value), left.size + right.size)
    return None


def _reduce(b: Build, node: Node) -> Node | None:
    (a,) = node.args
    if a.size == 1:
        return a
    if a.op == "broadcast":
        one = a.args[0]
        return one if node.op == "amax" else b("mul", one, float(a.size))
    return b("neg", b("sum", a.args[0])) if node.op == "sum" and a.op == "neg" else None


def _stop(b: Build, node: Node) -> Node | None:
    (a,) = node.args
    return a if a.op in ("stop", "const") else None


def _rowsum(b: Build, node: Node) -> Node | None:
    return node.args[0] if number(node.args[0]) == 0 else None


def _same(b: Build, node: Node) -> Node | None:
    return node.args[0] if node.args[0] is node.args[1] else None


def _not(b: Build, node: Node) -> Node | None:
    (a,) = node.args
    return a.args[0] if a.op == "not" else None


RULES: dict[str, Rule] = {
    "add": _add,  # x + 0   x + -y
    "sub": _sub,  # x - 0   0 - x   x - -y   -x - y
    "mul": _mul,  # x * 1   -x * y   (x * 2) * 3
    "div": _div,  # x / 2   -x / y
    "neg": _neg,  # --x   -(x - y)   -(x * 2)
    "where": _where,  # where(c, x, x)   where(not c, x, y)   where(c, where(c, x, y), z)
    "maximum": _same,
    "minimum": _same,
    "not": _not,
    "slice": _slice,  # of a slice, of a cat, of a repeated value
    "cat": _cat,  # of a cat, of slices that lie side by side
    "sum": _reduce,
    "amax": _reduce,
    "stop": _stop,
    "rowsum": _rowsum,  # of zeros
}


def key(node: Node, commutative: Sequence[str] = ("add", "mul", "maximum", "minimum")) -> object:
    """Equal for nodes of one value: the same operation on the same arguments."""
    if not node.args and node.op not in ("const", "call"):
        return node
    args = [id(arg) for arg in node.args]
    if node.op in commutative:
        args.sort()
    return node.op, tuple(args), node.shape, repr(sorted(node.attrs.items(), key=_by_name))


def _by_name(item: tuple[str, object]) -> str:
    return item[0]
