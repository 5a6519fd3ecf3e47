"""The minimal gated unit."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class MGU(StackedCell):
    """The minimal gated unit: a GRU with one gate for reset and update.

        f = sigmoid(W_f x + U_f h + b_f)
        n = tanh(W_n x + U_n (f * h) + b_n)
        h' = (1 - f) * h + f * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [2H, I]   U: weight_hh [2H, H]   b: bias_ih [2H]   gates f n

    Source: Zhou et al. 2016, Minimal Gated Unit for Recurrent Neural Networks, eq. 6.
    """

    gates = ("f", "n")
    keeps = {"f": -1}

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
        kept = self.drop_state(h)
        U_f, U_n = self.weight_hh.chunk(2)
        x_f, x_n = F.linear(x, self.weight_ih, self.bias_ih).chunk(2, dim=-1)
        f = (x_f + F.linear(kept, U_f)).sigmoid()
        n = (x_n + F.linear(f * kept, U_n)).tanh()
        return (1 - f) * h + f * n
