"""A step as two loops: what each reads, what it keeps, and what is left for after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from elman.cells.cell import Cell
from elman.compiler.ir.nodes import (
    TRANSCENDENTAL,
    Node,
    Step,
    Varies,
    const,
    elementwise,
    leaf,
    walk,
)
from elman.compiler.passes.differentiate import differentiate
from elman.compiler.passes.hoist import Hoisted, hoist

#: Values that the backward loop computes again rather than reads: at most so much arithmetic,
#: where an addition counts 1.
RECOMPUTE = 12


@dataclass(frozen=True)
class Zoneout:
    """How the parts of the state are zoned out: by a mask of the loop's, at a rate, or not."""

    parts: tuple[float | bool | None, ...] = ()


@dataclass(frozen=True)
class Backward:
    """The loop of backpropagation through time.

    cotangents: the gradients of the new state that come in, one for each part.
    d_states: the gradients of the old state, which go to the step before.
    d_inputs, d_prepared: of the plan's ``inputs`` and of its weights; None where there is none.
    stored: what the loop writes for all t: what the gradients of the inputs and the sums over all
        t are made of once the loop has ended.
    """

    cotangents: tuple[Node, ...]
    d_states: tuple[Node | None, ...]
    d_inputs: tuple[Node | None, ...]
    d_prepared: tuple[Node | None, ...]
    stored: tuple[Node, ...]

    @property
    def after(self) -> list[Node]:
        """What is computed after the loop, for all t at once."""
        return [d for d in (*self.d_inputs, *self.d_prepared) if d is not None]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a backend runs.

    before: ``prepared``, and ``entering`` from x; the forward loop: ``outputs``, keeping
    ``saved``; the backward loop: `Backward`; after: ``backward.after``, by torch.

    zoneout_masks: a leaf for each part of the state that zoneout may keep; 1 keeps the old value.
    fused: whether ``entering`` is W x + b and nothing else, which a backend computes itself, a
        stretch of time before the loop needs it; else torch computes and differentiates it.

    zoneout, streamed: what `make_plan` has made it of beside the step.
    """

    step: Step
    outputs: tuple[Node, ...]
    hoisted: Hoisted
    zoneout_masks: tuple[Node | None, ...]
    fused: bool
    zoneout: Zoneout
    streamed: bool
    #: What backends have made of the plan, under keys of their own; it goes when the plan goes.
    made_of: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def states(self) -> tuple[Node, ...]:
        return self.step.states

    @property
    def prepared(self) -> tuple[Node, ...]:
        return self.hoisted.prepared

    @property
    def entering(self) -> tuple[Node, ...]:
        return self.hoisted.entering

    @cached_property
    def rows(self) -> tuple[Node, ...]:
        """What the loop reads a row of at each step: what enters, and the masks."""
        return (*self.entering, *(keep for keep in self.zoneout_masks if keep is not None))

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """What torch hands over a row of for each step, and wants the gradient of."""
        return (self.step.x,) if self.fused else self.entering

    @cached_property
    def parameters(self) -> tuple[tuple[Node, str], ...]:
        """The parameters that are read, and their names."""
        reached = walk((*self.inputs, *self.prepared))
        return tuple((n, n.attrs["name"]) for n in reached if n.op == "weight")

    def read(self, cell: Cell, weights: Mapping[str, Tensor]) -> dict[Node, Tensor]:
        """The parameters that are read: those given, else the buffers of the cell."""
        return {
            node: weights[name] if name in weights else cell.get_buffer(name)
            for node, name in self.parameters
        }

    @cached_property
    def made(self) -> tuple[Node, ...]:
        """Of ``inputs`` and ``prepared``, what has to be computed."""
        return tuple(n for n in (*self.inputs, *self.prepared) if n.args)

    @cached_property
    def making(self) -> tuple[Node, ...]:
        """All that is computed for ``made``, in order."""
        return tuple(walk(self.made))

    @cached_property
    def backward(self) -> Backward:
        cotangents = tuple(leaf("cotangent", f"d_{s.attrs['name']}", s.size) for s in self.states)
        wrt = (*self.states, *self.inputs, *self.prepared)
        grads = differentiate(self.outputs, cotangents, wrt)
        S, E = len(self.states), len(self.inputs)
        d_states, d_inputs, d_prepared = grads[:S], grads[S : S + E], grads[S + E :]
        stored = _stored(d_inputs, d_prepared, cotangents)
        return Backward(cotangents, d_states, d_inputs, d_prepared, stored)

    @cached_property
    def reads_states(self) -> tuple[bool, ...]:
        """Of each part of the old state, whether a gradient flows to it."""
        return tuple([d is not None for d in self.backward.d_states])

    @cached_property
    def saved(self) -> tuple[Node, ...]:
        """What the forward loop keeps for the backward loop, beside the states."""
        backward = self.backward
        there = (*self.states, *self.outputs, *self.rows, *self.inputs, *self.prepared)
        free = _Free(there)
        saved: dict[Node, None] = {}
        for node in _wanted(backward):
            _need(node, free, saved)
        return tuple(node for node in saved if node is not self.step.x)

    @cached_property
    def reads_entering(self) -> bool:
        """Whether anything after the forward loop reads what entered it."""
        roots = [d for d in (*self.backward.d_states, *self.backward.stored) if d is not None]
        roots += self.backward.after
        there = (*self.states, *self.outputs, *self.saved, *self.prepared)
        reached = set(walk(roots, until=there))
        return any(node in reached for node in self.entering)

    def bytes_per_row(self, element: int) -> int:
        """What training keeps for one step of one row, in bytes, beside its input and output."""
        return element * self._values_per_row

    @cached_property
    def kept(self) -> tuple[Node, ...]:
        """What training keeps of each step beside its input and output."""
        entered = self.entering if self.reads_entering or not self.fused else ()
        return (*self.saved, *self.states[1:], *entered)

    @cached_property
    def _values_per_row(self) -> int:
        return sum(node.size for node in self.kept)


#: No part of the state is zoned out.
PLAIN = Zoneout()


def make_plan(step: Step, zoneout: Zoneout = PLAIN, streamed: bool = False) -> Plan:
    """The plan of a simplified step, with zoneout as a part of its equation.

    streamed: nothing leaves the loop, because there is but one step to run: x itself enters.
    """
    outputs, zoneout_masks = [], []
    for index, (old, new) in enumerate(zip(step.states, step.outputs, strict=True)):
        rate = zoneout.parts[index] if zoneout.parts else None
        keep = None
        if rate is True:
            keep = leaf("x", f"keep_{old.attrs['name']}", old.size)
            kept = elementwise("ne", keep, const(0.0))
            outputs.append(elementwise("where", kept, old, new))
        elif rate:
            mixed = elementwise("mul", const(float(rate)), elementwise("sub", old, new))
            outputs.append(elementwise("add", new, mixed))
        else:
            outputs.append(new)
        zoneout_masks.append(keep)
    if streamed:
        reached = walk(outputs)
        prepared = {w: None for node in reached if node.is_row for w in node.args if _is_weight(w)}
        prepared |= {node: None for node in outputs if _is_weight(node)}
        hoisted = Hoisted(tuple(prepared), (step.x,))
        return Plan(step, tuple(outputs), hoisted, tuple(zoneout_masks), False, zoneout, streamed)
    hoisted = hoist(outputs)
    masks = {keep for keep in zoneout_masks if keep is not None}
    entering = tuple(node for node in hoisted.entering if node not in masks)
    products = [_product(node, step.x) for node in entering]
    fused = bool(entering) and None not in products and len({*products}) == len(products)
    prepared = dict.fromkeys(hoisted.prepared)
    if fused:
        prepared |= dict.fromkeys(weight for node in entering for weight in _weights(node))
    hoisted = Hoisted(tuple(prepared), entering)
    return Plan(step, tuple(outputs), hoisted, tuple(zoneout_masks), fused, zoneout, streamed)


def _is_weight(node: Node) -> bool:
    return not node.is_row and node.op != "const"


def _product(node: Node, x: Node) -> Node | None:
    """The product in ``W x`` or ``W x + b``; None for any other value."""
    if node.op == "add":
        a, b = node.args
        node, rest = (a, b) if a.op == "linear" else (b, a)
        if rest.is_row:
            return None
    return node if node.op == "linear" and node.args[0] is x else None


def _weights(node: Node) -> list[Node]:
    """The weights in ``W x + b``."""
    if node.is_row:
        return [found for arg in node.args for found in _weights(arg)]
    return [node] if _is_weight(node) else []


def _stored(
    d_inputs: Sequence[Node | None], d_prepared: Sequence[Node | None], leaves: Sequence[Node]
) -> tuple[Node, ...]:
    """What the backward loop leaves for after it: all that depends on the cotangents, as it
    enters a product or a sum over rows there."""
    stored: dict[Node, None] = {}
    for d in (*d_inputs, *d_prepared):
        if d is not None:
            _leave(d, leaves, stored)
    return tuple(stored)


def _leave(node: Node, leaves: Sequence[Node], stored: dict[Node, None]) -> None:
    if not depends(node, leaves):
        return
    if node.op == "add" and any(_is_after(arg) for arg in node.args):
        for arg in node.args:
            _leave(arg, leaves, stored)
    elif node.op in ("outer", "rowsum", "linear"):
        for arg in node.args:
            if depends(arg, leaves):
                stored.setdefault(arg)
    else:
        stored.setdefault(node)


def _is_after(node: Node) -> bool:
    """Whether a value is better computed after the loop, as one product over all rows."""
    if node.op == "add":
        return any(_is_after(arg) for arg in node.args)
    return node.op in ("outer", "rowsum", "linear")


def depends(node: Node, leaves: Sequence[Node]) -> bool:
    """Whether any of the leaves is needed for this value."""
    wanted = set(leaves)
    return any(n in wanted for n in walk([node]))


def _wanted(backward: Backward) -> list[Node]:
    """The values of the forward loop that the backward loop, or what comes after it, reads."""
    roots = [d for d in (*backward.d_states, *backward.stored) if d is not None]
    roots += backward.after
    tangled = set(backward.cotangents)
    wanted: dict[Node, None] = {}
    for node in walk(roots):
        if any(arg in tangled for arg in node.args):
            tangled.add(node)
    for node in walk(roots):
        if node in tangled:
            for arg in node.args:
                if arg not in tangled:
                    wanted.setdefault(arg)
    return [node for node in wanted if node.is_row]


class _Free:
    """What it costs to compute a value from those that are there anyway."""

    def __init__(self, there: Sequence[Node]) -> None:
        self.costs: dict[Node, float] = dict.fromkeys(there, 0.0)

    def cost(self, node: Node) -> float:
        if node not in self.costs:
            self.costs[node] = self._own(node) + sum(self.cost(arg) for arg in node.args)
        return self.costs[node]

    @staticmethod
    def _own(node: Node) -> float:
        if node.varies is Varies.WEIGHT or node.op in ("mask", "slice", "cat", "broadcast", "stop"):
            return 0.0
        if node.op in ("linear", "sum", "amax"):
            return float("inf")
        return 8.0 if node.op in TRANSCENDENTAL else 3.0 if node.op in ("div", "sqrt") else 1.0


def _need(node: Node, free: _Free, saved: dict[Node, None]) -> None:
    """Make sure that a value can be had in the backward loop: save it, or what it is made of."""
    if free.cost(node) <= RECOMPUTE or node in saved:
        return
    # A gate's slice of a product is saved, not the product of all gates.
    part = node.op == "slice" and free.cost(node.args[0]) == float("inf")
    if node.op in TRANSCENDENTAL or free._own(node) == float("inf") or not node.args or part:
        saved.setdefault(node)
        free.costs[node] = 0.0
        return
    for arg in node.args:
        _need(arg, free, saved)
    free.costs.pop(node, None)
