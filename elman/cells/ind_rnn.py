"""The independently recurrent network."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from elman.cells.activations import Activation
from elman.cells.activations import activation as named
from elman.cells.stacked import Setup, StackedCell


class IndRNN(StackedCell):
    """Each unit sees only its own past: the recurrent matrix is a diagonal.

        h' = f(W x + u * h + b)

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [H, I]   u: weight_hh [H]   b: bias_ih [H]
    activation: f, relu by default. u starts uniform in (0, 1); ``init="identity"`` makes it 1.

    Source: Li et al. 2018, Independently Recurrent Neural Network (IndRNN), eq. 2.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        activation: str | Activation = "relu",
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.activation = named(activation)
        H = hidden_size
        self.build(setup, weight_ih=(H, input_size), weight_hh=(H,), bias_ih=(H,) if bias else None)

    def _recommended(self, name: str, parameter: Tensor) -> None:
        if name == "weight_hh":
            nn.init.uniform_(parameter, 0, 1)
        else:
            super()._recommended(name, parameter)

    def _identity(self) -> None:
        nn.init.ones_(self.weight_hh)
        nn.init.normal_(self.weight_ih, std=0.001)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.activation(
            F.linear(x, self.weight_ih, self.bias_ih) + self.weight_hh * self.drop_state(h)
        )
