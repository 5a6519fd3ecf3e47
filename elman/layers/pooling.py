"""From the outputs at all steps to one vector."""

import torch
from torch import Tensor, nn

from elman.errors import ShapeError, require_positive, unknown

POOLINGS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """One vector for a sequence, of its valid steps alone.

        last        u_{n-1}; of a bidirectional layer [forward_{n-1}, backward_0]
        mean        sum_t u_t / n
        max         max_t u_t, for each unit
        attention   sum_t a_t u_t,   a = softmax_t(v^T tanh(W u_t + b))

    x: [T, B, O], lengths: [B] or None for all steps   ->   [B, O]; 0 for a sequence of length 0
    size: O. kind: one of the four. both_ways: whether the first half of x was read forwards and
    the second backwards, so that "last" is where each has seen everything.

    Raises OptionError, ShapeError. Source: for attention Yang et al. 2016, eq. 5-7.
    """

    def __init__(self, size: int, kind: str = "last", *, both_ways: bool = False) -> None:
        super().__init__()
        require_positive(size=size)
        if kind not in POOLINGS:
            raise unknown("pooling", kind, POOLINGS)
        self.size = size
        self.kind = kind
        self.both_ways = both_ways
        if kind == "attention":
            self.look = nn.Linear(size, size)
            self.score = nn.Linear(size, 1, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ShapeError(f"Pooling: x must be [T, B, {self.size}], got {list(x.shape)}")
        if lengths is None:
            lengths = torch.full((x.shape[1],), len(x), device=x.device)
        if not len(x):
            return x.new_zeros(x.shape[1:])
        valid = (torch.arange(len(x), device=x.device)[:, None] < lengths)[..., None]
        # Not a product: padding may hold what times 0 is no number.
        x = torch.where(valid, x, x.new_zeros(()))
        pooled = getattr(self, f"_{self.kind}")(x, lengths, valid)
        return torch.where((lengths > 0)[:, None], pooled, pooled.new_zeros(()))

    def _last(self, x: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        end = x[(lengths - 1).clamp(min=0), torch.arange(x.shape[1], device=x.device)]
        if not self.both_ways:
            return end
        half = self.size // 2
        return torch.cat((end[:, :half], x[0, :, half:]), dim=-1)

    def _mean(self, x: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        return x.sum(0) / lengths.clamp(min=1)[:, None]

    def _max(self, x: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        lowest = torch.finfo(x.dtype).min
        return torch.where(valid, x, lowest).amax(0)

    def _attention(self, x: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.look(x)))
        scores = torch.where(valid, scores, torch.finfo(x.dtype).min)
        return (scores.softmax(0) * x).sum(0)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.kind!r}" + (", both_ways=True" if self.both_ways else "")
