"""From the step of a cell to its expression: run it once and write down what torch is asked."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor

from elman.cells.cell import Cell, bind, weights_of
from elman.compiler.ir import Node, Step, leaf, weight
from elman.compiler.recorder import Recorder
from elman.compiler.source import Source


def trace(cell: Cell, masked: bool = False) -> Step:
    """The step of a cell, as torch computes it.

    The step runs once on a few rows, with zeros for all numbers; its torch operations become
    nodes, those on weights alone become calls. The leaves: "x", the parts of the state, "mask"
    where ``masked`` (the state dropout), and the weights, named as `leaf_values` names them.

    Raises UnsupportedError, with the line in the cell, for what cannot be compiled.
    """
    weights = {
        name: torch.zeros(value.shape, dtype=value.dtype, device="cpu")
        for name, value in leaf_values(cell).items()
    }
    kinds = (w.dtype for w in weights.values() if w.is_floating_point())
    dtype = next(kinds, torch.get_default_dtype())
    rows = _rows(cell, weights)
    source = Source(cell)
    recorder = Recorder(source, rows, dtype)
    bound_weights = {n: recorder.enter(weight(n, w.shape), w) for n, w in weights.items()}

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


def leaf_values(cell: Cell) -> dict[str, Tensor]:
    """The values of a step's weights by name: the parameters, `weights_of`, and the buffers."""
    weights = weights_of(cell)
    for name, value in cell.named_buffers():
        if "parametrizations." not in name:
            weights[name] = value
    return weights


def _rows(cell: Cell, weights: dict[str, Tensor]) -> int:
    """A number of rows that no axis of a weight has, so that the axis of rows is known by it."""
    sizes = {size for w in weights.values() for size in w.shape}
    sizes |= {cell.input_size, *cell.state_sizes.values()}
    return next(number for number in count(5, 2) if number not in sizes)
