"""A layer, one step a call, with the state kept inside."""

from __future__ import annotations

from torch import Tensor

from elman.errors import ShapeError
from elman.layers.steps import Steps


class Stream:
    """A running layer: ``y_t = stream(x_t)``.

        y_t, state = step(x_t, state)

    Made by ``layer.stream()``. It has the weights of that moment, keeps no gradient, drops
    nothing, as in evaluation, and gives the same numbers as the layer on the whole sequence.
    Several streams of one layer are independent of each other.

    x_t: [B, I], or [I] where it was made without a batch   ->   y_t: [B, O] or [O]
    """

    def __init__(self, layer: str, like: Tensor, steps: Steps, alone: bool) -> None:
        """like: [B, I], an example of x_t; alone: it comes and goes without its batch."""
        self._layer = layer
        self._alone = alone
        self._dtype = like.dtype
        self._shape = like.shape[1:] if alone else like.shape
        self._cells, self._step = steps.cells, steps.step
        self._start = self.state

    def __call__(self, x_t: Tensor) -> Tensor:
        """The output of the next step. Raises ShapeError."""
        if x_t.shape != self._shape or x_t.dtype is not self._dtype:
            raise ShapeError(
                f"{self._layer}.stream: x_t must be {list(self._shape)} {self._dtype}, got "
                f"{list(x_t.shape)} {x_t.dtype}"
            )
        y = self._step(x_t if x_t.is_contiguous() else x_t.contiguous())
        return y[0] if self._alone else y

    @property
    def state(self) -> tuple[tuple[Tensor, ...], ...]:
        """The state now: for each cell its parts [B, S]. Setting it goes on from there.

        Raises ShapeError for a state of another form."""
        return tuple(cell.state for cell in self._cells)

    @state.setter
    def state(self, state: tuple[tuple[Tensor, ...], ...]) -> None:
        given, expected = (
            [[(list(part.shape), part.dtype) for part in parts] for parts in nest]
            for nest in (state, self._start)
        )
        if given != expected:
            raise ShapeError(f"{self._layer}.stream: state must be {expected}, got {given}")
        for cell, parts in zip(self._cells, state, strict=True):
            cell.state = tuple(part.detach() for part in parts)

    def reset(self) -> None:
        """Begin again from the state that the stream was made with."""
        self.state = self._start

    def __repr__(self) -> str:
        return f"Stream({self._layer}, x_t={list(self._shape)})"
