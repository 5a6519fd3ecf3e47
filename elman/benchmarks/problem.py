"""One measurement: a cell, its input, and the numbers that are right."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from elman.backends.reference.tolerance import TOLERANCE
from elman.benchmarks.grid import Point
from elman.benchmarks.subjects import Subject
from elman.cells import Cell
from elman.cells.cell import as_tuple

#: "outputs" and, where training, "d x" and "d <parameter>" for each parameter of the cell.
Results = dict[str, Tensor]

#: How far a float32 result may lie from the float64 loop, relative to its largest value.
LIMIT = TOLERANCE[torch.float32].run


@dataclass(frozen=True)
class Problem:
    """A cell with its values and what goes in.

        outputs = layer(x),   and where training the gradients of sum(outputs * cotangent)

    x: [T, B, I]   cotangent: [T, B, O]
    """

    subject: Subject
    cell: Cell
    x: Tensor
    cotangent: Tensor
    training: bool

    @classmethod
    def make(cls, subject: Subject, point: Point, training: bool) -> "Problem":
        """The same numbers at each call."""
        cell = subject.make(point.hidden)
        with torch.no_grad():
            for name, gain in cell.named_parameters():
                if name == "gain_hh":
                    # A normalised state with gain 1 is chaotic: float32 and float64 part from
                    # each other within some hundred steps, whoever computes them.
                    gain.fill_(0.3)
        generator = torch.Generator().manual_seed(1)
        x, cotangent = (
            torch.randn(point.steps, point.batch, size, generator=generator)
            for size in (cell.input_size, cell.output_size)
        )
        return cls(subject, cell.train(training), x, cotangent, training)

    def double(self) -> "Problem":
        """The same in float64."""
        cell = copy.deepcopy(self.cell).double()
        return Problem(self.subject, cell, self.x.double(), self.cotangent.double(), self.training)


def literal_loop(cell: Cell, x: Tensor) -> Tensor:
    """One call of ``cell.step`` a time step: [T, B, I] -> [T, B, O]."""
    state = cell.initial_state((x.shape[1],), x)
    outputs = []
    for x_t in x.unbind():
        state = as_tuple(cell.step(x_t, *state))
        outputs.append(state[0])
    return torch.stack(outputs)


def torch_run(
    problem: Problem, forward: Callable[[Tensor], Tensor], module: nn.Module
) -> Callable[[], tuple[Tensor, ...]]:
    """What is timed of anything made of torch operations: outputs, and all gradients."""
    if not problem.training:

        @torch.inference_mode()
        def infer() -> tuple[Tensor, ...]:
            return (forward(problem.x),)

        return infer
    x = problem.x.clone().requires_grad_()
    wanted = [x, *module.parameters()]

    def train() -> tuple[Tensor, ...]:
        outputs = forward(x)
        found = torch.autograd.grad(
            outputs, wanted, problem.cotangent, allow_unused=True, materialize_grads=True
        )
        return (outputs, *found)

    return train


def torch_names(module: nn.Module) -> list[str]:
    """The names of what `torch_run` returns; torch.nn's "weight_ih_l0" is the cell's weight_ih."""
    names = [name for name, _ in module.named_parameters()]
    return ["outputs", "d x", *(f"d {n.removeprefix('cell.').removesuffix('_l0')}" for n in names)]


def named_results(names: list[str], found: Any) -> Results:
    """What a run returned, by name; inference returns the outputs alone."""
    return dict(zip(names, found, strict=False))


def reference(problem: Problem) -> Results:
    """The right numbers: the literal loop in float64."""
    double = problem.double()
    run = torch_run(double, lambda x: literal_loop(double.cell, x), double.cell)
    return named_results(torch_names(double.cell), run())


def distance(actual: Tensor, expected: Tensor) -> float:
    """max |actual - expected| / max |expected|; infinite where a value or the shape is lost."""
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    error = (actual.detach().double() - expected.detach()).abs().max()
    scale = expected.detach().abs().max()
    apart = float(error / scale if scale > 0 else error)
    return apart if apart == apart else float("inf")


def largest_distance(actual: Results, expected: Results, training: bool) -> tuple[float, str]:
    """The largest distance of all results, and whose it is; a result that is missing counts."""
    names = expected if training else ["outputs"]
    apart = {n: distance(actual[n], expected[n]) if n in actual else float("inf") for n in names}
    worst = max(apart, key=lambda name: apart[name])
    return apart[worst], worst
