"""Operations on weights alone: torch runs them, whatever they are, and differentiates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.compiler.ir.nodes import Node, Varies

aten = torch.ops.aten


@dataclass(frozen=True)
class Slot:
    """The place of a node's argument in the arguments of a torch operation."""

    index: int


def call(
    func: Any,
    args: Sequence[Any],
    shape: Iterable[int],
    *,
    kwargs: Iterable[tuple[str, Any]] = (),
    index: int | None = None,
    line: str = "",
) -> Node:
    """A torch operation on weights.

    args, kwargs: those of ``func``; the nodes among them, in lists too, are the arguments.
    index: which of the operation's outputs, where it has several.
    """
    nodes: list[Node] = []

    def slotted(leaf: Any) -> Any:
        if not isinstance(leaf, Node):
            return leaf
        nodes.append(leaf)
        return Slot(len(nodes) - 1)

    template = mapped(slotted, tuple(args)), mapped(slotted, tuple(kwargs))
    attrs = {"func": func, "args": template[0], "kwargs": template[1], "index": index}
    return Node("call", tuple(nodes), tuple(shape), Varies.WEIGHT, attrs, line)


def replay(node: Node, args: Sequence[Tensor]) -> Tensor:
    """The value of a call, from those of its arguments."""

    def filled(leaf: Any) -> Any:
        return args[leaf.index] if isinstance(leaf, Slot) else leaf

    positional = mapped(filled, node.attrs["args"])
    named = dict(mapped(filled, node.attrs["kwargs"]))
    result = node.attrs["func"](*positional, **named)
    return result if node.attrs["index"] is None else result[node.attrs["index"]]


def mapped(change: Callable[[Any], Any], nest: Any) -> Any:
    """A nest of lists and tuples, as tuples, with every leaf changed."""
    if isinstance(nest, list | tuple):
        return tuple(mapped(change, part) for part in nest)
    return change(nest)


def is_transposed(node: Node) -> bool:
    """Whether this is the transposed of a matrix."""
    return node.op == "call" and node.attrs["func"] is aten.t.default


def transposed(matrix: Node, line: str = "") -> Node:
    """[N, K] -> [K, N]; twice is the matrix itself."""
    if is_transposed(matrix):
        return matrix.args[0]
    return call(aten.t.default, [matrix], matrix.shape[::-1], line=line)


def reshaped(weight: Node, shape: Sequence[int], line: str = "") -> Node:
    """The same numbers in another shape."""
    if weight.shape == tuple(shape):
        return weight
    return call(aten.reshape.default, [weight, tuple(shape)], shape, line=line)


def columns(matrix: Node, start: int, stop: int, line: str = "") -> Node:
    """[N, K] -> matrix[:, start:stop]."""
    if (start, stop) == (0, matrix.shape[1]):
        return matrix
    shape = (matrix.shape[0], stop - start)
    return call(aten.slice.Tensor, [matrix, 1, start, stop], shape, line=line)


def stacked(matrices: Sequence[Node], line: str = "") -> Node:
    """Matrices [N_i, K], one below the other."""
    shape = (sum(m.shape[0] for m in matrices), matrices[0].shape[1])
    return call(aten.cat.default, [list(matrices), 0], shape, line=line)
