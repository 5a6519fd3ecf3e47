"""Recurrent networks for PyTorch, compiled from their equations."""

from typing import TYPE_CHECKING, Any

from elman import cells, layers, memory, models
from elman.cells import Cell
from elman.errors import ElmanError
from elman.interop.torch import from_torch, to_torch
from elman.layers import GRU, LSTM, RNN, Bidirectional, Recurrent, Stack, detach

if TYPE_CHECKING:
    from elman import testing
    from elman.tasks import load

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "ElmanError",
    "Recurrent",
    "Stack",
    "cells",
    "detach",
    "from_torch",
    "layers",
    "load",
    "memory",
    "models",
    "testing",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    # Loading a run and testing need rooms that a bare `import elman` does not.
    if name == "load":
        from elman.tasks import load

        return load
    if name == "testing":
        import elman.testing

        return elman.testing
    raise AttributeError(f"module 'elman' has no attribute '{name}'")
