"""The simple recurrent network."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.activations import Activation
from elman.cells.activations import activation as named
from elman.cells.stacked import Setup, StackedCell


class Elman(StackedCell):
    """The simple recurrent network: the hidden layer sees its own last values.

        h' = f(W x + b + U h + c)

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [H, I]   U: weight_hh [H, H]   b, c: bias_ih, bias_hh [H]
    activation: f, one of tanh, relu, sigmoid, identity, softmax, or a callable.

    Source: Elman 1990, Finding Structure in Time, figure 2. With ``activation="relu"`` and
    ``init="identity"`` it is the IRNN of Le et al. 2015.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        activation: str | Activation = "tanh",
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.activation = named(activation)
        H = hidden_size
        self.build(
            setup,
            weight_ih=(H, input_size),
            weight_hh=(H, H),
            bias_ih=(H,) if bias else None,
            bias_hh=(H,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.activation(
            F.linear(x, self.weight_ih, self.bias_ih)
            + F.linear(self.drop_state(h), self.weight_hh, self.bias_hh)
        )
