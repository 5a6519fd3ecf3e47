"""What each loop of a plan stores, and where it finds what it reads."""

from __future__ import annotations

from elman.compiler.ir.nodes import Node, broadcast, const, elementwise, leaf, substitute, walk
from elman.compiler.plan import Plan
from elman.schedule.stages import Slot

#: What to store, and where.
Targets = list[tuple[Node, Slot]]
#: Where the leaves are.
Places = dict[Node, Slot]


def prelude(plan: Plan, training: bool) -> tuple[Targets, Places]:
    """What enters the loop, made from x; kept for all t where the backward loop reads it."""
    kind = "row" if training and plan.reads_entering else "span"
    targets = [(n, Slot(f"in{i}", kind, n.size)) for i, n in enumerate(plan.entering)]
    places = {n: Slot(f"weight{i}", "weight", n.size) for i, n in enumerate(plan.prepared)}
    places[plan.step.x] = Slot("x", "row", plan.step.x.size)
    return targets, _reached(targets, places)


def _places(plan: Plan, kind: str = "row") -> Places:
    """Where a loop finds its leaves; ``kind``: of what enters it."""
    places = {n: Slot(f"weight{i}", "weight", n.size) for i, n in enumerate(plan.prepared)}
    places |= {n: Slot(f"in{i}", "row", n.size) for i, n in enumerate(plan.rows)}
    places |= {n: Slot(f"in{i}", kind, n.size) for i, n in enumerate(plan.entering)}
    places |= {n: Slot(n.attrs["name"], "old", n.size) for n in plan.states}
    if plan.step.mask is not None:
        places[plan.step.mask] = Slot("mask", "batch", plan.step.mask.size)
    return places


def forward(plan: Plan, training: bool) -> tuple[Targets, Places]:
    """The forward loop: the new state, and in training what the backward loop reads."""
    saved = plan.saved if training else ()
    kept = not plan.fused or (training and plan.reads_entering)
    targets = [
        (new, Slot(old.attrs["name"], "new", old.size))
        for old, new in zip(plan.states, plan.outputs, strict=True)
    ]
    targets += [(node, Slot(f"saved{i}", "row", node.size)) for i, node in enumerate(saved)]
    return targets, _reached(targets, _places(plan, "row" if kept else "span"))


def backward(plan: Plan) -> tuple[Targets, Places]:
    """The backward loop: the gradient of the old state, and what is left for after the loop."""
    places = _places(plan)
    for old, new in zip(plan.states, plan.outputs, strict=True):
        places.setdefault(new, Slot(old.attrs["name"], "new", old.size))
    places |= {n: Slot(f"saved{i}", "row", n.size) for i, n in enumerate(plan.saved)}
    replaced = {}
    for old, d_new in zip(plan.states, plan.backward.cotangents, strict=True):
        name = old.attrs["name"]
        carry, out = leaf("cotangent", f"carry {name}", old.size), leaf("cotangent", name, old.size)
        places[carry] = Slot(name, "carry", old.size)
        places[out] = Slot(f"out {name}", "dout", old.size)
        replaced[d_new] = elementwise("add", carry, out)
    nothing = [broadcast(const(0.0), old.size) for old in plan.states]
    d_states = [
        zero if d is None else d for d, zero in zip(plan.backward.d_states, nothing, strict=True)
    ]
    nodes = substitute((*d_states, *plan.backward.stored), replaced)
    targets = [
        (node, Slot(old.attrs["name"], "d_old", old.size))
        for old, node in zip(plan.states, nodes, strict=False)
    ]
    stored = nodes[len(plan.states) :]
    targets += [(node, Slot(f"stored{i}", "row", node.size)) for i, node in enumerate(stored)]
    return targets, _reached(targets, places)


def _reached(targets: Targets, places: Places) -> Places:
    """The places that are read."""
    reached = set(walk([node for node, _ in targets], until=places))
    return {node: slot for node, slot in places.items() if node in reached}
