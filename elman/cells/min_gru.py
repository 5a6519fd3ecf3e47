"""The GRU whose gates see only the input."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class MinGRU(StackedCell):
    """A GRU whose gate and candidate see only the input: the state enters linearly.

        z = sigmoid(W_z x + b_z)
        n = W_n x + b_n
        h' = (1 - z) * h + z * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [2H, I]   b: bias_ih [2H]   gates z n

    Source: Feng et al. 2024, Were RNNs All We Needed?, section 3.1 (the plain form).
    """

    gates = ("z", "n")
    keeps = {"z": -1}
    recurrent_weights = ()

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, **setup: Unpack[Setup]
    ) -> None:
        super().__init__(input_size, hidden_size)
        G = 2 * hidden_size
        self.build(setup, weight_ih=(G, input_size), bias_ih=(G,) if bias else None)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        a_z, n = F.linear(x, self.weight_ih, self.bias_ih).chunk(2, dim=-1)
        z = a_z.sigmoid()
        return (1 - z) * h + z * n
