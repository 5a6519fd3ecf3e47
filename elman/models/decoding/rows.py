"""The sequences that are being written at one time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.errors import ShapeError
from elman.layers.layer import map_state

#: state, rows [M] -> the state of these rows, in this order; a row may come more than once
Select = Callable[[Any, Tensor], Any]


def select_rows(state: Any, rows: Tensor) -> Any:
    """These rows of a nest of tuples of tensors whose first axis is the batch."""
    return map_state(lambda part: part.index_select(0, rows), state)


@dataclass(frozen=True)
class Rows:
    """Sequences of any sentences, by sentence.

    sentences: [N], whose each is; log_probability: [N]; places: [N], where the trail has the last
    token: these on the CPU. last: [N], that token; history: [N, t], all of them, where kept;
    coverage: [N, S], the attention to each source position so far, where there is any.
    """

    sentences: Tensor
    log_probability: Tensor
    places: Tensor
    last: Tensor
    history: Tensor | None
    coverage: Tensor | None = None

    @classmethod
    def of(cls, sentences: Tensor, last: Tensor, keep_history: bool) -> "Rows":
        """Rows in which nothing is written yet."""
        return cls(
            sentences,
            torch.zeros(len(sentences), dtype=torch.float64),
            torch.arange(len(sentences)),
            last,
            last.new_zeros(len(last), 0) if keep_history else None,
        )

    def __len__(self) -> int:
        return len(self.sentences)

    def select(self, rows: Tensor) -> "Rows":
        """These rows, in this order."""
        there = rows.to(self.last.device)
        return Rows(
            self.sentences[rows],
            self.log_probability[rows],
            self.places[rows],
            self.last[there],
            None if self.history is None else self.history[there],
            None if self.coverage is None else self.coverage[there],
        )

    def with_written(self, tokens: Tensor, log_p: Tensor, attention: Tensor | None) -> "Rows":
        """Each row with one token more; attention: [N, S], paid when it was written."""
        last = tokens.to(self.last.device)
        history, coverage = self.history, self.coverage
        if history is not None:
            history = torch.cat((history, last[:, None]), dim=1)
        if attention is not None:
            coverage = attention.double() if coverage is None else coverage + attention
        return Rows(
            self.sentences,
            self.log_probability + log_p,
            torch.arange(len(self)),
            last,
            history,
            coverage,
        )


def first_tokens(start: int | Tensor, batch_size: int, state: Any) -> Tensor:
    """[B]: the token before the first of each sentence."""
    if not isinstance(start, Tensor):
        return torch.full((batch_size,), start, device=_device_of(state))
    if start.shape != (batch_size,) or start.dtype not in (torch.int64, torch.int32):
        raise ShapeError(
            f"start must be one id or whole numbers [B] with B={batch_size}, got {start.dtype} "
            f"{list(start.shape)}"
        )
    return start.long()


def _device_of(state: Any) -> torch.device:
    """The device of a state's first tensor; the CPU where there is none."""
    while not isinstance(state, Tensor):
        state = next((part for part in state or () if part is not None), None)
        if state is None:
            return torch.device("cpu")
    return state.device
