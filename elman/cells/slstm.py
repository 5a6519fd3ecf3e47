"""The LSTM with exponential gates."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell
from elman.errors import unknown


class SLSTM(StackedCell):
    """The scalar LSTM of xLSTM: exponential gates, a normaliser n and a stabiliser m.

        i~, f~, z~, o~ = W x + U h + b
        log f = logsigmoid(f~)          forget="sigmoid"      or  f~, forget="exp"
        m' = max(log f + m, i~)         and i~ while n = 0, before the first step
        i = exp(i~ - m')                f = exp(log f + m - m')
        c' = f * c + i * tanh(z~)
        n' = f * n + i
        h' = sigmoid(o~) * c' / n'

    x: [..., I]   h, c, n, m: [..., H]   ->   h', c', n', m': [..., H]
    W: weight_ih [4H, I]   U: weight_hh [4H, H] (one head)   b: bias_ih [4H]   gates i f z o
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Beck et al. 2024, xLSTM: Extended Long Short-Term Memory, eqs. 8-17.
    """

    gates = ("i", "f", "z", "o")
    keeps = {"f": 1, "i": -1}
    zoneout_parts = ("h",)  # c and n are scaled by exp(-m): they mean nothing without their m

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget: str = "sigmoid",
        forget_bias: float | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        if forget not in ("sigmoid", "exp"):
            raise unknown("forget", forget, ("sigmoid", "exp"))
        H = hidden_size
        super().__init__(input_size, hidden_size, h=H, c=H, n=H, m=H)
        self.forget = forget
        self.forget_bias = forget_bias
        G = 4 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_ih=(G,) if bias else None,
        )

    def step(
        self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + F.linear(self.drop_state(h), self.weight_hh)
        a_i, a_f, a_z, a_o = gates.chunk(4, dim=-1)
        kept = m + (F.logsigmoid(a_f) if self.forget == "sigmoid" else a_f)
        kept = torch.where(n == 0, a_i, kept)  # nothing is kept yet: m' = i~, whatever f~ is
        m = torch.maximum(kept, a_i)
        i, f, z, o = (a_i - m).exp(), (kept - m).exp(), a_z.tanh(), a_o.sigmoid()
        c = f * c + i * z
        n = f * n + i
        return o * c / n, c, n, m
