"""torch.nn's RNN, LSTM and GRU, with lengths, resets and regularisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import settings
from elman.backends import torch_fused
from elman.backends.operands import autocasts
from elman.cells import StackedCell
from elman.cells.cell import State, as_returned, as_tuple
from elman.errors import OptionError, ShapeError
from elman.layers.dynamo import let_through
from elman.layers.equations import Equations
from elman.layers.layer import Layer, map_state
from elman.layers.plan import PlanReport, plan_both, plan_cell
from elman.layers.recurrent import options_of, sweep, swept
from elman.layers.regularisers import Regularisers
from elman.layers.steps import Steps, on_top, stepper, steps_of
from elman.layers.torch_checks import TorchChecks
from elman.runtime.scan import Execution, Scan, SequenceInfo

#: What torch.nn's three are built with that decides the shapes of their weights.
OPTIONS = frozenset(("mode", "input_size", "hidden_size", "proj_size", "bias", "bidirectional"))

#: What a drop-in layer has beyond torch.nn's.
EXTRAS = ("equations", "regularisers", "execution")


class TorchLike(TorchChecks, Layer):
    """What the three share. The constructor, the parameters, their names and first values are
    torch.nn's own, by inheritance; the equation is that of the elman cell."""

    state_batch_axis = 1
    mode: str
    hidden_size: int
    num_layers: int
    bias: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    equations: Equations
    regularisers: Regularisers
    execution: Execution

    def __init__(
        self,
        *args: Any,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        weight_drop: float = 0.0,
        backend: str = "auto",
        memory: str | int = "auto",
        deterministic: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        rates = input_dropout, state_dropout, zoneout, weight_drop
        added = extras(self, Regularisers(*rates), Execution(backend, memory, deterministic))
        self.__dict__.update(added)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in OPTIONS and "equations" in self.__dict__:  # a pruned layer is a smaller one
            self.equations = Equations.of(self)

    def _cell(self, layer: int) -> StackedCell:
        return self.equations.cells[min(layer, 1)]

    @property
    def output_size(self) -> int:
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        lengths: Tensor | list[int] | None = None,
        reset: Tensor | None = None,
        truncate: int | None = None,
        return_states: bool = False,
    ) -> Any:
        """As torch.nn's forward; `Layer.forward` says what the further arguments mean.

        input: [T, B, I], [B, T, I] where batch_first, [T, I], or a PackedSequence.
        hx: h_0, or (h_0, c_0) for the LSTM, each [num_layers * directions, B, S].
        return_states: also h (and c) at every step, each [num_layers * directions, T, B, S].
        """
        if not isinstance(input, PackedSequence):
            return super().forward(input, hx, lengths, reset, truncate, return_states)
        if lengths is not None or reset is not None or return_states:
            raise OptionError(
                "a PackedSequence brings its own lengths and takes no lengths=, reset= or "
                "return_states=; unpack it with torch.nn.utils.rnn.pad_packed_sequence"
            )
        return self._packed(input, hx, truncate)

    def _packed(self, packed: PackedSequence, hx: Any, truncate: int | None) -> Any:
        data, batch_sizes, order, back = packed
        # Without its indices the batch keeps the order that it is packed in.
        x, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
        given = _permuted(self._parts(hx, x), order)
        self.check_forward_args(data, as_returned(given), batch_sizes)
        sequence = SequenceInfo(lengths.to(x.device), None, truncate)
        outputs, state, _ = self._run(x, given, sequence, False)
        packed_data = pack_padded_sequence(outputs, lengths).data
        state = as_returned(_permuted(as_tuple(state), back))
        return PackedSequence(packed_data, batch_sizes, order, back), state

    def run(
        self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool = False
    ) -> tuple[Tensor, Any, Any]:
        given = self._parts(state, x)
        if state is not None or type(self).check_forward_args is not TorchChecks.check_forward_args:
            as_given = x.transpose(0, 1) if self.batch_first else x  # as torch's own would see it
            self.check_forward_args(as_given, as_returned(given), None)
        return self._run(x, given, sequence, all_states)

    def _run(
        self, x: Tensor, given: State, sequence: SequenceInfo, all_states: bool
    ) -> tuple[Tensor, Any, Any]:
        if self._runs_on_torch(x, sequence, all_states):
            return self._on_torch(x, given, sequence)
        kind = self._returned_dtype(x)
        last: list[State] = []
        history: list[State] = []
        for layer in range(self.num_layers):
            found = swept(self._sweeps(layer, x, given, sequence, all_states))
            history += [states for states, _ in found]
            last += [end for _, end in found]
            outputs = [states[0] for states, _ in found]
            x = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        state, states = _stacked(last), _stacked(history) if all_states else None
        if kind is not x.dtype:
            x, state, states = (
                map_state(lambda s: s.to(kind), each) for each in (x, state, states)
            )
        return x, state, states

    def _returned_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype that torch.nn's layer returns: x's, but autocast's where it is an RNN."""
        if self.mode.startswith("RNN") and x.dtype is not torch.float64 and autocasts(x):
            return torch.get_autocast_dtype(x.device.type)
        return x.dtype

    def _sweeps(
        self, layer: int, x: Tensor, given: State, sequence: SequenceInfo, all_states: bool
    ) -> list[Scan]:
        cell, directions = self._cell(layer), self._directions
        return [
            sweep(
                cell,
                self.weights(cell, layer * len(directions) + number, x),
                x,
                tuple([part[layer * len(directions) + number] for part in given]),
                sequence,
                reverse=bool(suffix),
                regularisers=self.regularisers,
                training=self.training,
                all_states=all_states,
                execution=self.execution,
            )
            for number, suffix in enumerate(directions)
        ]

    def plan(self, *, batch_size: int = 16, training: bool | None = None) -> PlanReport:
        training = self.training if training is None else training
        weight = self.example()
        if weight is None:
            raise OptionError(
                f"{self._name}.plan: this copy has no parameters of its own, as a replica of "
                "DataParallel; ask the layer that it was made of"
            )
        rows = [f"l{k}{suffix}" for k in range(self.num_layers) for suffix in self._directions]
        cells = [self._cell(k) for k in range(self.num_layers) for _ in self._directions]
        plans = [
            plan_cell(
                cell,
                self.weights(cell, number, weight),
                self.regularisers,
                self.execution,
                training=training,
                batch_size=batch_size,
                place=row,
            )
            for number, (row, cell) in enumerate(zip(rows, cells, strict=True))
        ]
        if self.bidirectional:
            pairs = zip(plans[::2], plans[1::2], strict=True)
            both = (plan_both(pair, batch_size, self.execution) for pair in pairs)
            plans = [plan for pair in both for plan in pair]
        if self._runs_on_torch(weight, SequenceInfo(), all_states=False):
            reason = torch_fused.reason(weight)
            plans = [replace(plan, backend="torch", reason=reason) for plan in plans]
        return PlanReport(tuple(plans))

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _runs_on_torch(self, x: Tensor, sequence: SequenceInfo, all_states: bool) -> bool:
        """Whether torch's own fused kernels (cuDNN) run it: where elman has none for the device,
        and nothing is asked for that they do not have."""
        if not torch_fused.has_kernels(x) or 0 in x.shape:
            return False
        rates = self.regularisers
        busy = rates.zoneout or (
            self.training and (rates.input_dropout or rates.state_dropout or rates.weight_drop)
        )
        extra = sequence.reset is not None or sequence.truncate is not None or all_states
        if busy or extra:
            return False
        if torch.compiler.is_compiling() and sequence.lengths is not None:
            return False  # packing needs the values of the lengths, which a graph has not
        whole = sequence.lengths is None or bool((sequence.lengths > 0).all())
        return whole and settings.backend(self.execution.backend) == "auto"

    def _on_torch(self, x: Tensor, given: State, sequence: SequenceInfo) -> tuple[Tensor, Any, Any]:
        steps, hx = len(x), as_returned(given)
        run = super(Layer, self).forward  # torch.nn's own
        if sequence.lengths is not None:
            lengths = sequence.lengths.cpu()
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            found, state = run(packed, hx)
            x, _ = pad_packed_sequence(found, total_length=steps)
        elif self.batch_first:
            x, state = run(x.transpose(0, 1), hx)
            x = x.transpose(0, 1)
        else:
            x, state = run(x, hx)
        return x, state, None

    def _parts(self, hx: Any, x: Tensor) -> State:
        """The state passed in, or zeros, in parts."""
        sizes = self._cell(0).state_sizes
        if hx is None:
            rows = self.num_layers * (2 if self.bidirectional else 1)
            return tuple(x.new_zeros(rows, x.shape[1], size) for size in sizes.values())
        parts = as_tuple(hx) if isinstance(hx, Tensor | tuple | list) else ()
        if len(parts) != len(sizes) or not all(isinstance(part, Tensor) for part in parts):
            several = "a tensor" if len(sizes) == 1 else f"a tuple of {len(sizes)} tensors"
            found = f"{len(parts)} parts" if parts else repr(hx)
            raise ShapeError(
                f"{self._name}: hx must be {several} ({', '.join(sizes)}), each "
                f"[num_layers * directions, B, size], got {found}"
            )
        return parts

    def steps(self, state: Any, x: Tensor) -> Steps:
        given = self._parts(state, x[None])
        first = x.unsqueeze(1 if self.batch_first else 0)  # as a sequence of one step
        self.check_forward_args(first, as_returned(given), None)
        found: list[Steps] = []
        for layer in range(self.num_layers):
            cell = self._cell(layer)
            noise = self.regularisers.noise(cell, x[None], training=False)
            weights, here = self.weights(cell, layer, x), tuple(part[layer] for part in given)
            found.append(steps_of(stepper(cell, weights, noise, here, self.execution)))
        return on_top(found)

    def extra_repr(self) -> str:
        return ", ".join((super().extra_repr(), *options_of(self.regularisers, self.execution)))

    def check_streams(self) -> None:
        if self.bidirectional:
            raise OptionError(f"{self._name}.step: a bidirectional layer needs the whole sequence")
        self.regularisers.check_streams(self._name, self.training)


class RNN(TorchLike, nn.RNN):
    """torch.nn.RNN: `elman.cells.Elman` in layers, one or both directions.

        h_t = tanh(W x_t + b + U h_{t-1} + c),   or relu

    Takes torch.nn.RNN's arguments and state_dict, and by keyword the rates of `Regularisers` and
    the options of `Execution`.
    """


class LSTM(TorchLike, nn.LSTM):
    """torch.nn.LSTM: `elman.cells.LSTM` (`ProjectedLSTM`) in layers, one or both directions.

        c_t = f * c_{t-1} + i * g,   h_t = o * tanh(c_t)

    Takes torch.nn.LSTM's arguments and state_dict, and by keyword the rates of `Regularisers` and
    the options of `Execution`.
    """


class GRU(TorchLike, nn.GRU):
    """torch.nn.GRU: `elman.cells.GRU` in layers, one or both directions.

        h_t = (1 - z) * n + z * h_{t-1}

    Takes torch.nn.GRU's arguments and state_dict, and by keyword the rates of `Regularisers` and
    the options of `Execution`.
    """


let_through(TorchLike)


def extras(layer: nn.Module, regularisers: Regularisers, execution: Execution) -> dict[str, Any]:
    """What a drop-in layer has beyond torch.nn's, by name.

    Raises OptionError where a rate names a part of the state that the layer has not."""
    equations = Equations.of(layer)
    regularisers.check_parts(equations.cells[0])
    return dict(zip(EXTRAS, (equations, regularisers, execution), strict=True))


def _stacked(states: list[State]) -> Any:
    if len(states) == 1 and not torch.is_grad_enabled():
        return as_returned(tuple([part[None] for part in states[0]]))
    return as_returned(tuple(torch.stack(part) for part in zip(*states, strict=True)))


def _permuted(parts: State, order: Tensor | None) -> State:
    return parts if order is None else tuple(part.index_select(1, order) for part in parts)
