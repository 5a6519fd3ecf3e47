"""The checks of torch.nn's RNN, LSTM and GRU: under torch's names, in torch's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from elman.backends.operands import autocasts
from elman.cells import StackedCell
from elman.cells.cell import as_tuple
from elman.errors import ShapeError
from elman.layers.layer import Layer, check_dense, check_weights


class TorchChecks(Layer):
    """What torch.nn's three check of their arguments.

    A subclass may check more, or less, by the methods that torch.nn's have for it.
    """

    mode: str
    hidden_size: int
    proj_size: int
    _flat_weights: Any
    _flat_weights_names: list[str]

    if TYPE_CHECKING:  # torch's own

        def get_expected_hidden_size(
            self, input: Tensor, batch_sizes: Tensor | None
        ) -> tuple[int, int, int]: ...

        get_expected_cell_size = get_expected_hidden_size

        def _update_flat_weights(self) -> None: ...

    def weights(self, cell: StackedCell, row: int, x: Tensor) -> dict[str, Tensor]:
        """What stands in place of the cell's parameters in one direction of one layer.

        Raises ShapeError where one is not a tensor of its shape and of the kind of x."""
        own = cell.shapes
        found: dict[str, Tensor] = {}
        for number, (name, shape) in enumerate(own.items(), row * len(own)):
            weight = self._weight(self._flat_weights_names[number], number)
            odd = weight is None or weight.shape != shape or weight.dtype is not x.dtype
            if odd or weight.device != x.device:
                self._check_weight(self._flat_weights_names[number], weight, shape, x)
            found[name] = weight
        return found

    def _weight(self, name: str, number: int) -> Tensor:
        """The parameter, the value that stands in its place, or what was set in
        ``_flat_weights`` since: torch's own rule."""
        weight = self._parameters.get(name)
        if weight is None:
            weight = getattr(self, name)
        if torch.compiler.is_compiling():
            return weight
        if self._flat_weights[number] is not weight and name in self._parameters:
            self._update_flat_weights()
            return self._flat_weights[number]
        return weight

    def _check_weight(self, name: str, weight: Any, shape: tuple[int, ...], x: Tensor) -> None:
        what = f"{self._name}: '{name}'"
        if not isinstance(weight, Tensor) or weight.shape != shape:
            found = list(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
            raise ShapeError(
                f"{what} must be {list(shape)} for input_size={self.input_size}, "
                f"hidden_size={self.hidden_size}, proj_size={self.proj_size}, got {found}; "
                "give the layer a parameter of that shape, or build it with the sizes of this one"
            )
        check_weights(self._name, {name: weight}, x)
        if not autocasts(x):
            raise ShapeError(f"{what} is {weight.dtype}, x is {x.dtype}; use layer.to({x.dtype})")

    def check_rank(self, x: Any, state: Any) -> None:
        if not isinstance(x, Tensor):
            super().check_rank(x, state)
        check_dense(f"{self._name}: x", x)
        axes, name = x.dim(), self._name
        if axes not in (2, 3):
            given = "tensor instead" if self.mode.startswith("RNN") else "instead"
            order = "[B, T, I]" if self.batch_first else "[T, B, I]"
            raise ShapeError(
                f"{name}: Expected input to be 2D or 3D, got {axes}D {given}; x must be {order}, "
                f"or [T, I] for one sequence, got {list(x.shape)}"
            )
        parts = as_tuple(state) if isinstance(state, Tensor | tuple | list) else ()
        found = [part.dim() if isinstance(part, Tensor) else axes for part in parts]
        if any(rank != axes for rank in found):
            kind = "batched" if axes == 3 else "unbatched"
            ranks = ", ".join(f"{rank}-D" for rank in found)
            told = f"{ranks} tensor" if len(found) == 1 else f"({ranks}) tensors"
            which = "hx" if len(found) == 1 else "hx and cx"
            raise ShapeError(
                f"For {kind} {axes}-D input, {which} should also be {axes}-D but got {told}"
            )

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raise ShapeError, in torch's words, where input and state do not fit the layer.

        As torch.nn's: a subclass may check more, or less."""
        self.check_input(input, batch_sizes)
        size = self.get_expected_hidden_size(input, batch_sizes)
        if isinstance(hidden, Tensor):
            self.check_hidden_size(hidden, size)
            check_hidden_kind(self._name, hidden, input)
            return
        h, c = hidden
        self.check_hidden_size(h, size, "Expected hidden[0] size {}, got {}")
        size = self.get_expected_cell_size(input, batch_sizes)
        self.check_hidden_size(c, size, "Expected hidden[1] size {}, got {}")
        check_hidden_kind(self._name, h, input)
        check_hidden_kind(self._name, c, input)

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: tuple[int, int, int],
        msg: str = "Expected hidden size {}, got {}",
    ) -> None:
        """Raise ShapeError where a part of the state is not of this size."""
        if hx.shape != expected_hidden_size:
            raise ShapeError(
                f"{msg.format(expected_hidden_size, list(hx.shape))}; {self._name}: a part of the "
                "state is [num_layers * directions, B, size], None stands for zeros"
            )

    def check_input(self, input: Tensor, batch_sizes: Tensor | None = None) -> None:
        """Raise ShapeError where the input is not of the size and the kind of the layer."""
        name, weight = self._name, self.example()
        axes = 3 if batch_sizes is None else 2
        if input.dim() != axes:
            raise ShapeError(f"input must have {axes} dimensions, got {input.dim()}; {name}")
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                f"{input.shape[-1]}; {name}: the last axis of x is what a step reads"
            )
        if weight is None:
            return
        if weight.device != input.device:
            raise ShapeError(
                "Input and parameter tensors are not at the same device, found input tensor at "
                f"{input.device} and parameter tensor at {weight.device}; {name}: use "
                f"x.to('{weight.device}')"
            )
        if weight.dtype is not input.dtype and not autocasts(input):
            raise ShapeError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: "
                f"model.to({input.dtype}); {name}"
            )

    def example(self) -> Tensor | None:
        own = next(iter(self._parameters.values()), None)
        return super().example() if own is None else own


def check_hidden_kind(name: str, part: Tensor, input: Tensor) -> None:
    """Raise ShapeError, in torch's words, where a part of the state is not of the input's kind."""
    what, cure = "Input and hidden tensors are not", f"{name}: use hx.to(x)"
    if part.device != input.device:
        raise ShapeError(
            f"{what} at the same device, found input tensor at {input.device} and hidden tensor "
            f"at {part.device}; {cure}"
        )
    if part.dtype is not input.dtype and not autocasts(input):
        raise ShapeError(
            f"{what} the same dtype, found input tensor with {input.dtype} and hidden tensor with "
            f"{part.dtype}; {cure}"
        )
