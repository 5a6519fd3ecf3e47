"""A layer, one step a call, with the state kept inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.backends.choose import Stepped, stepper
from elman.cells.cell import Cell
from elman.errors import ShapeError
from elman.sequence import Noise

#: One layer of a stream: its cell, the weights it runs with, its noise, and its state.
Part = tuple[Cell, dict[str, Tensor], Noise, tuple[Tensor, ...]]


class Stream:
    """A running layer: ``y_t = stream(x_t)``.

        y_t, state = step(x_t, state)

    Made by ``layer.stream()``. It has the weights of that moment, keeps no gradient, and gives
    the same numbers as the layer on the whole sequence. Several streams of one layer are
    independent of each other.

    x_t: [B, I], or [I] where it was made without a batch   ->   y_t: [B, O] or [O]
    """

    def __init__(self, layer: str, parts: Sequence[Part], batch_size: int | None) -> None:
        self._layer = layer
        self._alone = batch_size is None
        self._batch = 1 if batch_size is None else batch_size
        self._parts = tuple(parts)
        self._size = parts[0][0].input_size
        self._start: tuple[tuple[Tensor, ...], ...] = tuple(state for *_, state in parts)
        self._like = self._start[0][0]
        self._shape = (self._size,) if self._alone else (self._batch, self._size)
        self._begin(self._start)

    def __call__(self, x_t: Tensor) -> Tensor:
        """The output of the next step. Raises ShapeError."""
        if x_t.shape != self._shape or x_t.dtype is not self._like.dtype:
            raise ShapeError(
                f"{self._layer}.stream: x_t must be {list(self._shape)} {self._like.dtype}, got "
                f"{list(x_t.shape)} {x_t.dtype}"
            )
        x = x_t if x_t.is_contiguous() else x_t.contiguous()
        for step in self._steps:
            x = step(x)
        return x[0] if self._alone else x

    @property
    def state(self) -> tuple[tuple[Tensor, ...], ...]:
        """The state now: for each layer its parts [B, S]. Setting it goes on from there."""
        return tuple(stepped.state for stepped in self._stepped)

    @state.setter
    def state(self, state: tuple[tuple[Tensor, ...], ...]) -> None:
        self._begin(state)

    def reset(self) -> None:
        """Begin again from the state that the stream was made with."""
        self._begin(self._start)

    def _begin(self, states: tuple[tuple[Tensor, ...], ...]) -> None:
        with torch.no_grad():
            self._stepped: list[Stepped] = [
                stepper(cell, weights, noise, state)
                for (cell, weights, noise, _), state in zip(self._parts, states, strict=True)
            ]
        self._steps: list[Any] = [stepped.step for stepped in self._stepped]

    def __repr__(self) -> str:
        return f"Stream({self._layer}, x_t={list(self._shape)})"
