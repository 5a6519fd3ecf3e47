"""What runs one step of a layer after the other, and holds the state between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Steps:
    """The steps of a layer.

    cells: what holds its state, in order. step: x [B, I] -> output [B, O], through all of them.
    """

    cells: tuple[Stepped, ...]
    step: Step


def steps_of(cell: Stepped) -> Steps:
    """The steps of a layer of one cell."""
    return Steps((cell,), cell.step)


def on_top(layers: Sequence[Steps]) -> Steps:
    """The steps of layers that each read the outputs of the one below."""
    if len(layers) == 1:
        return layers[0]
    each = [layer.step for layer in layers]

    def step(x: Tensor) -> Tensor:
        for one in each:
            x = one(x)
        return x

    return Steps(tuple(cell for layer in layers for cell in layer.cells), step)


def joined(layer: Steps, norm: Step | None, skip: bool) -> Steps:
    """The steps of a layer with what stands around it: layer(norm(x)) + x where skip."""
    if norm is None and not skip:
        return layer

    def step(x: Tensor) -> Tensor:
        x = x.detach()
        y = layer.step(x if norm is None else norm(x))
        return y + x if skip else y

    return Steps(layer.cells, step)
