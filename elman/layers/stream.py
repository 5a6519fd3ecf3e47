"""A layer, one step a call, with the state kept inside."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from elman.errors import ShapeError
from elman.layers.steps import Steps


class Stream:
    """A running layer: ``y_t = stream(x_t)``.

        y_t, state = step(x_t, state)

    Made by ``layer.stream()``. It has the weights of that moment, keeps no gradient, drops
    nothing, as in evaluation, and gives the same numbers as the layer on the whole sequence.
    Several streams of one layer are independent of each other; so are a stream and its copy
    (`copy.copy`, `copy.deepcopy`, pickle), which go on from the same state. What a stream hands
    out is the caller's own. Threads that share a stream take its steps in turn.

    x_t: [B, I], or [I] where it was made without a batch   ->   y_t: [B, O] or [O]
    """

    def __init__(self, layer: str, like: Tensor, steps: Steps, alone: bool) -> None:
        """like: [B, I], an example of x_t; alone: it comes and goes without its batch."""
        self._layer = layer
        self._alone = alone
        self._dtype, self._device = like.dtype, like.device
        self._shape = like.shape[1:] if alone else like.shape
        self._cells, self._step = steps.cells, steps.step
        self._start = self.state

    def __call__(self, x_t: Tensor) -> Tensor:
        """The output of the next step. Raises ShapeError."""
        try:
            if (
                x_t.shape != self._shape
                or x_t.dtype is not self._dtype
                or x_t.device != self._device
            ):
                raise self._refused(x_t)
            if not x_t.is_contiguous() or x_t.is_neg():
                x_t = x_t.resolve_neg().contiguous()
        except (AttributeError, RuntimeError):  # not a tensor, or not a dense one
            raise self._refused(x_t) from None
        y = self._step(x_t)
        return y[0] if self._alone else y

    def _refused(self, x_t: Any) -> ShapeError:
        got = type(x_t).__name__
        if isinstance(x_t, Tensor):
            got = f"{list(x_t.shape)} {x_t.dtype} on {x_t.device}, {x_t.layout}"
        return ShapeError(
            f"{self._layer}.stream: x_t must be a dense tensor {list(self._shape)} {self._dtype} "
            f"on {self._device}, got {got}"
        )

    @property
    def state(self) -> tuple[tuple[Tensor, ...], ...]:
        """The state now: for each cell its parts [B, S]. Setting it goes on from there.

        Raises ShapeError for a state of another form."""
        return tuple(cell.state for cell in self._cells)

    @state.setter
    def state(self, state: tuple[tuple[Tensor, ...], ...]) -> None:
        expected = _form(self._start)
        try:
            given = _form(state)
        except (AttributeError, TypeError):
            given = repr(state)[:200]
        if given != expected:
            raise ShapeError(
                f"{self._layer}.stream: the state is what stream.state returns, for each cell its "
                f"parts: {expected}; got {given}"
            )
        for cell, parts in zip(self._cells, state, strict=True):
            cell.state = tuple(part.detach() for part in parts)

    def reset(self) -> None:
        """Begin again from the state that the stream was made with."""
        self.state = self._start

    def __copy__(self) -> Stream:
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return f"Stream({self._layer}, x_t={list(self._shape)})"


def _form(state: tuple[tuple[Tensor, ...], ...]) -> str:
    """The shapes, dtypes and devices of a state, as text."""
    return ", ".join(
        f"({', '.join(f'{list(p.shape)} {p.dtype} {p.device} {p.layout}' for p in parts)})"
        for parts in state
    )
