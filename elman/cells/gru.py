"""The gated recurrent unit, in all four conventions."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell
from elman.errors import unknown


class GRU(StackedCell):
    """The gated recurrent unit.

        r = sigmoid(W_r x + b_r + U_r h + c_r)
        z = sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r * (U_n h + c_n))      reset_after=True (cuDNN, torch)
        n = tanh(W_n x + b_n + U_n (r * h) + c_n)      reset_after=False (Cho 2014)
        h' = z * h + (1 - z) * n                       update="keep" (torch, Cho 2014)
        h' = (1 - z) * h + z * n                       update="replace" (Chung 2014)

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [3H, I]   U: weight_hh [3H, H]   b, c: bias_ih, bias_hh [3H]   gates r z n

    Source: Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder, eqs. 5-8;
    Chung et al. 2014, Empirical Evaluation of Gated Recurrent Neural Networks.
    """

    gates = ("r", "z", "n")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        update: str = "keep",
        **setup: Unpack[Setup],
    ) -> None:
        if update not in ("keep", "replace"):
            raise unknown("update", update, ("keep", "replace"))
        super().__init__(input_size, hidden_size)
        self.reset_after = reset_after
        self.update = update
        self.keeps = {"z": 1 if update == "keep" else -1}
        G = 3 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_ih=(G,) if bias else None,
            bias_hh=(G,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n = self._reset_after(x, h) if self.reset_after else self._reset_before(x, h)
        return z * h + (1 - z) * n if self.update == "keep" else (1 - z) * h + z * n

    def _reset_after(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        x_r, x_z, x_n = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        h_r, h_z, h_n = F.linear(self.drop_state(h), self.weight_hh, self.bias_hh).chunk(3, dim=-1)
        r = (x_r + h_r).sigmoid()
        return (x_z + h_z).sigmoid(), (x_n + r * h_n).tanh()

    def _reset_before(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        H = self.hidden_size
        kept = self.drop_state(h)
        U_rz, U_n = self.weight_hh[: 2 * H], self.weight_hh[2 * H :]
        c_rz, c_n = None, None
        if self.bias_hh is not None:
            c_rz, c_n = self.bias_hh[: 2 * H], self.bias_hh[2 * H :]
        x_r, x_z, x_n = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        h_r, h_z = F.linear(kept, U_rz, c_rz).chunk(2, dim=-1)
        r = (x_r + h_r).sigmoid()
        return (x_z + h_z).sigmoid(), (x_n + F.linear(r * kept, U_n, c_n)).tanh()
