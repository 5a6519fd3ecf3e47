"""A step of the compiler beside the same step by torch."""

import torch
from torch import Tensor, nn

from elman.cells import Cell
from elman.cells.cell import bind, weights_of
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import Node, Step, leaf, walk
from elman.compiler.ir.verify import verify
from elman.compiler.passes.differentiate import differentiate
from elman.compiler.passes.simplify import simplify_step
from elman.compiler.trace.tracer import trace
from tests.support import parts

#: Values at which functions bend, break and tie.
AWKWARD = (-20.5, -7.0, -3.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 2.0, 3.0, 6.0, 20.5, 100.0)
SPECIAL = (float("inf"), -float("inf"), float("nan"))


class Of(Cell):
    """A cell whose step is a function (cell, x, h), for tests of one expression."""

    def __init__(self, function, size=4, weights=(), buffers=()):
        super().__init__(size, h=size)
        self.function = function
        for name, value in dict(weights).items():
            self.register_parameter(name, nn.Parameter(value))
        for name, value in dict(buffers).items():
            self.register_buffer(name, value)

    def step(self, x, h):
        return self.function(self, x, h)


def double(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def leaves_of(cell: Cell, step: Step, x, states, mask=None) -> dict[Node, Tensor]:
    """The values of all leaves of a step."""
    weights = weights_of(cell)
    values = {step.x: x, **dict(zip(step.states, states, strict=True))}
    if step.mask is not None:
        values[step.mask] = mask
    for node in walk(step.outputs):
        if node.op == "weight":
            values[node] = weights[node.attrs["name"]]
    return values


def prepared_of(outputs) -> list[Node]:
    """The weights that stand beside rows."""
    found = {}
    for node in walk(outputs):
        if node.is_row:
            for arg in node.args:
                if not arg.is_row and arg.op != "const":
                    found.setdefault(arg)
    return list(found)


def rows(nodes: list[Node], values, count: int) -> list[Tensor]:
    """The values of nodes, one for each row even where all rows have the same."""
    found = evaluate(nodes, values)
    return [v.expand(count, v.shape[-1]) for v in found]


def assert_step(cell: Cell, x, states, mask=None, *, simplified=True, tolerance=1e-10) -> Step:
    """The compiled step computes what the cell computes, and so do its gradients."""
    step = trace(cell, masked=mask is not None)
    verify(step.outputs)
    if simplified:
        step = simplify_step(step)
        verify(step.outputs)
    given = [x, *states, *([] if mask is None else [mask])]
    given = [value.detach().requires_grad_() for value in given]
    x, *states = given[: 1 + len(states)]
    mask = given[-1] if mask is not None else None
    expected = parts(bind(cell, weights_of(cell), mask).step(x, *states))
    leaves = leaves_of(cell, step, x, states, mask)
    actual = rows(list(step.outputs), leaves, len(x))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, atol=tolerance, rtol=tolerance, equal_nan=True)
    _assert_gradients(step, leaves, expected, given, cell, tolerance)
    return step


def _assert_gradients(step, leaves, expected, given, cell, tolerance):
    cotangents = [double(*e.shape, seed=k + 9) for k, e in enumerate(expected)]
    row_nodes = [step.x, *step.states, *([] if step.mask is None else [step.mask])]
    prepared = prepared_of(step.outputs)
    parameters = list(cell.parameters())
    want = torch.autograd.grad(
        expected, [*given, *parameters], cotangents, allow_unused=True, materialize_grads=True
    )
    nodes = [leaf("cotangent", f"d{k}", e.shape[-1]) for k, e in enumerate(expected)]
    found = differentiate(step.outputs, nodes, [*row_nodes, *prepared])
    verify([d for d in found if d is not None])
    made = evaluate(prepared, leaves)
    values = leaves | dict(zip(prepared, made, strict=True))
    values |= dict(zip(nodes, cotangents, strict=True))
    with torch.no_grad():
        given_d = iter(evaluate([d for d in found if d is not None], values))
    got = [None if d is None else next(given_d) for d in found]
    for d, e in zip(got[: len(given)], want[: len(given)], strict=True):
        actual = torch.zeros_like(e) if d is None else d.expand(e.shape)
        torch.testing.assert_close(actual, e, atol=tolerance, rtol=tolerance, equal_nan=True)
    _assert_weight_gradients(made, got[len(row_nodes) :], parameters, want[len(given) :], tolerance)


def _assert_weight_gradients(made, got, parameters, want, tolerance):
    """From the prepared weights to the parameters torch differentiates."""
    pairs = [(m, d) for m, d in zip(made, got, strict=True) if d is not None and m.requires_grad]
    for m, d in pairs:
        assert m.shape == d.shape
    found = [torch.zeros_like(p) for p in parameters]
    if pairs:
        found = torch.autograd.grad(
            [m for m, _ in pairs],
            parameters,
            [d for _, d in pairs],
            allow_unused=True,
            materialize_grads=True,
            retain_graph=True,
        )
    for f, e in zip(found, want, strict=True):
        torch.testing.assert_close(f, e, atol=tolerance, rtol=tolerance, equal_nan=True)
