"""What a backend is: two loops over the rows of a walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from elman.backends.ragged import Walk
from elman.compiler.plan import Plan


@dataclass
class Tape:
    """The memory of one run of a plan, in the order of the plan's nodes.

    inputs: what the plan's ``inputs`` are, [rows, n]. entering: of the plan's ``rows``, those
        that torch has computed, [rows, n]; None for those that the backend makes from the inputs.
    weights: the prepared weights. mask: [B, S] of the state dropout, or None.
    given: the state passed in, parts [B, S]. own: the cell's initial state, for rows that are cut.
    states: each part of the state at all rows, [rows, S]; or, for a part that nobody asks for
        afterwards, [2 * B, S]: that of the step before and of this one, in turn.
    saved: what the backward loop reads, [rows, n]; nothing where there will be none.
    training: whether there will be a backward loop.
    """

    walk: Walk
    inputs: Sequence[Tensor]
    entering: list[Tensor | None]
    weights: Sequence[Tensor]
    mask: Tensor | None
    given: Sequence[Tensor]
    own: Sequence[Tensor]
    states: Sequence[Tensor]
    saved: Sequence[Tensor]
    rings: Sequence[bool]
    training: bool = False


@dataclass
class BackTape:
    """The memory of the backward loop.

    d_states: for each part [rows, S], the gradient that comes from the outputs; or None.
    d_last: for each part [B, S], the gradient of the last state; overwritten with that of the
        state passed in.
    d_own: for each part [B, S] zeros, to which the gradient of the initial state is added; or
        None where it is not wanted.
    stored: the plan's ``backward.stored``, [rows, n].
    """

    d_states: Sequence[Tensor | None]
    d_last: Sequence[Tensor]
    d_own: Sequence[Tensor] | None
    stored: Sequence[Tensor]


class Planned(NamedTuple):
    """A loop that is not run yet. training: whether there will be a backward loop."""

    plan: Plan
    walk: Walk
    training: bool


class Engine(Protocol):
    """Runs the loops of any plan that it does not refuse."""

    name: str

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        """Why the plan cannot run for such tensors; None: it can."""

    def at_once(self, one: Planned, other: Planned, dtype: torch.dtype) -> bool:
        """Whether two loops, of which neither waits for the other, are quicker at the same time
        than one after the other."""

    def forward(self, *runs: tuple[Plan, Tape]) -> None:
        """Fill ``tape.states`` and, if there are any, ``tape.saved`` of each of one run, or of
        the two that `at_once` was asked for."""

    def backward(self, *runs: tuple[Plan, Tape, BackTape]) -> None:
        """Fill ``back.stored``, ``back.d_last`` and ``back.d_own`` in the same way."""
