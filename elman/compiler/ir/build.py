"""Writing expressions of the language, for the rules that make one out of another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from elman.compiler.ir.nodes import Node, broadcast, cat, const, elementwise, reduce, stop, take
from elman.compiler.ir.weights import reshaped


class RefusedError(Exception):
    """This use of an operation has no rule; says why."""


@dataclass(frozen=True)
class Build:
    """Makes row values that all stem from one line of the cell.

    ``b("mul", x, 0.5)`` is an operation of the language by name; numbers become constants.

    rank: of the tensor that the traced operation took: 2 for [B, n]; 1 for [B], where a last axis
        of size 1 was dropped.
    dtype: in which the step computes; None: in one that holds every number.
    """

    line: str = ""
    rank: int = 2
    dtype: torch.dtype | None = None

    def __call__(self, op: str, *args: Node | float) -> Node:
        nodes = [self.row(arg) for arg in args]
        if op in ("sum", "amax"):
            return reduce(op, nodes[0], self.line)
        return elementwise(op, *nodes, line=self.line)

    def row(self, value: Node | float) -> Node:
        """A number, or a weight of any shape that goes with rows, as a row value."""
        if not isinstance(value, Node):
            return const(value if self.dtype is None else held(value, self.dtype))
        if value.is_row or len(value.shape) == 1:
            return value
        if any(size != 1 for size in value.shape[:-1]):
            raise RefusedError(f"it takes a weight {list(value.shape)} against a vector")
        return reshaped(value, (value.size,), self.line)

    def last(self, axis: int | None) -> None:
        """Refuse any axis but the last."""
        if self.rank != 2 or axis not in (-1, 1):
            raise RefusedError("it is not along the last axis")

    def slice(self, a: Node, start: int, stop: int) -> Node:
        return take(a, start, stop, self.line)

    def cat(self, parts: list[Node]) -> Node:
        return cat([self.row(part) for part in parts], self.line)

    def stop(self, a: Node) -> Node:
        return stop(a, self.line)

    def broadcast(self, a: Node, size: int) -> Node:
        return broadcast(self.row(a), size, self.line)


def held(number: float, dtype: torch.dtype) -> float:
    """A number as this dtype has it, where that is far from the number itself: beyond its range, 0,
    or a whole number beyond 2^53; any other is rounded wherever it is used."""
    rounded: float = torch.tensor(number, dtype=dtype, device="cpu").item()
    whole = isinstance(number, int) and abs(number) > 2**53
    beyond = abs(number) > torch.finfo(dtype).max or rounded == 0
    return rounded if whole or beyond else float(number)
