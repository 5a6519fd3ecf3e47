"""From one vector to the state that a stack starts with."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.cells import Cell
from elman.cells.cell import as_returned
from elman.errors import ShapeError
from elman.layers import Recurrent, Stack


class Start(nn.ModuleList):
    """The first state of every layer of a stack, told by a vector.

        s_p = tanh(W_p v + b_p)    for each part p of each layer's state

    v: [B, vector_size]   ->   the state as `elman.Stack` takes it
    W, b of all parts of a layer: one nn.Linear, "0" for the lowest layer.

    A part that means nothing by itself (`Cell.zoneout_parts`: the normaliser of an sLSTM) starts
    as the cell does. Raises ShapeError.
    """

    def __init__(self, vector_size: int, stack: Stack) -> None:
        self.vector_size = vector_size
        self.cells = [layer.cell for layer in stack.layers if isinstance(layer, Recurrent)]
        super().__init__(
            nn.Linear(vector_size, sum(free_parts(cell).values())) for cell in self.cells
        )

    def forward(self, vector: Tensor) -> Any:
        """The state of each layer."""
        if vector.dim() != 2 or vector.shape[-1] != self.vector_size:
            raise ShapeError(
                f"the vectors must be [B, {self.vector_size}], got {list(vector.shape)}"
            )
        pairs = zip(self.cells, self, strict=True)
        return tuple(started(cell, start(vector).tanh()) for cell, start in pairs)


def free_parts(cell: Cell) -> dict[str, int]:
    """The parts of the state that mean something by themselves, and their sizes."""
    names = cell.state_sizes if cell.zoneout_parts is None else cell.zoneout_parts
    return {name: cell.state_sizes[name] for name in names}


def started(cell: Cell, values: Tensor) -> Any:
    """The cell's state with ``values`` [B, S] in its free parts, as a layer takes it."""
    free = free_parts(cell)
    own = cell.initial_state((len(values),), values)
    start = dict(zip(cell.state_sizes, own, strict=True))
    start |= dict(zip(free, torch.split(values, list(free.values()), dim=-1), strict=True))
    return as_returned(tuple(start.values()))
