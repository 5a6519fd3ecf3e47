"""The gated network for microcontrollers."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from elman.cells.stacked import Setup, StackedCell


class FastGRNN(StackedCell):
    """A gated network whose gate and candidate share their matrices.

        z = sigmoid(W x + U h + b_z)
        n = tanh(W x + U h + b_n)
        h' = (zeta * (1 - z) + nu) * n + z * h

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [H, I]   U: weight_hh [H, H]   b: bias_ih [2H], z n
    zeta, nu: sigmoid of the scalars zeta [1], nu [1], which start at 1 and -4

    Source: Kusupati et al. 2018, FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized
    Gated Recurrent Neural Network, section 3.2 (full-rank form).
    """

    gates = ("z", "n")
    keeps = {"z": 1}
    zeta: Tensor
    nu: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, **setup: Unpack[Setup]
    ) -> None:
        super().__init__(input_size, hidden_size)
        H = hidden_size
        self.build(
            setup,
            weight_ih=(H, input_size),
            weight_hh=(H, H),
            bias_ih=(2 * H,) if bias else None,
            zeta=(1,),
            nu=(1,),
        )

    def _recommended(self, name: str, parameter: Tensor) -> None:
        if name in ("zeta", "nu"):
            nn.init.constant_(parameter, 1.0 if name == "zeta" else -4.0)
        else:
            super()._recommended(name, parameter)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        pre = F.linear(x, self.weight_ih) + F.linear(self.drop_state(h), self.weight_hh)
        b_z, b_n = (0.0, 0.0) if self.bias_ih is None else self.bias_ih.chunk(2)
        z, n = (pre + b_z).sigmoid(), (pre + b_n).tanh()
        return (self.zeta.sigmoid() * (1 - z) + self.nu.sigmoid()) * n + z * h
