"""Cells such as a user writes, in plain PyTorch: nothing in elman knows them."""

import torch
from torch import Tensor, nn

from elman.cells import Cell


class TracedMGU(Cell):
    """A minimal gated unit whose gate sees a slow trace of the past.

        a = sigmoid(w_a)
        m' = a * m + (1 - a) * h
        f = sigmoid(W_f x + U_f h + p * m')
        n = tanh(W_n x + U_n (f * h))
        h' = (1 - f) * h + f * n

    x: [..., I]   h, m: [..., H]   ->   h', m': [..., H]
    """

    recurrent_weights = ("U_f.weight", "U_n.weight")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, h=hidden_size, m=hidden_size)
        self.W = nn.Linear(input_size, 2 * hidden_size)
        self.U_f = nn.Linear(hidden_size, hidden_size, bias=False)
        self.U_n = nn.Linear(hidden_size, hidden_size, bias=False)
        self.decay = nn.Parameter(torch.full((hidden_size,), 2.0))
        self.peephole = nn.Parameter(torch.empty(hidden_size).uniform_(-0.1, 0.1))

    def step(self, x: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        kept = self.drop_state(h)
        a = torch.sigmoid(self.decay)
        m = a * m + (1 - a) * h
        x_f, x_n = self.W(x).chunk(2, dim=-1)
        f = torch.sigmoid(x_f + self.U_f(kept) + self.peephole * m)
        n = torch.tanh(x_n + self.U_n(f * kept))
        return (1 - f) * h + f * n, m


class SiluLSTM(Cell):
    """An LSTM with another candidate: the same products as the LSTM, another equation.

        [i f g o] = W x + U h + b
        c' = sigmoid(f) * c + sigmoid(i) * silu(g)
        h' = sigmoid(o) * tanh(c')

    x: [..., I]   h, c: [..., H]   ->   h', c': [..., H]
    """

    recurrent_weights = ("U.weight",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, h=hidden_size, c=hidden_size)
        self.W = nn.Linear(input_size, 4 * hidden_size)
        self.U = nn.Linear(hidden_size, 4 * hidden_size, bias=False)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.W(x) + self.U(self.drop_state(h))).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * nn.functional.silu(g)
        return torch.sigmoid(o) * torch.tanh(c), c
