"""Layers: cells lifted over time, stacked, read from both ends, and torch.nn's three."""

from elman.layers.attention import Attention, Memory
from elman.layers.bidirectional import Bidirectional
from elman.layers.dropout import Dropout
from elman.layers.layer import Layer, detach
from elman.layers.plan import CellPlan, PlanReport
from elman.layers.pooling import Pooling
from elman.layers.recurrent import Recurrent
from elman.layers.regularisers import Regularisers
from elman.layers.stack import Stack
from elman.layers.torch_like import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "Bidirectional",
    "CellPlan",
    "Dropout",
    "Layer",
    "Memory",
    "PlanReport",
    "Pooling",
    "Recurrent",
    "Regularisers",
    "Stack",
    "detach",
]
