"""The same step in fewer operations, and with fewer of them inside the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from elman.compiler.ir.nodes import Node, Step, rebuild, walk
from elman.compiler.passes.regroup import merge_products, regroup_sums, split_products
from elman.compiler.passes.rewrite import key, rewrite


def simplify(outputs: Sequence[Node]) -> tuple[Node, ...]:
    """The same values in simpler words: to rounding, whatever the leaves are."""
    made = _simplified(tuple(outputs))
    return tuple(made[node] for node in outputs)


def simplify_step(step: Step) -> Step:
    """The step with simplified outputs; names follow their values."""
    made = _simplified(step.outputs)
    outputs = tuple(made[node] for node in step.outputs)
    alive = set(walk(outputs))
    leaves = {step.x, *step.states}
    named = {made[node]: name for node, name in step.names.items() if node in made}
    names = {n: name for n, name in named.items() if n in alive - leaves and n.op != "const"}
    return replace(step, outputs=outputs, names=names)


def simplify_beside(new: Sequence[Node], kept: Sequence[Node]) -> tuple[Node, ...]:
    """The new values in simpler words, beside others whose nodes stay what they are.

    Where a new value is one of those that ``kept`` is made of, it becomes that very node.
    """
    simplifier = _Simplifier(walk(kept))
    return tuple(simplifier.run(new)[node] for node in new)


def _simplified(outputs: tuple[Node, ...]) -> dict[Node, Node]:
    passes: tuple[Callable[[Sequence[Node]], Mapping[Node, Node]], ...] = (
        _locally,
        split_products,
        regroup_sums,
        merge_products,
        _locally,
    )
    made = {node: node for node in walk(outputs)}
    for one in passes:
        step = one([made[node] for node in outputs])
        made = {old: step[new] for old, new in made.items() if new in step}
    return made


def _locally(outputs: Sequence[Node]) -> Mapping[Node, Node]:
    return _Simplifier().run(outputs)


class _Simplifier:
    """Applies the local laws, and makes one node of those that have the same value."""

    def __init__(self, kept: Iterable[Node] = ()) -> None:
        self.made: dict[Node, Node] = {}
        self.known: dict[object, Node] = {}
        for node in kept:
            self.made[node] = node
            self.known.setdefault(key(node), node)

    def run(self, outputs: Sequence[Node]) -> Mapping[Node, Node]:
        for node in walk(outputs):
            self._of(node)
        return self.made

    def _of(self, node: Node) -> Node:
        if node not in self.made:
            self.made[node] = self._simple(rebuild(node, tuple(self._of(a) for a in node.args)))
        return self.made[node]

    def _simple(self, node: Node) -> Node:
        better = rewrite(node)
        found = self.known.setdefault(key(node), node) if better is None else self._of(better)
        self.made[found] = found
        return found
