"""What all layers share: how a sequence comes in and goes out."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from elman.backends.operands import all_plain, autocasts
from elman.backends.sequence import SequenceInfo, check_lengths
from elman.cells.cell import like_of
from elman.errors import OptionError, ShapeError, require_positive
from elman.layers.plan import PlanReport
from elman.layers.steps import Steps
from elman.layers.stream import Stream
from elman.layers.tracing import as_leaf, refuse_script
from elman.runtime.custom_op.operators import being_traced

#: More steps than a sequence can have.
MOST_STEPS = 1 << 31


def map_state(change: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The state, a tensor or a nest of tuples, with every tensor changed."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else change(state)
    return tuple(map_state(change, part) for part in state)


def detach(state: Any) -> Any:
    """The state as a constant: what one carries from one stretch of a long sequence to the next.

    state: what a layer returned, a tensor or a nest of tuples; None stays None.
    """
    return map_state(Tensor.detach, state)


class Layer(nn.Module):
    """Sequences in, sequences and a state out.

    A subclass says what happens between in `run`, where the sequence is always time first and
    batched; `forward` brings every form of input to that form and the results back.
    """

    input_size: int
    batch_first: bool = False
    #: Whether the layer walks from the last step to the first.
    reverse: bool = False
    #: Where the batch axis stands in each part of the state.
    state_batch_axis: int = 0

    @property
    def output_size(self) -> int:
        """The size of the last axis of the outputs."""
        raise NotImplementedError

    def run(
        self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool = False
    ) -> tuple[Tensor, Any, Any]:
        """x: [T, B, I] -> outputs [T, B, O], the last state, and the states at all steps: every
        part of them where all_states, else nothing that can be relied on. What stands in x past
        the end of a sequence may be anything."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | list[int] | None = None,
        reset: Tensor | None = None,
        truncate: int | None = None,
        return_states: bool = False,
    ) -> Any:
        """Run over a batch of sequences.

        x: [T, B, I]; [B, T, I] where the layer is batch_first; [T, I] for one sequence.
        state: what an earlier call returned, or None for the initial state.
        lengths: [B], the valid steps of each sequence, in any order, 0 allowed. Outputs past the
            end are 0, the state returned is that of the last valid step, a reverse layer starts
            at the last valid step, and what stands in the padding changes nothing.
        reset: bool, shaped like x without its last axis. Before that step the state becomes the
            initial state; neither direction carries anything across.
        truncate: k: the state that enters step t is a constant wherever t is a multiple of k, so
            no gradient flows back more than k steps. A reverse layer counts from its own start.
        return_states: also return every part of the state at every step.

        Returns (outputs, state), or (outputs, state, states). Raises ShapeError.
        """
        if isinstance(x, Proxy):
            options = {"lengths": lengths, "reset": reset, "truncate": truncate}
            return as_leaf(self, x, state, options | {"return_states": return_states})
        x, state, batched = self._batched(x, state)
        sequence = self._sequence(x, lengths, reset, truncate, batched)
        outputs, state, states = self.run(x, state, sequence, return_states)
        outputs, states = (map_state(self._as_given(batched), s) for s in (outputs, states))
        if not batched:
            state = self.over_batch_axis(Tensor.squeeze, state)
        return (outputs, state, states) if return_states else (outputs, state)

    def __prepare_scriptable__(self) -> NoReturn:
        refuse_script(self)

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a running stream: the same numbers as the whole sequence at once.

        x_t: [B, I] or [I]   state: what the last step returned   ->   (output [B, O], state)

        Raises OptionError for a layer that needs the future, and while training with a
        regulariser that is drawn once a sequence.
        """
        self.check_streams()
        if x_t.dim() not in (1, 2):
            raise ShapeError(f"{self._name}.step: x_t must be [B, I] or [I], got {_shape(x_t)}")
        alone = x_t.dim() == 1
        x, state, _ = self._batched(x_t.unsqueeze(0), state, time_first=True, batched=not alone)
        outputs, state, _ = self.run(x, state, SequenceInfo())
        if alone:
            state = self.over_batch_axis(Tensor.squeeze, state)
        return outputs[0, 0] if alone else outputs[0], state

    def plan(self, *, batch_size: int = 16, training: bool | None = None) -> PlanReport:
        """What would run this layer, with its parameters as they are, and why.

        batch_size: how many sequences, which decides how threads share the work.
        training: with a gradient and the regularisers' noise; None: as the layer is now.

        Compiles what it speaks of. Raises BackendError where the backend that was asked for
        cannot run the layer.
        """
        raise NotImplementedError

    def stream(self, state: Any = None, batch_size: int | None = None) -> Stream:
        """The layer as a running stream, ``y_t = stream(x_t)``: see `Stream`.

        state: what the layer returned for the sequence so far; None for the initial state.
        batch_size: B, for x_t: [B, I]; None for x_t: [I].

        Raises OptionError where the layer cannot run step by step, as `step` does, and BackendError
        where the backend that was asked for cannot run it.
        """
        self.check_streams()
        if state is not None and not isinstance(state, Tensor | tuple | list):
            raise ShapeError(
                f"{self._name}.stream: state must be what the layer returned, a tensor or a tuple "
                f"of tensors, got {state!r}; the batch size is given by its name, batch_size=4"
            )
        if batch_size is None and state is not None:
            state = self.over_batch_axis(Tensor.unsqueeze, state)
        like = like_of((*self.parameters(), *self.buffers())).detach()
        x = like.new_zeros(1, 1 if batch_size is None else batch_size, self.input_size)
        try:
            steps = self.steps(state, x[0])
        except ShapeError as error:
            error.add_note(f"in {self._name}.stream, batch_size={batch_size}: it is B of the state")
            raise
        return Stream(self._name, x[0], steps, batch_size is None)

    def steps(self, state: Any, x: Tensor) -> Steps:
        """What runs the layer one step a call, from this state.

        x: [B, I], an example."""
        raise OptionError(f"{self._name}.stream: this layer has no stream; call its step")

    def over_batch_axis(self, change: Callable[[Tensor, int], Tensor], state: Any) -> Any:
        """The state with each part changed, given the axis that its batch is on."""
        return map_state(lambda part: change(part, self.state_batch_axis), state)

    def check_streams(self) -> None:
        """Raise OptionError where the layer cannot run step by step."""
        if self.reverse:
            raise OptionError(
                f"{self._name}.step: a layer that runs backwards needs the whole sequence; "
                "call layer(x) instead"
            )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _batched(
        self, x: Tensor, state: Any, time_first: bool = False, batched: bool | None = None
    ) -> tuple[Tensor, Any, bool]:
        """x as [T, B, I], the state with a batch axis, and whether they came so."""
        self.check_rank(x, state)
        if batched is None:
            batched = x.dim() == 3
        if not batched:
            x, state = x.unsqueeze(1), self.over_batch_axis(Tensor.unsqueeze, state)
        elif self.batch_first and not time_first:
            x = x.transpose(0, 1)
        self.check_input(x)
        return x, state, batched

    def check_rank(self, x: Any, state: Any) -> None:
        """Raise ShapeError where x is not a tensor of two or three axes."""
        if not isinstance(x, Tensor):
            raise ShapeError(f"{self._name}: x must be a tensor, got a {type(x).__name__}")
        check_dense(f"{self._name}: x", x)
        if x.dim() not in (2, 3):
            axes = "[B, T, I]" if self.batch_first else "[T, B, I]"
            raise ShapeError(
                f"{self._name}: x must be {axes}, or [T, I] for one sequence, got {_shape(x)}"
            )

    def check_input(self, x: Tensor) -> None:
        """Raise ShapeError where x is not of the size, the device and the dtype of the layer."""
        name, weight = self._name, self.example()
        if x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: the last axis of x must be input_size = {self.input_size}, got "
                f"{_shape(x)}"
            )
        if weight is None:
            return
        if weight.device != x.device:
            raise ShapeError(
                f"{name}: x is on {x.device}, the layer on {weight.device}; use "
                f"x.to('{weight.device}')"
            )
        if weight.dtype is not x.dtype and not autocasts(x):
            raise ShapeError(
                f"{name}: x is {x.dtype}, the layer {weight.dtype}; use x.to({weight.dtype}) or "
                f"layer.to({x.dtype})"
            )

    def example(self) -> Tensor | None:
        """One of the layer's parameters, which tells its device and dtype; None: it has none."""
        return next(self.parameters(), None)

    def _as_given(self, batched: bool) -> Callable[[Tensor], Tensor]:
        """[..., T, B, S] in the layout that x came in."""
        if not batched:
            return lambda s: s.squeeze(-2)
        return (lambda s: s.transpose(-3, -2)) if self.batch_first else (lambda s: s)

    def _sequence(
        self, x: Tensor, lengths: Any, reset: Tensor | None, truncate: Any, batched: bool
    ) -> SequenceInfo:
        T, B = x.shape[:2]
        if truncate is not None:
            require_positive(truncate=truncate)
            truncate = min(int(truncate), MOST_STEPS)
        if lengths is not None:
            lengths = checked_lengths(lengths, T, B, x.device)
        if reset is not None:
            if not isinstance(reset, Tensor):
                reset = torch.as_tensor(reset, device="cpu")
            if reset.dtype is not torch.bool:
                raise ShapeError(f"reset must be bool, got {reset.dtype}; use reset.bool()")
            if not batched:
                reset = reset.unsqueeze(1)
            elif self.batch_first:
                reset = reset.transpose(0, 1)
            if reset.shape != (T, B):
                raise ShapeError(
                    f"reset must have the shape of x without its last axis, here T={T}, B={B}; "
                    f"got {_shape(reset)} as [T, B]"
                )
            if reset.is_meta and not x.is_meta:
                raise ShapeError("reset is on meta, where there are no values; x is not")
            reset = reset.to(x.device)
        return SequenceInfo(lengths, reset, truncate)


def _shape(x: Tensor) -> str:
    return str(list(x.shape))


def parts_of(name: str, state: Any, count: int, what: str) -> list[Any]:
    """The state of each of ``count`` layers, None for each where there is none."""
    if state is None:
        return [None] * count
    if not isinstance(state, tuple | list) or len(state) != count:
        several = isinstance(state, tuple | list)
        given = str(len(state)) if several else f"a {type(state).__name__}"
        raise ShapeError(f"{name}: the state must be a tuple of {count}, {what}; got {given}")
    return list(state)


def check_dense(name: str, x: Tensor) -> None:
    """Raise ShapeError where x is nested, sparse, or of another layout without strides."""
    if x.is_nested:
        raise ShapeError(
            f"{name} must be a dense tensor, got a nested one; pad it with "
            "torch.nested.to_padded_tensor(x, 0.0) and pass its lengths as lengths="
        )
    if x.layout is not torch.strided:
        raise ShapeError(f"{name} must be a dense tensor, got {x.layout}; use x.to_dense()")


def check_state(name: str, parts: Any, sizes: Mapping[str, list[int]], x: Tensor) -> None:
    """Raise ShapeError where a state is not of these sizes, or not of the kind of x."""
    if not all(isinstance(part, Tensor) for part in parts):
        raise ShapeError(f"{name}: the state ({', '.join(sizes)}) must be tensors")
    found = [list(part.shape) for part in parts]
    if found != list(sizes.values()):
        raise ShapeError(
            f"{name}: state ({', '.join(sizes)}) must be {list(sizes.values())}, got {found}"
        )
    for part_name, part in zip(sizes, parts, strict=True):
        check_kind(f"{name}: state '{part_name}'", part, x, f"use {part_name}.to(x)")


def check_kind(what: str, tensor: Tensor, x: Tensor, cure: str) -> None:
    """Raise ShapeError where a tensor is on another device than x or, without autocast, of another
    dtype."""
    mixed = tensor.dtype is not x.dtype and not autocasts(x)
    if tensor.device == x.device and not mixed:
        return
    raise ShapeError(
        f"{what} is {tensor.dtype} on {tensor.device}, x is {x.dtype} on {x.device}; {cure}"
    )


def check_weights(name: str, weights: Mapping[str, Tensor], x: Tensor) -> None:
    """Raise ShapeError where a weight is on another device than x. A number, as torch has it, may
    be anywhere."""
    device = x.device
    for weight_name, weight in weights.items():
        if weight.device != device and weight.dim():
            raise ShapeError(
                f"{name}: '{weight_name}' is on {weight.device}, x on {device}; {_cure(weight, x)}"
            )


def _cure(weight: Tensor, x: Tensor) -> str:
    if weight.is_meta:
        return "it has no values yet: load them with load_state_dict(..., assign=True)"
    return f"use layer.to('{x.device}')"


def checked_lengths(lengths: Any, T: int, B: int, device: torch.device) -> Tensor:
    """lengths as [B] int64 on the device; ShapeError where they are not 0 ... T of B sequences."""
    if not isinstance(lengths, Tensor):
        try:
            lengths = torch.as_tensor(lengths, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ShapeError(f"lengths must be B whole numbers, got {lengths!r}: {error}") from None
    check_dense("lengths", lengths)
    if lengths.is_meta and device.type != "meta" and not being_traced():
        raise ShapeError(f"lengths are on meta, where there are no numbers, and x on {device}")
    if lengths.dim() == 0:
        lengths = lengths.reshape(1)
    if lengths.numel() == 0:
        lengths = lengths.long()  # an empty list has no type of its own
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype is torch.bool:
        raise ShapeError(f"lengths must be whole numbers, got {lengths.dtype}")
    if lengths.shape != (B,):
        raise ShapeError(f"lengths must be [B] = [{B}], got {_shape(lengths)}")
    lengths = lengths.to(dtype=torch.int64)
    # A graph checks them when it runs; on meta and in a fake tensor there are no values to check.
    if not being_traced() and all_plain([lengths]):
        check_lengths(lengths, T)
    return lengths.to(device=device)
