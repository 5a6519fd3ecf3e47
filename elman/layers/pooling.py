"""One vector for a whole sequence of them."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.backends.sequence import SequenceInfo
from elman.errors import OptionError, ShapeError, require_positive, unknown
from elman.layers.bidirectional import Bidirectional
from elman.layers.layer import Layer, checked_lengths
from elman.layers.stack import Stack

KINDS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """The outputs of a layer at the n valid steps of a sequence, as one vector.

        y = [u_n of what reads forwards, u_1 of what reads backwards]     kind="last"
        y = 1/n sum_t u_t                                                 kind="mean"
        y = max_t u_t, feature by feature                                 kind="max"
        y = sum_t a_t u_t,   a = softmax_t(v^T tanh(W u_t))               kind="attention"

    x: [T, B, size]   lengths: [B], 0 ... T, in any order, None where all are T   ->   [B, size]
    forward_size: for "last", how many features come first and from a layer that reads forwards;
        those after them come from one that reads backwards. size where not given; `of` finds it.

    A sequence of length 0 gives 0. What stands in the padding, NaN too, changes nothing.
    Raises OptionError, ShapeError.

    Source of "attention": Yang et al. 2016, Hierarchical Attention Networks for Document
    Classification, eq. 5-7, without bias.
    """

    def __init__(self, size: int, kind: str = "last", *, forward_size: int | None = None) -> None:
        super().__init__()
        require_positive(size=size)
        if kind not in KINDS:
            raise unknown("kind of pooling", kind, KINDS)
        forward_size = size if forward_size is None else forward_size
        if not 0 <= forward_size <= size:
            raise OptionError(f"forward_size must lie in 0 ... size = {size}, got {forward_size}")
        self.size, self.kind, self.forward_size = size, kind, forward_size
        attends = kind == "attention"
        self.key = nn.Linear(size, size, bias=False) if attends else None
        self.score = nn.Linear(size, 1, bias=False) if attends else None

    @classmethod
    def of(cls, layer: Layer, kind: str = "last") -> "Pooling":
        """The pooling of this layer's outputs.

        Raises OptionError for "last" of directions that were summed: no step has seen everything.
        """
        ahead = forward_size_of(layer) if kind == "last" else None
        return cls(layer.output_size, kind, forward_size=ahead)

    def forward(self, x: Tensor, lengths: Tensor | list[int] | None = None) -> Tensor:
        """x: [T, B, size] -> [B, size]."""
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ShapeError(f"Pooling: x must be [T, B, {self.size}], got {list(x.shape)}")
        T, B, _ = x.shape
        if not T and self.kind != "attention":
            return x.sum(dim=0)
        full = lengths is None
        counts = checked_lengths([T] * B if full else lengths, T, B, x.device)
        sequence = SequenceInfo(None if full else counts)
        if self.kind == "last":
            return self._last(x, counts)
        if self.kind == "mean":
            return sequence.mask(x).sum(dim=0) / counts.clamp(min=1)[:, None]
        return self._max(x, sequence) if self.kind == "max" else self._attended(x, sequence)

    def _last(self, x: Tensor, lengths: Tensor) -> Tensor:
        ahead, back = x[..., : self.forward_size], x[0, :, self.forward_size :]
        last = (lengths - 1).clamp(min=0)[None, :, None].expand(1, -1, self.forward_size)
        ends = torch.cat((ahead.gather(0, last)[0], back), dim=-1)
        return torch.where((lengths > 0)[:, None], ends, x.new_zeros(()))

    def _max(self, x: Tensor, sequence: SequenceInfo) -> Tensor:
        valid = sequence.valid(len(x))
        if valid is None:
            return x.amax(dim=0)
        largest = x.masked_fill(~valid, -torch.inf).amax(dim=0)
        return torch.where(valid[0], largest, x.new_zeros(()))

    def _attended(self, x: Tensor, sequence: SequenceInfo) -> Tensor:
        assert self.key is not None and self.score is not None
        x, valid = sequence.mask(x), sequence.valid(len(x))
        scores = self.score(torch.tanh(self.key(x)))
        if valid is not None:
            # Not -inf: a sequence without a step would have a gradient of NaN.
            scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        return (scores.softmax(dim=0) * x).sum(dim=0)

    def running(self) -> "RunningPooling":
        """The pooling of a sequence while it comes; OptionError where a part reads backwards."""
        return RunningPooling(self)

    def extra_repr(self) -> str:
        return f"{self.size}, kind={self.kind!r}"


class RunningPooling:
    """The pooling of all steps so far: ``y_t = running(u_t)``, made by `Pooling.running`.

        y_t = pooling(u_1 ... u_t)

    u_t: [B, size]   ->   y_t: [B, size]
    """

    def __init__(self, pooling: Pooling) -> None:
        if pooling.kind == "last" and pooling.forward_size < pooling.size:
            raise OptionError("pooling 'last': what reads backwards needs the whole sequence")
        self.pooling = pooling
        self.count = 0
        # The sum of what there was, by its weights, and their sum: as logarithms, for attention.
        self.total: Tensor | None = None
        self.log_weight: Tensor | None = None

    def __call__(self, u: Tensor) -> Tensor:
        kind, before = self.pooling.kind, self.total
        self.count += 1
        if kind == "last":
            return u
        if kind == "attention":
            return self._attended(u)
        if kind == "max":
            self.total = u if before is None else torch.maximum(before, u)
            return self.total
        self.total = u if before is None else before + u
        return self.total / self.count

    def _attended(self, u: Tensor) -> Tensor:
        key, score = self.pooling.key, self.pooling.score
        assert key is not None and score is not None
        weight = score(torch.tanh(key(u)))
        if self.total is None or self.log_weight is None:
            self.total, self.log_weight = u, weight
            return u
        together = torch.logaddexp(self.log_weight, weight)
        kept, new = (self.log_weight - together).exp(), (weight - together).exp()
        self.total, self.log_weight = kept * self.total + new * u, together
        return self.total


def forward_size_of(layer: Any) -> int:
    """How many of a layer's output features come first and from a layer that reads forwards.

    Raises OptionError where one feature is of both directions.
    """
    if isinstance(layer, Stack):
        return forward_size_of(layer.layers[-1])
    if isinstance(layer, Bidirectional):
        if layer.merge != "concat":
            raise OptionError(
                "pooling 'last': the directions are summed, and at no step have both seen the "
                "whole sequence; use merge='concat', or 'mean', 'max' or 'attention'"
            )
        return layer.forward_layer.output_size
    return 0 if layer.reverse else int(layer.output_size)
