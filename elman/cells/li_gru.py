"""The light gated recurrent unit."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class LiGRU(StackedCell):
    """The light GRU of speech recognition: no reset gate, rectified candidate.

        z = sigmoid(W_z x + U_z h + b_z)
        n = relu(W_n x + U_n h + b_n)
        h' = z * h + (1 - z) * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [2H, I]   U: weight_hh [2H, H]   b: bias_ih [2H]   gates z n
    The source also batch-normalises W x over all sequences and steps. That is no function of one
    step: put a batch norm before the layer.

    Source: Ravanelli et al. 2018, Light Gated Recurrent Units for Speech Recognition, section III.
    """

    gates = ("z", "n")
    keeps = {"z": 1}

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
        a_z, a_n = gates.chunk(2, dim=-1)
        z, n = a_z.sigmoid(), a_n.relu()
        return z * h + (1 - z) * n
