"""What runs one step of a cell after the other, and holds the state between."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from elman.backends.choose import choose
from elman.backends.llvm.engine import LLVM
from elman.cells.cell import Cell, State
from elman.compiler.interpret import evaluate
from elman.scan import Execution, Noise, scan


class Stepped(Protocol):
    """Something that runs one step after the other and holds the state; setting it goes on from
    there."""

    state: State

    def step(self, x: Tensor) -> Tensor:
        """x: [B, I], contiguous   ->   the first part of the new state: [B, O]."""
        ...


def stepper(
    cell: Cell, weights: dict[str, Tensor], noise: Noise, state: State, execution: Execution
) -> Stepped:
    """What runs the steps of a cell with the weights of this moment, without a gradient: a kernel
    that is entered again and again, or, on the other backends, a sequence of one step.

    Raises BackendError where the backend that was asked for cannot run it.
    """
    weights = {name: weight.detach().clone() for name, weight in weights.items()}
    state = tuple(part.detach() for part in state)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # kernels keep to their dtype
        choice = choose(cell, weights, state[0], state, noise, execution, streamed=True)
        plan, engine = choice.plan, choice.engine
        if plan is None or not isinstance(engine, LLVM):
            return _Scanned(cell, weights, noise, state, execution)
        return engine.stepper(plan, evaluate(plan.prepared, plan.read(cell, weights)), state)


class _Scanned:
    """One `scan` a step."""

    def __init__(
        self,
        cell: Cell,
        weights: dict[str, Tensor],
        noise: Noise,
        state: State,
        execution: Execution,
    ) -> None:
        self.cell, self.weights, self.noise = cell, weights, noise
        self.state, self.execution = state, execution

    def step(self, x: Tensor) -> Tensor:
        x = x.view(1, len(self.state[0]), -1)
        with torch.no_grad():
            states, self.state = scan(
                self.cell, self.weights, x, self.state, noise=self.noise, execution=self.execution
            )
        return states[0][0]
