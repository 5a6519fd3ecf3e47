"""Whether an expression is one: an error of the compiler is found where it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elman.compiler.ir.nodes import (
    BINARY,
    COMPARE,
    ELEMENTWISE,
    LEAVES,
    OPS,
    REDUCE,
    UNARY,
    DType,
    Node,
    Varies,
    varies_as,
    walk,
)

ARITY = {
    **dict.fromkeys((*UNARY, *REDUCE, "slice", "broadcast", "stop", "rowsum"), 1),
    **dict.fromkeys((*BINARY, *COMPARE, "linear", "outer"), 2),
    **dict.fromkeys(LEAVES, 0),
    "where": 3,
}


class InternalError(AssertionError):
    """The compiler made an expression that means nothing: a defect of elman."""


def verify(outputs: Sequence[Node]) -> None:
    """Raise InternalError for the first node whose operation, arguments or shape do not fit."""
    for node in walk(outputs):
        _require(node.op in OPS, node, "no operation of the language")
        expected = ARITY.get(node.op, len(node.args))
        _require(len(node.args) == expected, node, f"{expected} arguments, got {len(node.args)}")
        _require(node.op == "call" or _is_vector(node), node, "a vector")
        _varies(node)
        _types(node)
        if node.op in SHAPES:
            shape = SHAPES[node.op](node)
            _require(node.shape == shape, node, f"the shape {list(shape)}")
        if node.is_row:
            sums = [arg for arg in node.args if arg.op in ("outer", "rowsum")]
            _require(not sums, node, "no sum over the rows inside a step")


def _require(holds: bool, node: Node, expected: str) -> None:
    if not holds:
        where = f" from {node.line}" if node.line else ""
        args = ", ".join(map(repr, node.args))
        raise InternalError(f"{node!r} of ({args}){where}: expected {expected}")


def _is_vector(node: Node) -> bool:
    """Weights may have any shape, and sums of what they get have theirs."""
    return not node.is_row or (len(node.shape) == 1 and node.shape[0] > 0)


def _varies(node: Node) -> None:
    if node.op == "x":
        _require(node.varies is Varies.INPUT, node, "to vary with the input")
    elif node.op in ("state", "mask", "cotangent"):
        _require(node.varies is Varies.STATE, node, "to vary with the state")
    elif node.op in ("weight", "const", "call", "outer", "rowsum"):
        _require(node.varies is Varies.WEIGHT, node, "to be a weight")
        if node.op == "call":
            _require(all(not arg.is_row for arg in node.args), node, "weights alone")
    else:
        most = varies_as(node.op, node.args)
        _require(node.varies is most, node, f"to vary as {most.name}")


def _elementwise(node: Node) -> tuple[int, ...]:
    shapes = {arg.shape for arg in node.args}
    if len(shapes) == 1:
        return node.args[0].shape
    _require(all(len(s) == 1 for s in shapes), node, "vectors")
    sizes = {arg.size for arg in node.args} - {1}
    _require(len(sizes) <= 1, node, "vectors of one size")
    return (sizes.pop() if sizes else 1,)


def _types(node: Node) -> None:
    """Comparisons make truth values, where and logic take them, and everything else numbers."""
    for index, arg in enumerate(node.args):
        truth = node.op in ("and", "or", "not") or (node.op == "where" and index == 0)
        kind = "a truth value" if truth else "a number"
        _require((arg.dtype is DType.BOOL) is truth, node, f"{kind} as argument {index}")


def _slice(node: Node) -> tuple[int, ...]:
    start, stop = node.attrs["start"], node.attrs["stop"]
    _require(0 <= start < stop <= node.args[0].size, node, f"a part, got {start}:{stop}")
    return (stop - start,)


def _broadcast(node: Node) -> tuple[int, ...]:
    _require(node.args[0].size == 1, node, "a value of size 1")
    return (node.attrs["size"],)


def _linear(node: Node) -> tuple[int, ...]:
    v, W = node.args
    _require(not W.is_row and len(W.shape) == 2, node, "a weight matrix")
    _require(W.shape[-1] == v.size, node, f"{W.shape[-1]} numbers to multiply")
    return (W.shape[0],)


def _outer(node: Node) -> tuple[int, ...]:
    _require(any(arg.is_row for arg in node.args), node, "a row value")
    return (node.args[0].size, node.args[1].size)


def _rowsum(node: Node) -> tuple[int, ...]:
    _require(node.args[0].is_row, node, "a row value")
    return node.args[0].shape


SHAPES: dict[str, Callable[[Node], tuple[int, ...]]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCE, lambda node: (1,)),
    "slice": _slice,
    "cat": lambda node: (sum(arg.size for arg in node.args),),
    "broadcast": _broadcast,
    "stop": lambda node: node.args[0].shape,
    "linear": _linear,
    "outer": _outer,
    "rowsum": _rowsum,
}
