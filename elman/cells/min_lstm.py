"""The LSTM whose gates see only the input."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from elman.cells.stacked import Setup, StackedCell


class MinLSTM(StackedCell):
    """An LSTM without a cell state whose gates, scaled to sum to one, see only the input.

        f = sigmoid(W_f x + b_f)
        i = sigmoid(W_i x + b_i)
        n = W_n x + b_n
        h' = f / (f + i) * h + i / (f + i) * n

    x: [..., I]   h: [..., H]   ->   h': [..., H]
    W: weight_ih [3H, I]   b: bias_ih [3H]   gates f i n
    forget_bias: the first value of b_f; None leaves it to ``init`` (1, or torch's draw).

    Source: Feng et al. 2024, Were RNNs All We Needed?, section 3.2 (the plain form).
    """

    gates = ("f", "i", "n")
    keeps = {"f": 1, "i": -1}
    recurrent_weights = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget_bias: float | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.forget_bias = forget_bias
        G = 3 * hidden_size
        self.build(setup, weight_ih=(G, input_size), bias_ih=(G,) if bias else None)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        a_f, a_i, n = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        f, i = a_f.sigmoid(), a_i.sigmoid()
        return (f * h + i * n) / (f + i)
