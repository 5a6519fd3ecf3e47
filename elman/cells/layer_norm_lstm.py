"""The LSTM with normalised sums."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class LayerNormLSTM(StackedCell):
    """An LSTM with layer normalisation of both products and of the cell state.

        [i f g o] = LN(W x; a_x) + LN(U h; a_h) + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(LN(c'; a_c, b_c))
        LN(z; a, b) = a * (z - mean(z)) / sqrt(var(z) + eps) + b

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    W: weight_ih [4H, I]   U: weight_hh [4H, H]   b: bias_ih [4H], the two shifts of the source
    in one   a_x, a_h: gain_ih, gain_hh [4H]   a_c, b_c: gain_c, bias_c [H]   eps = 1e-5
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Ba, Kiros & Hinton 2016, Layer Normalization, eqs. 20-22.
    """

    gates = ("i", "f", "g", "o")
    keeps = {"f": 1, "i": -1}
    gain_ih: Tensor
    gain_hh: Tensor
    gain_c: Tensor
    bias_c: Tensor | None

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
            gain_ih=(G,),
            gain_hh=(G,),
            gain_c=(hidden_size,),
            bias_c=(hidden_size,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        H = self.hidden_size
        gates = F.layer_norm(F.linear(x, self.weight_ih), (4 * H,), self.gain_ih, self.bias_ih)
        recurrent = F.linear(self.drop_state(h), self.weight_hh)
        gates = gates + F.layer_norm(recurrent, (4 * H,), self.gain_hh)
        a_i, a_f, a_g, a_o = gates.chunk(4, dim=-1)
        i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()
        c = f * c + i * g
        return o * F.layer_norm(c, (H,), self.gain_c, self.bias_c).tanh(), c
