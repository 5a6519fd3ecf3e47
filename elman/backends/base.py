"""What a backend is: two loops over the rows of a ragged layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from elman.backends.ragged import RaggedLayout
from elman.cells.cell import State
from elman.compiler.plan import Plan


@dataclass
class ForwardBuffers:
    """The memory of one run of a plan, in the order of the plan's nodes.

    inputs: what the plan's ``inputs`` are, [rows, n]. entering: of the plan's ``rows``, those
        that torch has computed, [rows, n]; None for those that the backend makes from the inputs.
    weights: the prepared weights. state_mask: [B, S] of the state dropout, or None.
    initial_state: the state passed in, parts [B, S]. reset_state: what a reset goes to.
    states: each part of the state at all rows, [rows, S]; or, where it is double_buffered because
        nobody asks for it afterwards, [2 * B, S]: that of the step before and of this one, in turn.
    saved: what the backward loop reads, [rows, n]; nothing where there will be none.
    training: whether there will be a backward loop.
    """

    layout: RaggedLayout
    inputs: Sequence[Tensor]
    entering: list[Tensor | None]
    weights: Sequence[Tensor]
    state_mask: Tensor | None
    initial_state: Sequence[Tensor]
    reset_state: Sequence[Tensor]
    states: Sequence[Tensor]
    saved: Sequence[Tensor]
    double_buffered: Sequence[bool]
    training: bool = False


@dataclass
class BackwardBuffers:
    """The memory of the backward loop.

    d_states: for each part [rows, S], the gradient that comes from the outputs; or None.
    d_last_state: for each part [B, S], the gradient of the last state; overwritten with that of
        the state passed in.
    d_reset_state: for each part [B, S] zeros, to which the gradient of the state that resets go to
        is added; or None where it is not wanted.
    stored: the plan's ``backward.stored``, [rows, n].
    """

    d_states: Sequence[Tensor | None]
    d_last_state: Sequence[Tensor]
    d_reset_state: Sequence[Tensor] | None
    stored: Sequence[Tensor]


class PlannedLoop(NamedTuple):
    """A loop that is not run yet. training: whether there will be a backward loop."""

    plan: Plan
    layout: RaggedLayout
    training: bool


class Stepped(Protocol):
    """Something that runs one step after the other and holds the state between.

    A copy or a pickle goes on by itself, from the state and with the weights that this one has.
    """

    state: State  # a copy of the one now; setting it goes on from there

    def step(self, x: Tensor) -> Tensor:
        """x: [B, I], contiguous -> the first part of the new state, the caller's own: [B, O]."""
        ...


class Again(Protocol):
    """Makes what goes on from a state."""

    def __call__(self, *, state: State) -> Any: ...


class Engine(Protocol):
    """Runs the loops of any plan that it does not refuse."""

    name: str

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        """Why the plan cannot run for such tensors; None: it can."""

    def describe(self, loop: PlannedLoop, dtype: torch.dtype, beside: bool = False) -> str:
        """Which threads do what in a loop. beside: another one runs at the same time."""

    def source(self, plan: Plan, dtype: torch.dtype, loop: str) -> str:
        """The code of the loop "inference", "training" or "backward"; "" where there is none."""

    def stepper(
        self, plan: Plan, weights: list[Tensor], state: State, again: Again
    ) -> Stepped | None:
        """What runs a streamed plan one step at a time; None: it is a sequence of one step.

        weights: as prepared. again: makes one that goes on from a state, where this is not there.
        """

    def at_once(self, one: PlannedLoop, other: PlannedLoop, dtype: torch.dtype) -> bool:
        """Whether two loops, of which neither waits for the other, are quicker at the same time
        than one after the other."""

    def forward(self, *runs: tuple[Plan, ForwardBuffers]) -> None:
        """Fill ``states`` and, if there are any, ``saved`` of the buffers of one run, or of the two
        that `at_once` was asked for."""

    def backward(self, *runs: tuple[Plan, ForwardBuffers, BackwardBuffers]) -> None:
        """Fill ``stored``, ``d_last_state`` and ``d_reset_state`` in the same way."""
