"""Layers of every kind, with 3 inputs and random parameters."""

import torch

import elman
from elman import cells
from tests.support import mapped, randomise

I = 3

#: Layers that only look back.
FORWARD = {
    "Recurrent GRU": lambda: elman.Recurrent(cells.GRU(I, 4)),
    "Recurrent ProjectedLSTM": lambda: elman.Recurrent(cells.ProjectedLSTM(I, 4, 2)),
    "Recurrent SLSTM": lambda: elman.Recurrent(cells.SLSTM(I, 2)),
    "Stack": lambda: elman.Stack([cells.Elman(I, 4), cells.LSTM(4, 4), cells.GRU(4, 2)]),
    "Stack residual": lambda: elman.Stack(
        [cells.LSTM(I, I), cells.Jordan(I, 4, I)], residual=True, layer_norm=True
    ),
    "Stack of Stack": lambda: elman.Stack([elman.Stack([cells.GRU(I, 4)]), cells.LSTM(4, 2)]),
    "RNN": lambda: elman.RNN(I, 4, num_layers=2),
    "LSTM": lambda: elman.LSTM(I, 4, num_layers=2, proj_size=2),
    "GRU": lambda: elman.GRU(I, 4),
}

#: Layers that start at the end.
BACKWARD = {
    "Recurrent reverse": lambda: elman.Recurrent(cells.LSTM(I, 4), reverse=True),
    "Stack reverse": lambda: elman.Stack(
        [cells.GRU(I, I), cells.LSTM(I, 4)], residual=True, reverse=True
    ),
}

#: Layers that do both.
BOTH = {
    "Bidirectional": lambda: elman.Bidirectional(cells.GRU(I, 4), cells.LSTM(I, 2)),
    "Bidirectional sum": lambda: elman.Bidirectional(cells.MGU(I, 4), cells.NAS(I, 4), "sum"),
    "Stack of Bidirectional": lambda: elman.Stack(
        [
            elman.Bidirectional(cells.GRU(I, 2), cells.GRU(I, 2)),
            elman.Bidirectional(cells.LSTM(4, 2), cells.Elman(4, 1)),
        ],
        layer_norm=True,
    ),
    "Bidirectional of Stack": lambda: elman.Bidirectional(
        elman.Stack([cells.GRU(I, 4), cells.LSTM(4, 2)]),
        elman.Stack([cells.LSTM(I, 2), cells.UGRNN(2, 2)], reverse=True),
    ),
    "LSTM bidirectional": lambda: elman.LSTM(I, 4, num_layers=2, bidirectional=True),
    "GRU bidirectional": lambda: elman.GRU(I, 2, num_layers=2, bidirectional=True, bias=False),
}

EVERY = FORWARD | BACKWARD | BOTH


def built(name):
    """The layer of that name with every parameter drawn at random."""
    return randomise(EVERY[name]())


def some_state(layer, batch):
    """A state that the layer itself comes to, as leaves for gradients."""
    with torch.no_grad():
        _, state = layer(torch.randn(2, batch, layer.input_size))
    return mapped(lambda s: s.clone().requires_grad_(), state)


def rows(state, layer, *chosen):
    """The state of some sequences of a batch."""
    index = torch.tensor(chosen)
    return mapped(lambda s: s.index_select(layer.state_batch_axis, index), state)


def beside(states, layer):
    """The states of single sequences as the state of a batch."""
    return mapped(lambda *s: torch.cat(s, dim=layer.state_batch_axis), *states)
