"""The functions that a cell may be given by name."""

from collections.abc import Callable

import torch
from torch import Tensor

from elman.errors import unknown

Activation = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """x itself: the linear network."""
    return x


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum(exp(x)) over the last axis."""
    return torch.softmax(x, dim=-1)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": identity,
    "softmax": softmax,
}


def activation(choice: str | Activation) -> Activation:
    """The function of that name, or the callable itself."""
    if callable(choice):
        return choice
    if choice not in ACTIVATIONS:
        raise unknown("activation", choice, ACTIVATIONS)
    return ACTIVATIONS[choice]
