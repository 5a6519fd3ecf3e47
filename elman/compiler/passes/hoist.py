"""Hoists whatever does not depend on the previous step out of the time loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elman.compiler.ir.nodes import LOGICAL, Node, Varies, walk


@dataclass(frozen=True)
class Hoisted:
    """A step, cut where values enter the loop.

    prepared: the weights that the loop reads, made from the parameters once a call.
    entering: what the loop reads that depends on x alone, computed for all t at once.
    """

    prepared: tuple[Node, ...]
    entering: tuple[Node, ...]


def hoist(outputs: Sequence[Node]) -> Hoisted:
    """Find where the loop begins: the values without the state in them that others with it use.

    A slice of such a value is read in place: the whole value enters, in one piece.
    """
    prepared: dict[Node, None] = {}
    entering: dict[Node, None] = {}
    for node in walk(outputs):
        if node.varies is Varies.STATE:
            for arg in node.args:
                _enter(arg, prepared, entering)
    for node in outputs:
        _enter(node, prepared, entering)
    return Hoisted(tuple(prepared), tuple(entering))


def _enter(node: Node, prepared: dict[Node, None], entering: dict[Node, None]) -> None:
    if node.varies is Varies.WEIGHT and node.op != "const":
        prepared.setdefault(node)
    elif node.varies is Varies.INPUT:
        # Truth values are not stored: they are made again in the loop, and so is what is chosen
        # by those of weights, which x has no part in.
        of_x = any(found.op == "x" for found in walk([node]))
        if node.op in ("slice", "broadcast", "cat") or node.op in LOGICAL or not of_x:
            for arg in node.args:
                _enter(arg, prepared, entering)
        else:
            entering.setdefault(node)
