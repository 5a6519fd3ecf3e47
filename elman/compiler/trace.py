"""From the step of a cell to its expression: run it once and write down what torch is asked."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor

from elman.cells.cell import Cell, bind, dtype_of, weights_of
from elman.compiler.ir import Node, Step, leaf, weight
from elman.compiler.recorder import Recorder
from elman.compiler.source import Source


def trace(
    cell: Cell,
    weights: dict[str, Tensor] | None = None,
    *,
    masked: bool = False,
    dtype: torch.dtype | None = None,
) -> Step:
    """The step of a cell, as torch computes it.

    The step runs once on a few rows, with zeros for all numbers; its torch operations become
    nodes, those on weights alone become calls. The leaves: "x", the parts of the state, "mask"
    where ``masked`` (the state dropout), and the weights by name.

    weights: tensors of the shapes and dtypes to trace with, as `weights_of` names them; None:
        the cell's own. dtype: of x and of the state; None: that of the weights.

    Raises UnsupportedError, with the line in the cell, for what cannot be compiled.
    """
    weights = weights_of(cell) if weights is None else weights
    zeros = {
        name: torch.zeros(value.shape, dtype=value.dtype, device="cpu")
        for name, value in weights.items()
    }
    dtype = dtype or dtype_of(zeros.values())
    rows = _rows(cell, zeros)
    source = Source(cell)
    recorder = Recorder(source, rows, dtype)
    bound_weights = {n: recorder.enter(weight(n, w.shape), w) for n, w in zeros.items()}

    def enter(op: str, name: str, size: int) -> tuple[Node, Tensor]:
        node, value = leaf(op, name, size), torch.zeros(rows, size, dtype=dtype, device="cpu")
        return node, recorder.enter(node, value)

    x = enter("x", "x", cell.input_size)
    states = [enter("state", name, size) for name, size in cell.state_sizes.items()]
    mask = enter("mask", "mask", cell.output_size) if masked else None
    bound = bind(cell, bound_weights, None if mask is None else mask[1])
    new = recorder.run(lambda: bound.step(x[1], *(value for _, value in states)))
    outputs = recorder.outputs(new, list(cell.state_sizes.items()))
    nodes = tuple(node for node, _ in states)
    names = recorder.names({x[0], *nodes})
    return Step(source.cell, x[0], nodes, mask and mask[0], outputs, names)


def _rows(cell: Cell, weights: dict[str, Tensor]) -> int:
    """A number of rows that no axis of a weight has, so that the axis of rows is known by it."""
    sizes = {size for w in weights.values() for size in w.shape}
    sizes |= {cell.input_size, *cell.state_sizes.values()}
    return next(number for number in count(5, 2) if number not in sizes)
