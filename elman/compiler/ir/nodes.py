"""The language of one step: small, immutable, printable.

A `Node` is a value of the step. It is either a *weight* value, the same at every time step and
for every row of the batch, or a *row* value, one vector for each row of the batch. Row values have
shape (n,): the leading axes are never written. A row value of shape (1,) goes with one of any
size, as in torch.

    leaves       weight(name)  const(value)  x  state(name)  mask  cotangent(name)
    weights      call(...)     any torch operation on weights alone: torch runs it, and its gradient
    elementwise  ELEMENTWISE below; where(c, a, b); comparisons give truth values
    last axis    sum(a) -> (1,)   amax(a) -> (1,)   slice(a, start, stop)   cat(a, b, ...)
                 broadcast(a, n): (1,) -> (n,)
    product      linear(v, W): out[n] = sum_k W[n, k] v[k],  W: a weight [N, K]
    barrier      stop(a): a, without a gradient
    over rows    outer(d, v): sum over t and b of d[n] v[k] -> a weight [N, K]
                 rowsum(e): sum over t and b of e -> a weight (n,)
                 (only in gradients with respect to weights)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class DType(Enum):
    """What the numbers of a value are."""

    FLOAT = "float"  # of the type that the loop is compiled for: float32 or float64
    BOOL = "bool"  # a truth value


class Varies(IntEnum):
    """What a value depends on; the greatest wins."""

    WEIGHT = 0  # the same for all t and b
    INPUT = 1  # on x: known for all t before the loop
    STATE = 2  # on the state, on the mask, or on a cotangent: known inside the loop alone


UNARY = (
    "neg",
    "exp",
    "log",
    "log1p",
    "expm1",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "abs",
    "sign",
    "sigmoid",
    "tanh",
    "erf",
    "relu",
    "sin",
    "cos",
    "not",
)
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "and", "or")
COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
ELEMENTWISE = frozenset((*UNARY, *BINARY, *COMPARE, "where"))
REDUCE = frozenset(("sum", "amax"))
LEAVES = frozenset(("weight", "const", "x", "state", "mask", "cotangent"))
OPS = (
    ELEMENTWISE
    | REDUCE
    | LEAVES
    | {
        "call",
        "slice",
        "cat",
        "broadcast",
        "linear",
        "stop",
        "outer",
        "rowsum",
    }
)
#: Operations whose value is a truth value.
LOGICAL = frozenset((*COMPARE, "and", "or", "not"))
#: Elementwise operations that cost about as much as an exponential.
TRANSCENDENTAL = frozenset(
    ("exp", "log", "log1p", "expm1", "sigmoid", "tanh", "erf", "pow", "sin", "cos")
)


@dataclass(frozen=True, eq=False)
class Node:
    """One value of a step. Two nodes are equal where they are the same object."""

    op: str
    args: tuple[Node, ...]
    shape: tuple[int, ...]
    varies: Varies
    attrs: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""  # where in the cell it was written, as "mgu.py:31"

    @property
    def size(self) -> int:
        """The length of the last axis of a row value."""
        return self.shape[-1] if self.shape else 1

    @property
    def dtype(self) -> DType:
        """What its numbers are: the operation alone decides it."""
        return DType.BOOL if self.op in LOGICAL else DType.FLOAT

    @property
    def is_row(self) -> bool:
        return self.varies is not Varies.WEIGHT

    def __repr__(self) -> str:
        name = self.attrs.get("name") or self.attrs.get("value")
        return f"<{self.op}{'' if name is None else f' {name}'} {list(self.shape)}>"


@dataclass(frozen=True)
class Step:
    """One step of a cell: ``outputs = f(x, states, mask; weights)``.

    outputs: the new state, one node for each part, in the order of ``states``.
    names: what the author of the cell called a value, where that is known.
    """

    cell: str
    x: Node
    states: tuple[Node, ...]
    mask: Node | None
    outputs: tuple[Node, ...]
    names: Mapping[Node, str] = field(default_factory=dict)


# ------------------------------------------------------------------ making nodes


def weight(name: str, shape: Iterable[int]) -> Node:
    """A parameter or a buffer."""
    return Node("weight", (), tuple(shape), Varies.WEIGHT, {"name": name})


def const(value: float) -> Node:
    """A number; it goes with values of any size."""
    return Node("const", (), (1,), Varies.WEIGHT, {"value": float(value)})


def leaf(op: str, name: str, size: int) -> Node:
    """x, a part of the state, the mask or a cotangent."""
    varies = Varies.INPUT if op == "x" else Varies.STATE
    return Node(op, (), (size,), varies, {"name": name})


def elementwise(op: str, *args: Node, line: str = "") -> Node:
    """An elementwise operation; sizes 1 go with any size, as in torch."""
    return Node(op, args, broadcast_shape(args, op), varies_as(op, args), line=line)


def linear(v: Node, W: Node, line: str = "") -> Node:
    """v W^T for a weight W: [N, K]."""
    assert len(W.shape) == 2 and W.shape[1] == v.size, (v, W)
    return Node("linear", (v, W), (W.shape[0],), v.varies, line=line)


def take(a: Node, start: int, stop: int, line: str = "") -> Node:
    """a[..., start:stop]."""
    if (start, stop) == (0, a.size):
        return a
    assert 0 <= start < stop <= a.size, (a, start, stop)
    return Node("slice", (a,), (stop - start,), a.varies, {"start": start, "stop": stop}, line)


def cat(parts: Iterable[Node], line: str = "") -> Node:
    """The parts side by side on the last axis."""
    parts = tuple(parts)
    if len(parts) == 1:
        return parts[0]
    return Node("cat", parts, (sum(p.size for p in parts),), _varies(parts), line=line)


def reduce(op: str, a: Node, line: str = "") -> Node:
    """sum or amax over the last axis, which stays with size 1."""
    return Node(op, (a,), (1,), a.varies, line=line)


def broadcast(a: Node, size: int, line: str = "") -> Node:
    """A value of size 1 repeated."""
    return a if a.size == size else Node("broadcast", (a,), (size,), a.varies, {"size": size}, line)


def stop(a: Node, line: str = "") -> Node:
    """a, through which no gradient flows."""
    return Node("stop", (a,), a.shape, a.varies, line=line)


def broadcast_shape(args: Iterable[Node], op: str) -> tuple[int, ...]:
    """The shape of an elementwise operation on these."""
    sizes = {a.size for a in args}
    wide = sizes - {1}
    assert len(wide) <= 1, f"{op} of sizes {sorted(sizes)}"
    return (wide.pop() if wide else 1,)


def varies_as(op: str, args: Iterable[Node]) -> Varies:
    """What an operation varies with. A truth value is never a weight: nobody stores one, so it is
    made where it is used."""
    return max(_varies(args), Varies.INPUT) if op in LOGICAL else _varies(args)


def _varies(args: Iterable[Node]) -> Varies:
    return max((a.varies for a in args), default=Varies.WEIGHT)


# ------------------------------------------------------------------ walking


def walk(outputs: Iterable[Node], until: Iterable[Node] = ()) -> Iterator[Node]:
    """Every node that the outputs need, arguments first, each once; not past ``until``."""
    leaves = set(until)
    seen: set[Node] = set()
    stack = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        if node not in leaves:
            stack.extend((arg, False) for arg in reversed(node.args) if arg not in seen)


def rebuild(node: Node, args: tuple[Node, ...]) -> Node:
    """The same operation on other arguments of the same shapes."""
    if args == node.args:
        return node
    varies = node.varies if node.op in ("outer", "rowsum") else varies_as(node.op, args)
    return Node(node.op, args, node.shape, varies, node.attrs, node.line)


def outer(d: Node, v: Node) -> Node:
    """The sum over t and b of d[n] v[k]: what a weight [N, K] of a product gets."""
    return Node("outer", (d, v), (d.size, v.size), Varies.WEIGHT)


def rowsum(e: Node) -> Node:
    """The sum over t and b of e: what a weight (n,) gets."""
    return Node("rowsum", (e,), e.shape, Varies.WEIGHT)


def substitute(outputs: Iterable[Node], replaced: Mapping[Node, Node]) -> tuple[Node, ...]:
    """The outputs with some nodes exchanged for others of the same shape."""
    outputs = tuple(outputs)
    made: dict[Node, Node] = dict(replaced)
    for node in walk(outputs, until=replaced):
        if node not in made:
            made[node] = rebuild(node, tuple(made[arg] for arg in node.args))
    return tuple(made[node] for node in outputs)
