"""Long short-term memory."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class LSTM(StackedCell):
    """Long short-term memory: a gated sum carries the past.

        i = sigmoid(W_i x + U_i h + b_i)
        f = sigmoid(W_f x + U_f h + b_f)
        g = tanh(W_g x + U_g h + b_g)
        o = sigmoid(W_o x + U_o h + b_o)
        c' = f * c + i * g
        h' = o * tanh(c')

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    W: weight_ih [4H, I]   U: weight_hh [4H, H]   b: bias_ih + bias_hh [4H]   gates i f g o
    bias=False: the bias-free form, gates = [U W] [h, x].
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Hochreiter & Schmidhuber 1997, Long Short-Term Memory; the forget gate: Gers,
    Schmidhuber & Cummins 2000, Learning to Forget. Gate order and biases as in torch.nn.LSTM.
    """

    gates = ("i", "f", "g", "o")
    keeps = {"f": 1, "i": -1}

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
        G = 4 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_ih=(G,) if bias else None,
            bias_hh=(G,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh, self.bias_hh)
        a_i, a_f, a_g, a_o = gates.chunk(4, dim=-1)
        i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()
        c = f * c + i * g
        return o * c.tanh(), c
