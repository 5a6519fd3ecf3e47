"""After the backward loop: the gradients of x and of the weights, over all rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.base import BackwardBuffers, ForwardBuffers
from elman.compiler.ir.interpret import evaluate, evaluate_in_order
from elman.compiler.ir.nodes import Node, walk
from elman.compiler.plan import Plan
from elman.runtime.buffers import with_initial_state
from elman.runtime.records import LoopInputs

Gradients = list[Tensor | None]


def after_loop(
    plan: Plan, buffers: ForwardBuffers, back: BackwardBuffers, wanted: LoopInputs
) -> tuple[Gradients, Gradients]:
    """The gradients of the rows and of the prepared weights that are wanted."""
    rows = _wanted(plan.backward.d_inputs, wanted.rows)
    weights = _wanted(plan.backward.d_prepared, wanted.weights)
    nodes = tuple([node for node in (*rows, *weights) if node is not None])
    values, orders = _Rows(plan, buffers, back).needed(nodes)
    found = {
        node: _over_rows(node, order, values) for node, order in zip(nodes, orders, strict=True)
    }
    d_rows = [None if node is None else found[node] for node in rows]
    d_weights = [
        None if node is None else found[node].reshape(weight.shape)
        for node, weight in zip(weights, buffers.weights, strict=True)
    ]
    return d_rows, d_weights


def _wanted(nodes: Sequence[Node | None], needs: Sequence[bool]) -> list[Node | None]:
    return [node if need else None for node, need in zip(nodes, needs, strict=True)]


def _over_rows(node: Node, order: Sequence[Node], values: dict[Node, Tensor]) -> Tensor:
    """A value for all rows; a product of what is there already into memory that is kept."""
    if node.op != "linear" or node.args[0] not in values:
        return evaluate_in_order(order, [node], values)[0]
    v = values[node.args[0]]
    [W] = evaluate([node.args[1]], values)
    return torch.mm(v, W.t(), out=memory.empty(v, len(v), len(W)))


class _Rows:
    """The values of the loop at all rows."""

    def __init__(self, plan: Plan, buffers: ForwardBuffers, back: BackwardBuffers) -> None:
        self.plan, self.buffers, self.back = plan, buffers, back

    def needed(self, wanted: tuple[Node, ...]) -> tuple[dict[Node, Tensor], list[list[Node]]]:
        """The leaves of what is wanted and every value that lies in memory; and for each that is
        wanted what has to be computed, in order."""
        plan, buffers = self.plan, self.buffers
        values = dict(zip(plan.prepared, buffers.weights, strict=True))
        entering = zip(plan.rows, buffers.entering, strict=True)
        values |= {node: rows for node, rows in entering if rows is not None}
        values |= dict(zip(plan.inputs, buffers.inputs, strict=False))
        values |= dict(zip(plan.outputs, buffers.states, strict=True))
        values |= dict(zip(plan.saved, buffers.saved, strict=True))
        values |= dict(zip(plan.backward.stored, self.back.stored, strict=True))
        known = wanted, tuple(values)
        orders: list[list[Node]] | None = plan.made_of.get(known)
        if orders is None:
            orders = plan.made_of[known] = [[*walk([node], until=values)] for node in wanted]
        reached = {node for order in orders for node in order}
        for part, node in enumerate(plan.states):
            if node in reached:
                values[node] = self._before(part)
        mask_node, mask = plan.step.mask, buffers.state_mask
        if mask_node is not None and mask_node in reached and mask is not None:
            values[mask_node] = memory.gather(mask, buffers.layout.sequences.to(mask.device))
        return values, orders

    def _before(self, part: int) -> Tensor:
        """[rows, S]: the state that enters each row."""
        buffers, layout = self.buffers, self.buffers.layout
        states, initial = buffers.states[part], buffers.initial_state[part]
        room = with_initial_state(states, layout, initial)
        if layout.source is None and layout.cut is None:
            return room[layout.batch :] if layout.reverse else room[: layout.rows]
        old = memory.gather(room, layout.previous.to(states.device))
        if layout.cut is not None:
            cut_sequences = layout.sequences.to(states.device)[layout.cut]
            old[layout.cut] = buffers.reset_state[part][cut_sequences]
        return old
