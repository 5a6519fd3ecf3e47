"""The LSTM whose gates see the cell state."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class PeepholeLSTM(StackedCell):
    """An LSTM whose gates look at the cell state: i and f at the old one, o at the new one.

        i = sigmoid(W_i x + U_i h + p_i * c + b_i)
        f = sigmoid(W_f x + U_f h + p_f * c + b_f)
        g = tanh(W_g x + U_g h + b_g)
        c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)
        h' = o * tanh(c')

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    W: weight_ih [4H, I]   U: weight_hh [4H, H]   b: bias_ih [4H]   gates i f g o
    p: weight_peephole [3H], in the order i f o
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Gers & Schmidhuber 2000, Recurrent Nets that Time and Count; in this form Graves
    2013, Generating Sequences With Recurrent Neural Networks, eqs. 7-11.
    """

    gates = ("i", "f", "g", "o")
    keeps = {"f": 1, "i": -1}
    weight_peephole: Tensor

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
            weight_peephole=(3 * hidden_size,),
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh)
        a_i, a_f, a_g, a_o = gates.chunk(4, dim=-1)
        p_i, p_f, p_o = self.weight_peephole.chunk(3)
        i, f, g = (a_i + p_i * c).sigmoid(), (a_f + p_f * c).sigmoid(), a_g.tanh()
        c = f * c + i * g
        o = (a_o + p_o * c).sigmoid()
        return o * c.tanh(), c
