"""What goes into a run over time and what comes out of it, by name.

torch hands the inputs and results of an operation over as one list. A record becomes such a list
and is made of one again; to add a kind of tensor, add a field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Self

from elman.backends.gradients import split

#: One kind of values of a run: tensors, their gradients, or whether those are wanted.
Values = Sequence[Any]


class Record:
    """Values by name, several under each."""

    #: The values under each name, in order.
    _values: ClassVar[Callable[[Any], tuple[Values, ...]]]

    def __init_subclass__(cls) -> None:
        cls._values = attrgetter(*cls.__annotations__)

    def flat(self) -> tuple[Any, ...]:
        """All values, one after the other."""
        return tuple(chain.from_iterable(type(self)._values(self)))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many values stand under each name."""
        return tuple(map(len, type(self)._values(self)))

    @classmethod
    def of(cls, counts: tuple[int, ...], flat: Sequence[Any]) -> Self:
        """The record of so many values under each name."""
        return cls(*split(flat, counts))

    @classmethod
    def nothing(cls, counts: tuple[int, ...]) -> Self:
        """The record of as many Nones."""
        return cls(*[(None,) * count for count in counts])


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
