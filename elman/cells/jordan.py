"""The network that feeds its output back."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.activations import Activation
from elman.cells.activations import activation as named
from elman.cells.stacked import Setup, StackedCell


class Jordan(StackedCell):
    """The hidden layer sees the network's last output, which is the state.

        h  = f(W x + U y + b)
        y' = g(V h + c)

    x: [..., I]   y: [..., O]   ->   y': [..., O]
    W: weight_ih [H, I]   U: weight_yh [H, O]   V: weight_hy [O, H]
    b: bias_ih [H]   c: bias_hy [O]
    output_size: O, H where not given. activation: f; output_activation: g, by name (identity,
    sigmoid, softmax, tanh, relu) or a callable.

    Source: Jordan 1986, Serial Order: A Parallel Distributed Processing Approach (reprinted
    1997), without the self-connections of its state units.
    """

    recurrent_weights = ("weight_yh",)
    weight_yh: Tensor
    weight_hy: Tensor
    bias_hy: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        bias: bool = True,
        *,
        activation: str | Activation = "tanh",
        output_activation: str | Activation = "identity",
        **setup: Unpack[Setup],
    ) -> None:
        H, O = hidden_size, hidden_size if output_size is None else output_size
        super().__init__(input_size, hidden_size, y=O)
        self.activation = named(activation)
        self.output_activation = named(output_activation)
        self.build(
            setup,
            weight_ih=(H, input_size),
            weight_yh=(H, O),
            bias_ih=(H,) if bias else None,
            weight_hy=(O, H),
            bias_hy=(O,) if bias else None,
        )

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.activation(
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(self.drop_state(y), self.weight_yh)
        )
        return self.output_activation(F.linear(h, self.weight_hy, self.bias_hy))
