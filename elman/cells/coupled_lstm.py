"""The LSTM with one gate for keeping and writing."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class CoupledLSTM(StackedCell):
    """An LSTM that writes exactly as much as it forgets (CIFG).

        f = sigmoid(W_f x + U_f h + b_f)
        g = tanh(W_g x + U_g h + b_g)
        o = sigmoid(W_o x + U_o h + b_o)
        c' = f * c + (1 - f) * g
        h' = o * tanh(c')

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    W: weight_ih [3H, I]   U: weight_hh [3H, H]   b: bias_ih [3H]   gates f g o
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Greff et al. 2017, LSTM: A Search Space Odyssey, variant CIFG, written with the
    forget gate (their f = 1 - i).
    """

    gates = ("f", "g", "o")
    keeps = {"f": 1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget_bias: float | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(input_size, hidden_size, h=hidden_size, c=hidden_size)
        self.forget_bias = forget_bias
        G = 3 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_ih=(G,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh)
        a_f, a_g, a_o = gates.chunk(3, dim=-1)
        f, g, o = a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()
        c = f * c + (1 - f) * g
        return o * c.tanh(), c
