"""From the state that an encoder ends with to the state that a decoder starts with."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.cells import Cell
from elman.cells.cell import State, as_tuple
from elman.errors import OptionError
from elman.layers import Bidirectional, Recurrent, Stack
from elman.models.common.initial_state import free_parts, started


class Bridge(nn.Module):
    """The last state of each encoder layer as the first state of the decoder layer beside it.

        s   = e                           where both layers have the same parts, of the same sizes
        s_p = tanh(W_p [e_1 ... e_n] + b_p)    otherwise, for each part p of the decoder's state

    e: the parts of the encoder's state, of both directions where it has two   ->   s
    W, b of all parts of a layer: one nn.Linear, ``maps["0"]`` for the lowest layer.

    A part that means nothing by itself (`Cell.zoneout_parts`: the normaliser of an sLSTM) is
    copied with all others or left out: in the decoder it starts as the cell does by itself.

    Raises OptionError where the two have not the same number of layers.

    Sources: Sutskever, Vinyals & Le 2014 (the copy); Bahdanau, Cho & Bengio 2015, appendix
    A.2.2 (the map).
    """

    def __init__(self, encoder: Stack, decoder: Stack) -> None:
        super().__init__()
        self.sources = [_cells(layer) for layer in encoder.layers]
        self.cells = [_cells(layer)[0] for layer in decoder.layers]
        if len(self.sources) != len(self.cells):
            raise OptionError(
                f"the encoder has {len(self.sources)} layers and the decoder {len(self.cells)}: "
                "the bridge leads from each to the one beside it"
            )
        self.maps = nn.ModuleDict()
        for number, (sources, cell) in enumerate(zip(self.sources, self.cells, strict=True)):
            if [source.state_sizes for source in sources] != [cell.state_sizes]:
                read = sum(sum(free_parts(source).values()) for source in sources)
                written = sum(free_parts(cell).values())
                self.maps[str(number)] = nn.Linear(read, written)

    def forward(self, state: Any) -> Any:
        """state: as the encoder's `Stack` returns it   ->   as the decoder's takes it."""
        return tuple(self._layer(number, layer) for number, layer in enumerate(state))

    def encoding(self, state: Any) -> Tensor:
        """The last output of the encoder's highest layer, of both directions: [B, O]."""
        pairs = self._directions(len(self.sources) - 1, state[-1])
        return torch.cat([parts[0] for _, parts in pairs], dim=-1)

    def _directions(self, number: int, state: Any) -> list[tuple[Cell, State]]:
        """The encoder's cells of one layer, each with the parts of its state."""
        sources = self.sources[number]
        states = state if len(sources) > 1 else (state,)
        return [(cell, as_tuple(one)) for cell, one in zip(sources, states, strict=True)]

    def _layer(self, number: int, state: Any) -> Any:
        if str(number) not in self.maps:
            return state
        read = [
            part
            for source, parts in self._directions(number, state)
            for name, part in zip(source.state_sizes, parts, strict=True)
            if name in free_parts(source)
        ]
        mapped = self.maps[str(number)](torch.cat(read, dim=-1)).tanh()
        return started(self.cells[number], mapped)


def _cells(layer: nn.Module) -> list[Cell]:
    """The cell of a layer, or the two of a bidirectional one."""
    if isinstance(layer, Bidirectional):
        return _cells(layer.forward_layer) + _cells(layer.backward_layer)
    if not isinstance(layer, Recurrent):
        raise OptionError(f"the bridge reads Recurrent and Bidirectional layers, got {layer!r}")
    return [layer.cell]
