"""The cell that was found by search."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class NAS(StackedCell):
    """The cell that neural architecture search found for language modelling.

        a_k = W_k x,  b_k = U_k h + c_k                    k = 1 ... 8
        p_1 = sigmoid(a_1 + b_1)    p_2 = relu(a_2 + b_2)
        p_3 = sigmoid(a_3 + b_3)    p_4 = relu(a_4 * b_4)
        p_5 = tanh(a_5 + b_5)       p_6 = sigmoid(a_6 + b_6)
        p_7 = tanh(a_7 + b_7)       p_8 = sigmoid(a_8 + b_8)
        q_1 = tanh(tanh(p_1 * p_2) + c)     q_2 = tanh(p_3 + p_4)
        q_3 = tanh(p_5 * p_6)               q_4 = sigmoid(p_7 + p_8)
        c' = q_1 * q_2
        h' = tanh(c' * tanh(q_3 + q_4))

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    W: weight_ih [8H, I]   U: weight_hh [8H, H]   c_k: bias_hh [8H]

    Source: Zoph & Le 2017, Neural Architecture Search with Reinforcement Learning, the cell of
    the appendix as TensorFlow's NASCell computes it.
    """

    gates = ("p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8")

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, **setup: Unpack[Setup]
    ) -> None:
        super().__init__(input_size, hidden_size, h=hidden_size, c=hidden_size)
        G = 8 * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(G, hidden_size),
            bias_hh=(G,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a = F.linear(x, self.weight_ih).chunk(8, dim=-1)
        b = F.linear(self.drop_state(h), self.weight_hh, self.bias_hh).chunk(8, dim=-1)
        p1, p2 = (a[0] + b[0]).sigmoid(), (a[1] + b[1]).relu()
        p3, p4 = (a[2] + b[2]).sigmoid(), (a[3] * b[3]).relu()
        p5, p6 = (a[4] + b[4]).tanh(), (a[5] + b[5]).sigmoid()
        p7, p8 = (a[6] + b[6]).tanh(), (a[7] + b[7]).sigmoid()
        q1, q2 = ((p1 * p2).tanh() + c).tanh(), (p3 + p4).tanh()
        q3, q4 = (p5 * p6).tanh(), (p7 + p8).sigmoid()
        c = q1 * q2
        return (c * (q3 + q4).tanh()).tanh(), c
