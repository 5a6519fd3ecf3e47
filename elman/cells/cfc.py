"""The closed-form continuous-time network."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell
from elman.errors import OptionError, require_positive


class CfC(StackedCell):
    """The closed-form continuous-time network, for samples at uneven times.

        z = 1.7159 tanh(0.666 (W x + U h + b))
        g = tanh(V_g z + c_g)       n = tanh(V_n z + c_n)
        s = sigmoid((V_a z + c_a) dt + V_t z + c_t)
        h' = (1 - s) * g + s * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    timed=True: the last of the I inputs is dt, the time since the last sample, and the weights
    see the others; else dt = 1.
    W: weight_ih [K, I]   U: weight_hh [K, H]   b: bias_ih [K]
    V: weight_head [4H, K]   c: bias_head [4H]   in the order g n a t
    backbone_size: K, H where not given.

    Source: Hasani et al. 2022, Closed-form Continuous-time Neural Networks, with the gate of the
    authors' reference implementation (ncps): an affine function of dt.
    """

    weight_head: Tensor
    bias_head: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        backbone_size: int | None = None,
        bias: bool = True,
        *,
        timed: bool = False,
        **setup: Unpack[Setup],
    ) -> None:
        if timed and input_size < 2:
            raise OptionError("timed=True takes dt from the last input: give 2 inputs or more")
        K = hidden_size if backbone_size is None else backbone_size
        require_positive(backbone_size=K)
        super().__init__(input_size, hidden_size)
        self.timed = timed
        self.build(
            setup,
            weight_ih=(K, input_size - timed),
            weight_hh=(K, hidden_size),
            bias_ih=(K,) if bias else None,
            weight_head=(4 * hidden_size, K),
            bias_head=(4 * hidden_size,) if bias else None,
        )

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        if self.timed:
            x, dt = x[..., :-1], x[..., -1:]
        z = F.linear(x, self.weight_ih, self.bias_ih)
        z = 1.7159 * torch.tanh(0.666 * (z + F.linear(self.drop_state(h), self.weight_hh)))
        a_g, a_n, a, t = F.linear(z, self.weight_head, self.bias_head).chunk(4, dim=-1)
        s = (a * dt + t if self.timed else a + t).sigmoid()
        g, n = a_g.tanh(), a_n.tanh()
        return (1 - s) * g + s * n
