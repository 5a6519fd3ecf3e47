"""What goes into a run over time and what comes out of it, by name.

torch hands the inputs and results of an operation over as one list. A record becomes such a list
and is made of one again; whoever adds a new kind of tensor adds a field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

#: One kind of values of a run: tensors, their gradients, or whether those are wanted.
Values = Sequence[Any]


@dataclass
class Record:
    """Values by name, several under each."""

    def flat(self) -> tuple[Any, ...]:
        """All values, one after the other."""
        names = self.__dataclass_fields__
        return tuple([value for name in names for value in getattr(self, name)])

    def of(self, flat: Iterable[Any]) -> Self:
        """A record of as many other values under each name."""
        rest, names = iter(flat), self.__dataclass_fields__
        return type(self)(*[tuple([next(rest) for _ in getattr(self, name)]) for name in names])

    @property
    def shape(self) -> Self:
        """The record without its values: what `of` needs."""
        return self.of([None] * len(self.flat()))


@dataclass
class LoopInputs(Record):
    """What a loop reads, or of each of these the gradient.

    rows: what the plan's ``inputs`` are, [rows, n]. zoneout_masks: as numbers, [rows, S].
    weights: the prepared weights. initial_state: the state passed in, parts [B, S].
    reset_state: what a reset goes to, parts [B, S]; nothing where there is none.
    state_mask: [B, S] of the state dropout; nothing where there is none.
    """

    rows: Values = ()
    zoneout_masks: Values = ()
    weights: Values = ()
    initial_state: Values = ()
    reset_state: Values = ()
    state_mask: Values = ()


@dataclass
class LoopResults(Record):
    """What comes out of a loop, or of each of these the gradient.

    states: of each part that is asked for, at all rows, [rows, S]. last_state: all parts, [B, S].
    """

    states: Values = ()
    last_state: Values = ()


@dataclass
class SavedForBackward(Record):
    """All that the backward pass reads.

    inputs: those of the loop, one after the other; without their rows where these are made again.
    sources: x [rows, I] and the parameters, from which rows are made again; or nothing.
    states: all parts at all rows. saved: what the plan keeps beside them. entered: what the backend
    has made of the rows, where that is read again.
    """

    inputs: Values = ()
    sources: Values = ()
    states: Values = ()
    saved: Values = ()
    entered: Values = ()
