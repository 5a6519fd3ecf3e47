"""Every cell: its compiled step and gradients are torch's."""

import pytest
import torch

from elman.compiler.ir.nodes import walk
from elman.compiler.passes.simplify import simplify_step
from elman.compiler.trace.tracer import trace
from tests.cells.cases import CASES
from tests.compiler.support import assert_step, double

ROWS = 4


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_step_and_gradients(case, masked):
    torch.manual_seed(0)
    cell = case.build().double()
    x = double(ROWS, cell.input_size)
    states = [double(ROWS, n, seed=k + 1) for k, n in enumerate(cell.state_sizes.values())]
    mask = double(ROWS, cell.output_size, seed=7) if masked else None
    assert_step(cell, x, states, mask, simplified=False)
    assert_step(cell, x, states, mask)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_traces_without_values(case):
    real = trace(case.build())
    meta = trace(case.cell(*case.sizes, **case.options, device="meta"))
    assert [(n.op, n.shape, n.line) for n in walk(meta.outputs)] == [
        (n.op, n.shape, n.line) for n in walk(real.outputs)
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_simplifies_once(case):
    """What is simple stays as it is."""
    once = simplify_step(trace(case.build()))
    twice = simplify_step(once)
    assert [(n.op, n.shape, n.varies) for n in walk(twice.outputs)] == [
        (n.op, n.shape, n.varies) for n in walk(once.outputs)
    ]
    assert sorted(twice.names.values()) == sorted(once.names.values())
