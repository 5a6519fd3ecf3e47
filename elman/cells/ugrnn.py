"""The update-gate network."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class UGRNN(StackedCell):
    """The update-gate network: the simple recurrent network with one gate that keeps.

        g = sigmoid(W_g x + U_g h + b_g)
        n = tanh(W_n x + U_n h + b_n)
        h' = g * h + (1 - g) * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [2H, I]   U: weight_hh [2H, H]   b: bias_ih [2H]   gates g n

    Source: Collins, Sohl-Dickstein & Sussillo 2017, Capacity and Trainability in Recurrent
    Neural Networks (their c is n).
    """

    gates = ("g", "n")
    keeps = {"g": 1}

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, **setup: Unpack[Setup]
    ) -> None:
        super().__init__(input_size, hidden_size)
        G = 2 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_ih=(G,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh)
        a_g, a_n = gates.chunk(2, dim=-1)
        g, n = a_g.sigmoid(), a_n.tanh()
        return g * h + (1 - g) * n
