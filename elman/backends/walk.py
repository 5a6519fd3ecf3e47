"""How a batch of sequences lies in memory while a loop runs over it.

The valid steps of all sequences stand one after the other as *rows*, time first: at each step the
sequences still running, the longest first. Padding has no row. So a loop over a ragged batch is a
loop over fewer rows a step, and what is computed for all t at once sees valid steps alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from elman.sequence import Sequence

#: Flags of a row: the state before it is the cell's initial state; no gradient flows out of it.
CUT, STOP = 1, 2


@dataclass(frozen=True, eq=False)
class Walk:
    """The rows, in the order in which the loop meets them.

    starts: [steps] int64, the first row of each step, in the order of the walk; counts: [steps]
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
        """(first row, how many) of each step, in the order of the walk."""
        return list(zip(self.starts.tolist(), self.counts.tolist(), strict=True))

    @cached_property
    def row_flags(self) -> Tensor:
        """[rows] uint8: the flags, zeros where there are none."""
        return torch.zeros(self.rows, dtype=torch.uint8) if self.flags is None else self.flags

    @cached_property
    def lengths(self) -> Tensor:
        """[B] int64: how many steps each sequence has, in the order of the rows."""
        return (torch.arange(self.batch)[:, None] < self.counts).sum(1)

    @cached_property
    def cut(self) -> Tensor | None:
        """[rows, 1] bool: rows that begin from the initial state of the cell."""
        return None if self.flags is None else (self.flags & CUT).bool()[:, None]

    @cached_property
    def final(self) -> Tensor:
        """[B]: the row of each sequence's last step in the walk; -1 where it has none."""
        final = torch.full((self.batch,), -1, dtype=torch.int64)
        for start, count in self.schedule:
            final[:count] = torch.arange(start, start + count)
        return final

    @cached_property
    def final_in_ring(self) -> Tensor:
        """[B]: as ``final``, where only two steps are kept, in turn."""
        final = torch.full((self.batch,), -1, dtype=torch.int64)
        for index, (_, count) in enumerate(self.schedule):
            final[:count] = torch.arange(count) + index % 2 * self.batch
        return final

    @cached_property
    def sequences(self) -> Tensor:
        """[rows]: the place in the batch of each row's sequence."""
        return torch.cat([torch.arange(count) for _, count in sorted(self.schedule)])

    @cached_property
    def previous(self) -> Tensor:
        """[rows]: the row before each in the walk; ``rows + b`` where it is the first of b."""
        found = torch.empty(self.rows, dtype=torch.int64)
        before = (0, 0)
        for start, count in self.schedule:
            b = torch.arange(count)
            found[start : start + count] = torch.where(b < before[1], before[0] + b, self.rows + b)
            before = (start, count)
        return found

    def pack(self, x: Tensor) -> Tensor:
        """x: [T, B, n] -> [rows, n]."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.source is None else flat.index_select(0, self.source)

    def unpack(self, rows: Tensor, steps: int) -> Tensor:
        """[rows, n] -> [T, B, n], zeros past the end of each sequence."""
        shape = (steps, self.batch, rows.shape[-1])
        if self.source is None:
            return rows.view(shape)
        flat = rows.new_zeros(steps * self.batch, rows.shape[-1])
        return flat.index_copy(0, self.source, rows).view(shape)

    def sort(self, batch: Tensor) -> Tensor:
        """[B, n] in the order of the rows."""
        return batch if self.order is None else batch.index_select(0, self.order)

    def unsort(self, batch: Tensor) -> Tensor:
        """[B, n] in the order in which the sequences came."""
        if self.order is None:
            return batch
        return torch.empty_like(batch).index_copy(0, self.order, batch)


def walk_over(steps: int, batch: int, sequence: Sequence, reverse: bool) -> Walk:
    """The walk over [T, B] steps with these lengths, cuts and borders of truncation."""
    if sequence.lengths is None:
        if sequence.reset is None and sequence.truncate is None:
            return _plain(steps, batch, reverse)
        plain = _plain(steps, batch, reverse)
        flags = _flags(steps, batch, sequence, reverse).reshape(-1)
        return Walk(steps, batch, plain.rows, reverse, plain.starts, plain.counts, flags)
    return _ragged(steps, batch, sequence, sequence.lengths, reverse)


@lru_cache(maxsize=64)
def _plain(steps: int, batch: int, reverse: bool) -> Walk:
    starts = torch.arange(steps, dtype=torch.int64) * batch
    if reverse:
        starts = starts.flip(0)
    counts = torch.full((steps,), batch, dtype=torch.int64)
    return Walk(steps, batch, steps * batch, reverse, starts, counts)


def _ragged(steps: int, batch: int, sequence: Sequence, lengths: Tensor, reverse: bool) -> Walk:
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
    return Walk(len(counts), batch, len(source), reverse, starts, counts, flags, order, source)


def _flags(steps: int, batch: int, sequence: Sequence, reverse: bool) -> Tensor:
    """[T, B] uint8 of CUT and STOP."""
    device = sequence.lengths if sequence.reset is None else sequence.reset
    flags = torch.zeros(
        steps, batch, dtype=torch.uint8, device=None if device is None else device.device
    )
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
    steps: int, sequence: Sequence, truncate: int, reverse: bool, device: torch.device
) -> Tensor:
    """[T, 1] or [T, B] bool: where a multiple of ``truncate`` steps has been done."""
    t = torch.arange(steps, device=device)[:, None]
    if reverse:
        # Each row begins at its own end, so each counts its own steps.
        end = steps if sequence.lengths is None else sequence.lengths[None, :]
        t = end - 1 - t
    return t % truncate == 0
