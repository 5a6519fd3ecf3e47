"""The simple recurrent unit."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class SRU(StackedCell):
    """The simple recurrent unit: products of the input only, and a highway around the cell.

        n = W_n x
        f = sigmoid(W_f x + v_f * c + b_f)
        r = sigmoid(W_r x + v_r * c + b_r)
        c' = f * c + (1 - f) * n
        h' = r * c' + (1 - r) * p        p = x, or W_p x where I != H

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]   (h is an output only)
    W: weight_ih [3H, I], or [4H, I] where I != H   gates n f r (p)
    v: weight_c [2H], f r   b: bias_ih [2H], f r
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Lei et al. 2018, Simple Recurrent Units for Highly Parallelizable Recurrence,
    eqs. 1-4, without the constant that scales x at initialisation.
    """

    gates = ("f", "r")
    keeps = {"f": 1}
    recurrent_weights = ()
    weight_c: Tensor

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
        H = hidden_size
        self.build(
            setup,
            weight_ih=((3 if input_size == H else 4) * H, input_size),
            weight_c=(2 * H,),
            bias_ih=(2 * H,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        H = self.hidden_size
        products = F.linear(x, self.weight_ih)
        n, gates, p = products[..., :H], products[..., H : 3 * H], products[..., 3 * H :]
        v_f, v_r = self.weight_c.chunk(2)
        a_f, a_r = (gates if self.bias_ih is None else gates + self.bias_ih).chunk(2, dim=-1)
        f, r = (a_f + v_f * c).sigmoid(), (a_r + v_r * c).sigmoid()
        c = f * c + (1 - f) * n
        return r * c + (1 - r) * (x if self.input_size == H else p), c
