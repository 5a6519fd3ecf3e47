"""Which tokens may be written next."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.errors import OptionError, ShapeError
from elman.models.decoding.options import Decoding


class Rules:
    """What may be written: forced tokens first, nothing excluded, no end too early, no repeats."""

    def __init__(
        self,
        decoding: Decoding,
        end: int | None,
        exclude: Sequence[int],
        prefix: Tensor | None,
        prefix_lengths: Tensor | Sequence[int] | None,
        batch_size: int,
    ) -> None:
        self.decoding = decoding
        self.end = end
        self.exclude = sorted(set(exclude))
        self.prefix, self.prefix_lengths = _checked_prefix(prefix, prefix_lengths, batch_size)
        longest = max(self.prefix_lengths.tolist(), default=0)
        if longest > decoding.max_length:
            raise OptionError(
                f"the prefix has {longest} tokens, but max_length is {decoding.max_length}"
            )
        if end is not None and end in self._forced_ids():
            raise OptionError(f"the prefix must not hold the end, {end}")

    def _forced_ids(self) -> list[int]:
        valid = torch.arange(len(self.prefix))[:, None] < self.prefix_lengths
        return self.prefix[valid].tolist()

    def check(self, vocab_size: int) -> None:
        """Raise OptionError for an id outside the vocabulary."""
        ends = [] if self.end is None else [self.end]
        for name, ids in (("end", ends), ("exclude", self.exclude), ("prefix", self._forced_ids())):
            for token in ids:
                if not 0 <= token < vocab_size:
                    raise OptionError(
                        f"{name}: {token} is outside the vocabulary, 0 ... {vocab_size - 1}"
                    )

    def apply(
        self, log_p: Tensor, written: int, sentences: Tensor, history: Tensor | None
    ) -> Tensor:
        """log_p: [N, V], with -inf (in place) for all that may not be written.

        written: tokens so far. sentences: [N], whose the rows are. history: [N, written], where
        repeats are forbidden.
        """
        rows = (written < self.prefix_lengths[sentences]).nonzero().flatten()
        forced = self.prefix[written, sentences[rows]] if len(rows) else rows
        rows, forced = rows.to(log_p.device), forced.to(log_p.device)
        spared = log_p[rows, forced]
        log_p[:, self.exclude] = -torch.inf
        if self.end is not None and written < self.decoding.min_length:
            log_p[:, self.end] = -torch.inf
        if history is not None:
            _forbid_repeats(log_p, history, self.decoding.no_repeat_ngram)
        log_p[rows] = -torch.inf
        log_p[rows, forced] = spared
        return log_p

    def describe(self, vocab_size: int) -> str:
        """What limits the sequences, for an error."""
        limits = f"a vocabulary of {vocab_size}, {len(self.exclude)} of it excluded"
        for name in ("max_length", "min_length", "no_repeat_ngram"):
            limits += f", {name} {getattr(self.decoding, name)}"
        return limits


def _forbid_repeats(log_p: Tensor, history: Tensor, n: int) -> None:
    """Rule out, in each row, what followed the last n - 1 tokens where they stood before."""
    if history.shape[1] < n:
        return
    windows = history.unfold(1, n, 1)
    latest = history[:, history.shape[1] - n + 1 :]
    rows, places = (windows[:, :, :-1] == latest[:, None]).all(dim=-1).nonzero(as_tuple=True)
    log_p[rows, windows[rows, places, -1]] = -torch.inf


def _checked_prefix(prefix: Tensor | None, lengths: Any, batch_size: int) -> tuple[Tensor, Tensor]:
    if prefix is None:
        if lengths is not None:
            raise OptionError("prefix_lengths is given, but no prefix")
        prefix = torch.zeros(0, batch_size, dtype=torch.long)
    if prefix.dim() != 2 or prefix.shape[1] != batch_size or prefix.dtype != torch.int64:
        raise ShapeError(
            f"prefix must be int64 [P, B] with B={batch_size}, got {prefix.dtype} "
            f"{list(prefix.shape)}"
        )
    given = len(prefix)
    lengths = torch.as_tensor([given] * batch_size if lengths is None else lengths).cpu()
    if lengths.shape != (batch_size,) or ((lengths < 0) | (lengths > given)).any():
        raise ShapeError(
            f"prefix_lengths must be {batch_size} numbers in 0 ... {given}, got {lengths.tolist()}"
        )
    return prefix.cpu(), lengths
