"""How a batch of sequences lies in memory while a loop runs over it.

The valid steps of all sequences stand one after the other as *rows*, time first: at each step the
sequences still running, the longest first. Padding has no row. So a loop over a ragged batch is a
loop over fewer rows a step, and what is computed for all t at once sees valid steps alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.gradients import transforming
from elman.backends.sequence import SequenceInfo
from elman.compiler.trace.untraced import untraced

#: Flags of a row: the state before it is the cell's initial state; no gradient flows out of it.
CUT, STOP = 1, 2


@dataclass(frozen=True, eq=False)
class RaggedLayout:
    """The rows, in the order in which the loop meets them.

    starts: [steps] int64, the first row of each step, in loop order; counts: [steps]
        int64, how many rows it has: the first ``counts`` sequences of the sorted batch.
    flags: [rows] uint8 of CUT and STOP, or None where no row has one.
    order: [B], which sequence of the batch is first, second, ... in the rows; None: as they came.
    source: [rows], where in [T * B] each row comes from; None: the rows are [T * B] itself.
    """

    steps: int
    batch: int
    rows: int
    reverse: bool
    starts: Tensor
    counts: Tensor
    flags: Tensor | None = None
    order: Tensor | None = None
    source: Tensor | None = None

    @cached_property
    def schedule(self) -> list[tuple[int, int]]:
        """(first row, how many) of each step, in loop order."""
        return list(zip(self.starts.tolist(), self.counts.tolist(), strict=True))

    @cached_property
    def row_flags(self) -> Tensor:
        """[rows] uint8: the flags, zeros where there are none."""
        if self.flags is not None:
            return self.flags
        return torch.zeros(self.rows, dtype=torch.uint8, device="cpu")

    @cached_property
    def lengths(self) -> Tensor:
        """[B] int64: how many steps each sequence has, in the order of the rows."""
        return (_range(self.batch)[:, None] < self.counts).sum(1)

    @cached_property
    def cut(self) -> Tensor | None:
        """The rows that begin from the initial state of the cell, in order."""
        return None if self.flags is None else (self.flags & CUT).nonzero()[:, 0]

    @cached_property
    def final(self) -> Tensor:
        """[B]: the row of each sequence's last step in loop order; -1 where it has none."""
        return self._at_last(self.starts[self._last])

    @cached_property
    def final_in_turn(self) -> Tensor:
        """[B]: as ``final``, where only two steps are kept, in turn."""
        return self._at_last(self._last % 2 * self.batch)

    @property
    def _last(self) -> Tensor:
        """[B]: the number of each sequence's last step in loop order."""
        if self.reverse:  # it ends with the first step of all
            return torch.full((self.batch,), self.steps - 1, device="cpu")
        return (self.lengths - 1).clamp(min=0)

    def _at_last(self, starts: Tensor) -> Tensor:
        found = starts + _range(self.batch)
        return torch.where(self.lengths > 0, found, -1)

    @cached_property
    def sequences(self) -> Tensor:
        """[rows]: the place in the batch of each row's sequence."""
        return _range(self.rows) - self._for_rows(self.starts)

    @cached_property
    def previous(self) -> Tensor:
        """[rows]: where the state before each row is, in memory that holds the states of all rows
        and, before them or in reverse behind, the state of each sequence that the loop begins
        from."""
        had, before = (torch.roll(each, 1) for each in (self.counts, self.starts))
        had[0] = 0
        first, given = (0, self.rows) if self.reverse else (self.batch, 0)
        b = self.sequences
        running = b < self._for_rows(had)
        return torch.where(running, self._for_rows(before) + first, given) + b

    def _for_rows(self, steps: Tensor) -> Tensor:
        """[rows]: what each row's step has, of what is known of the steps in loop order."""
        both = (steps, self.counts)
        steps, counts = (each.flip(0) for each in both) if self.reverse else both
        return steps.repeat_interleave(counts, output_size=self.rows)

    def pack(self, x: Tensor) -> Tensor:
        """x: [T, B, n] -> [rows, n]."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.source is None else gathered(flat, self.source)

    def unpack(self, rows: Tensor, steps: int) -> Tensor:
        """[rows, n] -> [T, B, n], zeros past the end of each sequence."""
        shape = (steps, self.batch, rows.shape[-1])
        if self.source is None:
            return rows.view(shape)
        return scattered(rows, self.source, steps * self.batch).view(shape)

    def sort(self, batch: Tensor) -> Tensor:
        """[B, n] in the order of the rows."""
        return batch if self.order is None else batch.index_select(0, self.order)

    def unsort(self, batch: Tensor) -> Tensor:
        """[B, n] in the order in which the sequences came."""
        if self.order is None:
            return batch
        return torch.empty_like(batch).index_copy(0, self.order, batch)


def gathered(flat: Tensor, source: Tensor) -> Tensor:
    """flat[source]; no place is in ``source`` twice."""
    if transforming(flat):
        return flat.index_select(0, source)
    return _Gather.apply(flat, source)  # type: ignore[no-untyped-call]


def scattered(rows: Tensor, source: Tensor, places: int) -> Tensor:
    """[places, n]: rows at ``source``, and zeros elsewhere."""
    if transforming(rows):
        return rows.new_zeros(places, rows.shape[-1]).index_copy(0, source, rows)
    return _Scatter.apply(rows, source, places)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """As no place is there twice, the gradient is a copy as well."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, source: Tensor) -> Tensor:
        ctx.source, ctx.places = source, len(flat)
        return memory.gather(flat, source)

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor) -> tuple[Tensor, None]:
        return scattered(d_rows, ctx.source, ctx.places), None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, source: Tensor, places: int) -> Tensor:
        ctx.source = source
        found = memory.empty(rows, places, rows.shape[1]).zero_()
        return found.index_copy_(0, source, rows)

    @staticmethod
    def backward(ctx: Any, d_flat: Tensor) -> tuple[Tensor, None, None]:
        return gathered(d_flat, ctx.source), None, None


def ragged_layout(steps: int, batch: int, sequence: SequenceInfo, reverse: bool) -> RaggedLayout:
    """The layout over [T, B] steps with these lengths, cuts and borders of truncation; all layers
    that run over one sequence in one direction share it."""
    if sequence.lengths is None and sequence.reset is None and sequence.truncate is None:
        return _plain(steps, batch, reverse)
    key = steps, batch, reverse
    if key not in sequence.made_of:
        sequence.made_of[key] = _made(steps, batch, sequence, reverse)
    return sequence.made_of[key]


def _made(steps: int, batch: int, sequence: SequenceInfo, reverse: bool) -> RaggedLayout:
    if sequence.lengths is not None:
        return _ragged(steps, batch, sequence, sequence.lengths, reverse)
    plain = _plain(steps, batch, reverse)
    flags = _flags(steps, batch, sequence, reverse).reshape(-1)
    return replace(plain, flags=flags)


@lru_cache(maxsize=64)
def _plain(steps: int, batch: int, reverse: bool) -> RaggedLayout:
    with untraced():  # it is kept, and on the CPU, whatever the default device is now
        starts = _range(steps) * batch
        if reverse:
            starts = starts.flip(0)
        counts = torch.full((steps,), batch, dtype=torch.int64, device="cpu")
    return RaggedLayout(steps, batch, steps * batch, reverse, starts, counts)


def _range(stop: int) -> Tensor:
    return torch.arange(stop, dtype=torch.int64, device="cpu")


def _ragged(
    steps: int, batch: int, sequence: SequenceInfo, lengths: Tensor, reverse: bool
) -> RaggedLayout:
    order = torch.argsort(lengths, descending=True, stable=True)
    t = torch.arange(steps, device=lengths.device)
    valid = t[:, None] < lengths[order]  # [T, B]
    counts = valid.sum(1).cpu()
    counts = counts[counts > 0]
    starts = counts.cumsum(0) - counts
    source = (t[:, None] * batch + order)[valid]
    flags = None
    if sequence.reset is not None or sequence.truncate is not None:
        flags = _flags(steps, batch, sequence, reverse).reshape(-1).index_select(0, source)
    if reverse:
        starts, counts = starts.flip(0).contiguous(), counts.flip(0).contiguous()
    return RaggedLayout(
        len(counts), batch, len(source), reverse, starts, counts, flags, order, source
    )


def _flags(steps: int, batch: int, sequence: SequenceInfo, reverse: bool) -> Tensor:
    """[T, B] uint8 of CUT and STOP."""
    given = sequence.lengths if sequence.reset is None else sequence.reset
    device = torch.device("cpu") if given is None else given.device
    flags = torch.zeros(steps, batch, dtype=torch.uint8, device=device)
    valid = sequence.valid(steps)
    if sequence.reset is not None:
        cut = sequence.reset.reshape(steps, batch)
        if valid is not None:
            cut = cut & valid[..., 0]
        if reverse:  # a cut before t parts t-1 from t: backwards it is met between t and t-1
            flags[:-1] |= cut[1:].to(torch.uint8) * CUT
        else:
            flags |= cut.to(torch.uint8) * CUT
    if sequence.truncate is not None:
        flags |= (
            _borders(steps, sequence, sequence.truncate, reverse, flags.device).to(torch.uint8)
            * STOP
        )
    return flags


def _borders(
    steps: int, sequence: SequenceInfo, truncate: int, reverse: bool, device: torch.device
) -> Tensor:
    """[T, 1] or [T, B] bool: where a multiple of ``truncate`` steps has been done."""
    t = torch.arange(steps, device=device)[:, None]
    if reverse:
        # Each row begins at its own end, so each counts its own steps.
        end = steps if sequence.lengths is None else sequence.lengths[None, :]
        t = end - 1 - t
    return t % truncate == 0
