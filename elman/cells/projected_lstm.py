"""The LSTM with a small recurrent output."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class ProjectedLSTM(StackedCell):
    """An LSTM whose output is projected to P < H before it is fed back.

        i, f, o = sigmoid(W x + U h + b)
        g = tanh(W_g x + U_g h + b_g)
        c' = f * c + i * g
        h' = P (o * tanh(c'))

    x: [..., I]   h: [..., P]   c: [..., H]   ->   h': [..., P]   c': [..., H]
    W: weight_ih [4H, I]   U: weight_hh [4H, P]   b: bias_ih + bias_hh [4H]   gates i f g o
    P: weight_hr [P, H]
    proj_size: P; the default is half of H, and at least 1.
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Sak, Senior & Beaufays 2014, LSTM Architectures for Large Scale Acoustic Modeling,
    without its peepholes: torch.nn.LSTM's proj_size.
    """

    gates = ("i", "f", "g", "o")
    keeps = {"f": 1, "i": -1}
    weight_hr: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int | None = None,
        bias: bool = True,
        *,
        forget_bias: float | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        P = max(1, hidden_size // 2) if proj_size is None else proj_size
        super().__init__(input_size, hidden_size, h=P, c=hidden_size)
        self.forget_bias = forget_bias
        G = 4 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, P),
            bias_ih=(G,) if bias else None,
            bias_hh=(G,) if bias else None,
            weight_hr=(P, hidden_size),
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh, self.bias_hh)
        a_i, a_f, a_g, a_o = gates.chunk(4, dim=-1)
        i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()
        c = f * c + i * g
        return F.linear(o * c.tanh(), self.weight_hr), c
