"""The memory of the states: with room beside it for the state passed in.

So the states before each row are one piece of memory, shifted by one step.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from elman.backends import memory
from elman.backends.ragged import RaggedLayout

#: Where the states lie, once the loop has run: their address, and the bytes of the memory that they
#: share with the state passed in, by which a copy at the same address, as a hook on saved tensors
#: may make it, is told from it.
Place = tuple[int, int]


def place(states: Tensor) -> Place:
    """Where the states lie."""
    return states.data_ptr(), states.untyped_storage().nbytes()


def states_with_room(like: Tensor, layout: RaggedLayout, size: int) -> Tensor:
    """[rows, S], with room for the state passed in beside it."""
    batch = layout.batch
    room = memory.empty(like, layout.rows + batch, size)
    # Not a view: the states are results of their own to autograd.
    at = 0 if layout.reverse else batch * size
    return like.new_empty(0).set_(room.untyped_storage(), at, (layout.rows, size), (size, 1))


def in_their_places(
    states: Sequence[Tensor], places: Sequence[Place], layout: RaggedLayout
) -> list[Tensor]:
    """The states with room beside them, also where a hook on saved tensors has moved them."""
    return [
        rows if place(rows) == known else states_with_room(rows, layout, rows.shape[1]).copy_(rows)
        for rows, known in zip(states, places, strict=True)
    ]


def with_initial_state(states: Tensor, layout: RaggedLayout, initial_state: Tensor) -> Tensor:
    """[rows + B, S]: the states and, where the loop begins, the state passed in, in the memory that
    `states_with_room` made."""
    batch, size = initial_state.shape
    room = states.new_empty(0).set_(
        states.untyped_storage(), 0, (layout.rows + batch, size), (size, 1)
    )
    begin = layout.rows if layout.reverse else 0
    room[begin : begin + batch] = initial_state
    return room
