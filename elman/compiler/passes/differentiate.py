"""The gradient of a step: one walk from the outputs to what they were made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from elman.compiler.ir.build import Build
from elman.compiler.ir.nodes import (
    Node,
    Varies,
    cat,
    const,
    elementwise,
    outer,
    rowsum,
    substitute,
    take,
    walk,
)
from elman.compiler.ir.weights import aten, call, is_transposed, reshaped
from elman.compiler.passes.derivatives import gradients_of_arguments
from elman.compiler.passes.rewrite import number
from elman.compiler.passes.simplify import simplify_beside


def differentiate(
    outputs: Sequence[Node], cotangents: Sequence[Node | None], wrt: Sequence[Node]
) -> tuple[Node | None, ...]:
    """The gradients of sum_i <cotangent_i, output_i>, or None where there is none.

    wrt: nodes that are taken as independent of each other: the walk ends there. A row value gets a
    row value; a weight [N, K] a sum of ``outer``, any other weight a ``rowsum``. The gradients use
    the nodes of ``outputs`` themselves wherever they need a value of the step, and are simplified.
    """
    wanted = _leading_to(outputs, wrt)
    received = {node: _Received(node) for node in wanted}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None and output in wanted:
            received[output].values.append(cotangent)
    found: dict[Node, Node | None] = {}
    ends = set(wrt)
    for node in reversed(list(walk(outputs, until=wrt))):
        if node in wanted:
            d = received[node].total()
            if node in ends:
                found[node] = d
            elif d is not None:
                _send(node, d, received)
    given = [found.get(node) for node in wrt]
    simple = iter(_from(wrt, simplify_beside([d for d in given if d is not None], outputs)))
    gradients = [None if d is None else next(simple) for d in given]
    return tuple(None if d is None or number(d) == 0 else d for d in gradients)


def _from(wrt: Sequence[Node], gradients: Sequence[Node]) -> tuple[Node, ...]:
    """The gradients with W^T itself, where it is what is given, and not the W behind it."""
    behind = {
        node.args[0]: call(aten.t.default, [node], node.args[0].shape, line=node.line)
        for node in wrt
        if is_transposed(node)
    }
    return substitute(gradients, behind | {node: node for node in wrt})


def _leading_to(outputs: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes that depend on those of ``wrt``, and these."""
    ends = set(wrt)
    wanted: set[Node] = set()
    for node in walk(outputs, until=wrt):
        if node in ends or (node.op != "stop" and any(arg in wanted for arg in node.args)):
            wanted.add(node)
    return wanted


class _Received:
    """What a value gets from those that are made of it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.values: list[Node] = []
        self.pieces: list[tuple[int, int, Node]] = []
        self.factors: dict[Node, list[Node]] = defaultdict(list)

    def total(self) -> Node | None:
        """The sum, in the shape of the node."""
        values = [*self.values, *_assembled(self.pieces, self.node)]
        if self.node.is_row:
            return _fit(_sum(values), self.node.size) if values else None
        above = [d for d in values if not d.is_row]
        rows = [d for d in values if d.is_row]
        if rows:
            fitted = _fit(_sum(rows), self.node.size)
            above.append(reshaped(rowsum(fitted), self.node.shape, self.node.line))
        for v, ds in self.factors.items():
            above.append(_outer(_sum(ds), v))
        return _sum_of_weights(above, self.node)


def _send(node: Node, d: Node, received: dict[Node, _Received]) -> None:
    """Give the arguments of a node their parts of its gradient."""
    if node.op == "slice" and node.args[0] in received:
        piece = (node.attrs["start"], node.attrs["stop"], d)
        received[node.args[0]].pieces.append(piece)
    elif node.op == "cat":
        at = 0
        for arg in node.args:
            if arg in received:
                received[arg].values.append(take(d, at, at + arg.size, node.line))
            at += arg.size
    else:
        if node.op == "linear" and node.args[1] in received:
            received[node.args[1]].factors[node.args[0]].append(d)
        for arg, d_arg in zip(node.args, gradients_of_arguments(node, d), strict=True):
            if d_arg is not None and arg in received:
                received[arg].values.append(_fit(d_arg, arg.size) if arg.is_row else d_arg)


def _fit(d: Node, size: int) -> Node:
    b = Build(d.line)
    if d.size == size:
        return d
    return b("sum", d) if size == 1 else b.broadcast(d, size)


def _sum(values: Iterable[Node]) -> Node:
    total, *others = values
    for value in others:
        total = elementwise("add", total, value, line=total.line)
    return total


def _sum_of_weights(values: list[Node], node: Node) -> Node | None:
    if not values:
        return None
    fitted = [_fit_weight(d, node) for d in values]
    total, *others = fitted
    for value in others:
        total = Node("add", (total, value), node.shape, Varies.WEIGHT, line=node.line)
    return total


def _fit_weight(d: Node, node: Node) -> Node:
    """What a weight gets from another, in its own shape."""
    if len(d.shape) <= 1 and len(node.shape) <= 1:
        d = _fit(d, node.size)
    return reshaped(d, node.shape, node.line)


def _outer(d: Node, v: Node) -> Node:
    if d.is_row:
        return outer(d, v)
    return call(aten.outer.default, [d, v], (d.size, v.size), line=d.line)


def _assembled(pieces: list[tuple[int, int, Node]], node: Node) -> list[Node]:
    """The gradients of slices side by side: as few vectors as their overlaps allow."""
    by_range: dict[tuple[int, int], list[Node]] = defaultdict(list)
    for start, stop, d in pieces:
        by_range[start, stop].append(d)
    layers: list[list[tuple[int, int]]] = []
    for start, stop in sorted(by_range):
        free = next((layer for layer in layers if layer[-1][1] <= start), None)
        if free is None:
            layers.append([(start, stop)])
        else:
            free.append((start, stop))
    whole = []
    for layer in layers:
        parts: list[Node] = []
        bounds = [(0, 0), *layer, (node.size, node.size)]
        for (_, end), (start, stop) in pairwise(bounds):
            if start > end:
                parts.append(Build(node.line).broadcast(const(0.0), start - end))
            if stop > start:
                parts.append(_sum(by_range[start, stop]))
        whole.append(cat(parts, node.line))
    return whole
