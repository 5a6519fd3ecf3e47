"""What runs one step of a layer after the other, and holds the state between."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from elman.backends.base import Stepped
from elman.cells.cell import Cell, State, bind, weights_of
from elman.cells.checking import reads_past
from elman.compiler.ir.interpret import evaluate
from elman.errors import BackendError
from elman.runtime.dispatch import choose
from elman.runtime.scan import Execution, Regularisation, scan


def stepper(
    cell: Cell,
    weights: dict[str, Tensor],
    noise: Regularisation,
    state: State,
    execution: Execution,
) -> Stepped:
    """What runs the steps of a cell as it is at this moment, without a gradient: a kernel that is
    entered again and again, or, on the other backends, a sequence of one step.

    Raises BackendError where the backend that was asked for cannot run it.
    """
    weights = {name: weight.detach().clone() for name, weight in weights.items()}
    state = tuple(part.detach() for part in state)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # kernels keep to their dtype
        choice = choose(cell, weights, state[0], state, noise, execution, streamed=True)
        kept = _as_it_is(cell, weights)
        plan, engine = choice.plan, choice.engine
        if plan is not None and engine is not None:
            again = partial(stepper, kept, weights, noise, execution=execution)
            prepared = evaluate(plan.prepared, plan.read(kept, weights))
            kernel = engine.stepper(plan, prepared, state, again)
            if kernel is not None:
                return kernel
        if reads_past(kept, weights_of(cell).values()):
            raise BackendError(
                f"{type(cell).__name__}.stream: the step reads weights of the cell past the copy "
                "that a stream runs; a function among its attributes that refers to the cell by "
                "itself has to be a method"
            )
        return _Scanned(kept, weights, noise, execution, state)


def _as_it_is(cell: Cell, weights: dict[str, Tensor]) -> Cell:
    """A cell that no later change of a number, a module or a buffer of this one reaches."""
    bound = bind(cell, weights)
    modules = list(bound.modules())
    tensors = [t for module in modules for t in vars(module).values() if isinstance(t, Tensor)]
    own = {id(t): t.detach().clone() for t in (*tensors, *bound.buffers())}
    own |= {id(weight): weight for weight in weights.values()}
    try:
        return copy.deepcopy(bound, own)
    except (TypeError, RuntimeError):  # an attribute that nobody can copy stays shared
        return bound


class _Scanned:
    """One `scan` a step."""

    def __init__(
        self,
        cell: Cell,
        weights: dict[str, Tensor],
        noise: Regularisation,
        execution: Execution,
        state: State,
    ) -> None:
        self._made_of = cell, weights, noise, execution
        self._lock = Lock()
        self._state = _cloned(state)

    @property
    def state(self) -> State:
        return _cloned(self._state)

    @state.setter
    def state(self, state: State) -> None:
        self._state = _cloned(state)

    def step(self, x: Tensor) -> Tensor:
        cell, weights, noise, execution = self._made_of
        with self._lock, torch.no_grad():
            x = x.view(1, len(self._state[0]), -1)
            states, self._state = scan(
                cell, weights, x, self._state, noise=noise, execution=execution
            )
        return states[0][0]

    def __deepcopy__(self, memo: object) -> _Scanned:
        return _Scanned(*self._made_of, self._state)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Scanned, (*self._made_of, self.state)


def _cloned(state: State) -> State:
    return tuple(part.clone() for part in state)


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
    step = partial(_through, tuple(layer.step for layer in layers))
    return Steps(tuple(cell for layer in layers for cell in layer.cells), step)


def joined(layer: Steps, norm: Step | None, skip: bool) -> Steps:
    """The steps of a layer with what stands around it: layer(norm(x)) + x where skip."""
    if norm is None and not skip:
        return layer
    return Steps(layer.cells, partial(_around, layer.step, norm, skip))


# Functions of the module, that a stream may be copied and pickled.


def _through(steps: tuple[Step, ...], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


def _around(step: Step, norm: Step | None, skip: bool, x: Tensor) -> Tensor:
    x = x.detach()
    y = step(x if norm is None else norm(x))
    return y + x if skip else y
