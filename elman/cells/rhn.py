"""The recurrent highway network."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell
from elman.errors import require_positive


class RHN(StackedCell):
    """The recurrent highway network: each step is itself a highway network of depth d.

        s_0 = h
        n_l = tanh(W_n x [l = 1] + U_n,l s_{l-1} + b_n,l)
        t_l = sigmoid(W_t x [l = 1] + U_t,l s_{l-1} + b_t,l)
        k_l = sigmoid(W_k x [l = 1] + U_k,l s_{l-1} + b_k,l)      coupled=True: k_l = 1 - t_l
        s_l = n_l * t_l + s_{l-1} * k_l                           l = 1 ... d
        h' = s_d

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [G*H, I]   U: weight_hh [d, G*H, H]   b: bias_hh [d, G*H]   gates n t (k)
    State dropout masks h before every product, with one mask for all depths.

    Source: Zilly et al. 2017, Recurrent Highway Networks, eqs. 6-9 (their h_l is n_l, c_l is k_l).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int = 2,
        bias: bool = True,
        *,
        coupled: bool = True,
        **setup: Unpack[Setup],
    ) -> None:
        require_positive(depth=depth)
        super().__init__(input_size, hidden_size)
        self.depth = depth
        self.coupled = coupled
        self.gates = ("n", "t") if coupled else ("n", "t", "k")
        G = len(self.gates) * hidden_size
        self.build(
            setup,
            weight_ih=(G, input_size),
            weight_hh=(depth, G, hidden_size),
            bias_hh=(depth, G) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        biases = (None,) * self.depth if self.bias_hh is None else self.bias_hh.unbind()
        for depth, (U, b) in enumerate(zip(self.weight_hh.unbind(), biases, strict=True)):
            gates = F.linear(self.drop_state(h), U, b)
            h = self._highway(gates + F.linear(x, self.weight_ih) if depth == 0 else gates, h)
        return h

    def _highway(self, gates: Tensor, h: Tensor) -> Tensor:
        a_n, a_t, *a_k = gates.chunk(len(self.gates), dim=-1)
        n, t = a_n.tanh(), a_t.sigmoid()
        k = a_k[0].sigmoid() if a_k else 1 - t
        return n * t + h * k
