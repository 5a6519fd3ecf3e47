"""The plan as a cell: what runs it where the cell that it was made of is not there."""

from __future__ import annotations

from torch import Tensor

from elman.cells.cell import Cell, State, bind
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import Node, walk
from elman.compiler.plan import Plan


class PlannedCell(Cell):
    """Its step is the plan's by torch's operations; its initial state is the one it is given.

    weights: what the plan reads, by name. own: the initial state, parts [B, S]; empty: zeros.
    """

    plan: Plan
    weights: dict[str, Tensor]
    own: State

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.step.x.size, **{s.attrs["name"]: s.size for s in plan.states})
        self.plan, self.weights, self.own = plan, {}, ()

    @staticmethod
    def of(plan: Plan, weights: dict[str, Tensor], own: State) -> Cell:
        """The cell with these values."""
        model = plan.made_of.get("cell")
        if model is None:
            model = plan.made_of.setdefault("cell", PlannedCell(plan))
        cell = bind(model, {})
        vars(cell).update(weights=weights, own=own)
        return cell

    def initial_state(self, batch_shape: tuple[int, ...], like: Tensor) -> State:
        return self.own or super().initial_state(batch_shape, like)

    def step(self, *given: Tensor) -> State:
        step = self.plan.step
        values: dict[Node, Tensor] = dict(zip((step.x, *step.states), given, strict=True))
        if step.mask is not None and self.state_mask is not None:
            values[step.mask] = self.state_mask
        leaves = (node for node in walk(step.outputs) if node.op == "weight")
        values |= {node: self.weights[node.attrs["name"]] for node in leaves}
        found = evaluate(step.outputs, values)
        sizes = zip(found, step.states, strict=True)
        return tuple([value.expand(*given[0].shape[:-1], state.size) for value, state in sizes])
