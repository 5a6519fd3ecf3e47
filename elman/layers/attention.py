"""Attention: at each step a weighted mean of the vectors of another sequence."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.backends.sequence import SequenceInfo
from elman.errors import OptionError, ShapeError, require_positive, unknown
from elman.layers.layer import checked_lengths

KINDS = ("additive", "dot", "general")


class Memory(NamedTuple):
    """What attention looks at, prepared once for all steps; the batch is on axis 0 of each.

    values: [B, S, M], 0 past the end of each sequence. keys: [B, S, K], what a query is compared
    with. padding: [B, S] bool, what lies past the end.
    """

    values: Tensor
    keys: Tensor
    padding: Tensor


class Attention(nn.Module):
    """Where to look in a sequence, as a query asks for.

        e_ts = v^T tanh(W q_t + U m_s)        kind="additive"
        e_ts = q_t^T m_s                      kind="dot"
        e_ts = q_t^T (U m_s)                  kind="general"
        a_ts = exp(e_ts) / sum_s' exp(e_ts')  over the valid s, 0 for all others
        c_t  = sum_s a_ts m_s

    query: [T, B, Q], or [B, Q] for one step   memory: [S, B, M]   lengths: [B], 0 ... S
      ->   c (context): [T, B, M], a (weights): [T, B, S]; [B, M], [B, S] for one step
    W: query.weight [A, Q]   U: key.weight [A, M], [Q, M] where general   v: score [A]
    attention_size: A, of the additive kind alone; Q where not given.

    A sequence of length 0 gives context 0 and weights 0. What stands in the padding, NaN too,
    changes nothing. The additive kind keeps T*B*S*A numbers for the backward pass.

    Raises OptionError where kind="dot" and Q is not M, and ShapeError.

    Sources: Bahdanau, Cho & Bengio 2015, Neural Machine Translation by Jointly Learning to Align
    and Translate, appendix A.1.2 (additive); Luong, Pham & Manning 2015, Effective Approaches to
    Attention-based Neural Machine Translation, eq. 8 (dot, general).
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        kind: str = "additive",
        *,
        attention_size: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise unknown("kind of attention", kind, KINDS)
        if attention_size is not None and kind != "additive":
            raise OptionError(f"attention_size is of kind='additive' alone, got kind={kind!r}")
        if kind == "dot" and query_size != memory_size:
            raise OptionError(
                f"kind='dot': queries ({query_size}) and memory ({memory_size}) must have one "
                "size; use kind='general'"
            )
        size = query_size if attention_size is None else attention_size
        require_positive(query_size=query_size, memory_size=memory_size, attention_size=size)
        self.query_size, self.memory_size, self.kind = query_size, memory_size, kind
        additive = kind == "additive"
        self.query = nn.Linear(query_size, size, bias=False) if additive else None
        self.key = None if kind == "dot" else nn.Linear(memory_size, size, bias=False)
        self.score = nn.Parameter(torch.empty(size)) if additive else None
        if self.score is not None:
            nn.init.uniform_(self.score, -1 / math.sqrt(size), 1 / math.sqrt(size))

    def forward(
        self, query: Tensor, memory: Tensor, lengths: Tensor | list[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context and weights, of all steps or of one."""
        return self.attend(query, self.prepare(memory, lengths))

    def prepare(self, memory: Tensor, lengths: Tensor | list[int] | None = None) -> Memory:
        """What does not depend on the query. memory: [S, B, M]   lengths: [B]; None: all S."""
        if memory.dim() != 3 or memory.shape[-1] != self.memory_size:
            raise ShapeError(
                f"Attention: memory must be [S, B, M] with M = {self.memory_size}, got "
                f"{list(memory.shape)}"
            )
        valid = _valid(memory, lengths)
        values = torch.where(valid, memory, 0.0).transpose(0, 1).contiguous()
        keys = values if self.key is None else self.key(values)
        return Memory(values, keys, ~valid[..., 0].T)

    def attend(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """`forward` with a memory that is prepared: what a loop over steps calls."""
        B = len(memory.values)
        if query.dim() not in (2, 3) or query.shape[-2:] != (B, self.query_size):
            raise ShapeError(
                f"Attention: query must be [T, B, Q] or [B, Q] with B, Q = {B}, "
                f"{self.query_size}, got {list(query.shape)}"
            )
        if query.dim() == 2:
            context, weights = self.attend(query[None], memory)
            return context[0], weights[0]
        scores = self._scores(query.transpose(0, 1), memory.keys)
        # The least number, not -inf: where all is padding the softmax must not become NaN.
        padding = memory.padding[:, None]
        scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1).masked_fill(padding, 0.0)
        context = weights @ memory.values
        return context.transpose(0, 1), weights.transpose(0, 1)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """query: [B, T, Q]   keys: [B, S, K]   ->   e: [B, T, S]"""
        if self.query is None or self.score is None:
            return query @ keys.transpose(1, 2)
        return (self.query(query)[:, :, None] + keys[:, None]).tanh_() @ self.score

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.memory_size}, kind={self.kind!r}"


def _valid(memory: Tensor, lengths: Tensor | list[int] | None) -> Tensor:
    """[S, B, 1] bool: which vectors are inside their sequence."""
    S, B = memory.shape[:2]
    if lengths is None:
        return memory.new_ones(S, B, 1, dtype=torch.bool)
    valid = SequenceInfo(checked_lengths(lengths, S, B, memory.device)).valid(S)
    assert valid is not None
    return valid
