"""One step of a loop as stages of work on rows and units, before any code is written.

A *map* walks over the units of one domain (the H units of an LSTM): it multiplies matrices into
accumulators and then computes every value of those units, elementwise, from the accumulators and
from memory. A matrix product needs the whole vector that it multiplies, so a product of something
computed in this step begins a new *stage*. What needs whole vectors but little work (sums over
the last axis, the operand of a product) is *prepared* at the beginning of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from elman.compiler.ir.nodes import (
    BINARY,
    COMPARE,
    LOGICAL,
    REDUCE,
    TRANSCENDENTAL,
    Node,
    Varies,
    walk,
)

#: Operations that move a value and compute nothing.
STRUCTURE = ("slice", "cat", "broadcast", "stop")


@dataclass(frozen=True)
class Slot:
    """A place in memory that holds a value: ``size`` numbers for each row.

    kind: "row" (one row for each step and sequence), "span" (the same, for the steps of the span
        at hand), "batch" (one for each sequence), "scratch"
        (the same, within one step), "old" (the state before this row), "new" (the state after
        it), "carry" (the gradient that the step after has left), "d_old" (the one that this step
        leaves), or "weight" (no rows).
    """

    name: str
    kind: str
    size: int


@dataclass(frozen=True)
class Group:
    """Rows ``offset`` ... ``offset + size`` of a product: one set of accumulators of a map."""

    product: Node
    offset: int


@dataclass(frozen=True)
class Store:
    """``slot[at : at + n] = node[offset : offset + n]`` over the n units of a map."""

    node: Node
    offset: int
    slot: Slot
    at: int


@dataclass
class Map:
    """Work on every unit of a domain."""

    size: int
    stores: list[Store] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


@dataclass
class Stage:
    """prepare: whole values made first, by each thread that needs them; then the maps."""

    prepare: list[Node] = field(default_factory=list)
    maps: dict[int, Map] = field(default_factory=dict)


@dataclass
class Lowered:
    """A step ready for code.

    places: where each value that lies in memory lies. leaves: those that lie there before the
    step begins. level: the stage whose maps compute a value.
    """

    stages: list[Stage]
    places: dict[Node, Slot]
    leaves: set[Node]
    level: Mapping[Node, int]

    @property
    def maps(self) -> list[Map]:
        return [at for stage in self.stages for at in stage.maps.values()]

    @property
    def scratch(self) -> list[Slot]:
        return [slot for slot in self.places.values() if slot.kind == "scratch"]

    def kept(self, stage: int) -> set[Node]:
        """The values that the maps of this stage leave in memory for later ones."""
        prepared = {node for s in self.stages for node in s.prepare}
        inside = self.places.keys() - self.leaves - prepared
        return {node for node in inside if self.level[node] == stage}


def lower(targets: Sequence[tuple[Node, Slot]], places: Mapping[Node, Slot]) -> Lowered:
    """Arrange a step: what to store, given where its leaves lie."""
    return _Lowering(targets, places).run()


class _Lowering:
    def __init__(self, targets: Sequence[tuple[Node, Slot]], places: Mapping[Node, Slot]) -> None:
        self.targets = targets
        self.places = dict(places)
        self.leaves = set(places)
        self.level: dict[Node, int] = {}
        self.ready: dict[Node, int] = {}
        self.seen: set[tuple[Node, int, int, int, int]] = set()
        self.stages: list[Stage] = []
        self.stored: dict[Node, Slot] = {}

    def run(self) -> Lowered:
        for node in walk([node for node, _ in self.targets], until=self.leaves):
            self._rank(node)
        for node, slot in self.targets:
            # "d_old" may be cut on its way to memory: it is not read again as this value.
            if slot.kind != "d_old" and node not in self.leaves:
                self.stored.setdefault(node, slot)
        for node, slot in self.targets:
            self._place(node, slot, self.level[node])
        order = {node: i for i, node in enumerate(self.level)}
        for stage in self.stages:
            stage.prepare.sort(key=order.__getitem__)
        return Lowered(self.stages, self.places, self.leaves, self.level)

    # ------------------------------------------------------------ when

    def _rank(self, node: Node) -> None:
        """level: the stage whose maps compute it; ready: from which stage on it is whole."""
        if node in self.leaves or not node.args or node.varies is Varies.WEIGHT:
            self.level[node] = self.ready[node] = 0
            return
        rows = [arg for arg in node.args if arg.varies is not Varies.WEIGHT]
        whole = max((self.ready[arg] for arg in rows), default=0)
        if node.op == "linear":
            self.level[node], self.ready[node] = whole, whole + 1
        elif node.op in REDUCE:
            self.level[node] = self.ready[node] = whole
        else:
            narrow = [arg for arg in rows if arg.size < node.size and node.op in _WIDENING]
            levels = [self.ready[a] if a in narrow else self.level[a] for a in rows]
            self.level[node] = max(levels, default=0)
            self.ready[node] = max(whole, self.level[node])

    # ------------------------------------------------------------ where

    def _stage(self, index: int) -> Stage:
        while len(self.stages) <= index:
            self.stages.append(Stage())
        return self.stages[index]

    def _place(self, node: Node, slot: Slot, stage: int) -> None:
        """Store a value in the maps of a stage."""
        for begin, end in pieces(node, self.leaves):
            maps = self._stage(stage).maps
            at = maps.setdefault(end - begin, Map(end - begin))
            at.stores.append(Store(node, begin, slot, begin))
            self._visit(node, begin, end - begin, stage, at)

    def _visit(self, node: Node, offset: int, size: int, stage: int, at: Map | None) -> None:
        """See to it that node[offset : offset + size] can be computed in this stage.

        at: the map that computes it; None: it is computed while the stage is prepared.
        """
        key = node, offset, size, stage, id(at)
        if key in self.seen or node in self.leaves or not node.args:
            return
        self.seen.add(key)
        if node.varies is Varies.WEIGHT:
            return
        if node.op == "linear":
            if at is not None and self.level[node] == stage:
                group = Group(node, offset)
                if group not in at.groups:
                    at.groups.append(group)
                self._operand(node.args[0], stage)
            else:
                self._keep(node)
        elif node.op in LOGICAL:  # truth values are not stored: they are made again
            for arg, begin, length in spread(node, offset, size):
                self._visit(arg, begin, length, stage, at)
        elif node.op in REDUCE or (node.size == 1 and (at is None or at.size > 1)):
            self._prepare(node)
        elif self.level[node] < stage and not self._trivial(node):
            self._keep(node)
        else:
            for arg, begin, length in spread(node, offset, size):
                self._visit(arg, begin, length, stage, at)

    def _operand(self, v: Node, stage: int) -> None:
        """The vector that a product of this stage multiplies lies in memory, whole."""
        if v in self.leaves or v in self.places:
            return
        if self.level[v] < stage:
            self._keep(v)
        else:
            self._prepare(v)

    def _prepare(self, node: Node) -> None:
        """Make a whole value at the beginning of the stage from which on it is ready."""
        if node in self.places:
            return
        stage = self.ready[node]
        self.places[node] = Slot(f"p{len(self.places)}", "scratch", node.size)
        for arg, start, length in _sources(node, self.leaves):
            self._visit(arg, start, length, stage, None)
        self._stage(stage).prepare.append(node)

    def _keep(self, node: Node) -> None:
        """A value of an earlier stage that a later one reads: it is stored there."""
        if node in self.places:
            return
        slot = self.stored.get(node)
        if slot is not None:
            self.places[node] = slot
            return
        slot = Slot(f"k{len(self.places)}", "scratch", node.size)
        self.places[node] = slot
        self._place(node, slot, self.level[node])

    def _trivial(self, node: Node, depth: int = 4) -> bool:
        """Whether it is cheaper to compute a value again than to keep it."""
        if node in self.leaves or node.varies is Varies.WEIGHT or not node.args:
            return True
        if depth == 0 or node.op in TRANSCENDENTAL or node.op in ("linear", "div", *REDUCE):
            return False
        return all(self._trivial(arg, depth - 1) for arg in node.args)


#: Operations whose arguments of size 1 go with every unit of the others.
_WIDENING = frozenset((*BINARY, *COMPARE, "where", "broadcast"))


def spread(node: Node, offset: int, size: int) -> list[tuple[Node, int, int]]:
    """What node[offset : offset + size] is computed from: (argument, its offset, its size)."""
    if node.op == "slice":
        return [(node.args[0], node.attrs["start"] + offset, size)]
    if node.op == "cat":
        for part in node.args:
            if offset + size <= part.size:
                return [(part, offset, size)]
            if offset < part.size:
                raise AssertionError("a piece that lies in two parts")
            offset -= part.size
    return [(a, 0, 1) if a.size == 1 else (a, offset, size) for a in node.args]


def _sources(node: Node, leaves: set[Node]) -> list[tuple[Node, int, int]]:
    """What a whole value is computed from."""
    if node.op in REDUCE:
        return [(node.args[0], begin, end - begin) for begin, end in pieces(node.args[0], leaves)]
    return [
        source for begin, end in pieces(node, leaves) for source in spread(node, begin, end - begin)
    ]


def pieces(node: Node, leaves: set[Node] | Mapping[Node, object]) -> list[tuple[int, int]]:
    """The node's units in stretches that no border of a `cat` runs through."""
    cuts: dict[Node, frozenset[int]] = {}
    for n in walk([node], until=leaves):
        cuts[n] = _cuts(n, cuts, leaves)
    borders = [0, *sorted(c for c in cuts[node] if 0 < c < node.size), node.size]
    return list(pairwise(borders))


def _cuts(
    node: Node, cuts: Mapping[Node, frozenset[int]], leaves: set[Node] | Mapping[Node, object]
) -> frozenset[int]:
    if node in leaves or node.op in ("linear", *REDUCE) or node.varies is Varies.WEIGHT:
        return frozenset()
    if node.op == "slice":
        start, stop = node.attrs["start"], node.attrs["stop"]
        return frozenset(c - start for c in cuts[node.args[0]] if start < c < stop)
    if node.op == "cat":
        found, offset = set(), 0
        for part in node.args:
            found |= {offset, *(c + offset for c in cuts[part])}
            offset += part.size
        return frozenset(found - {0})
    wide = (cuts[arg] for arg in node.args if arg.size == node.size)
    return frozenset().union(*wide)
