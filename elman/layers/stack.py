"""Layers on top of each other."""

import copy
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from elman.backends.sequence import SequenceInfo
from elman.cells.cell import Cell
from elman.errors import OptionError, require_probability
from elman.layers.dropout import dropout
from elman.layers.layer import Layer, parts_of
from elman.layers.plan import PlanReport
from elman.layers.recurrent import Recurrent
from elman.layers.steps import Steps, joined, on_top


def as_layer(layer: Layer | Cell, reverse: bool = False, batch_first: bool = False) -> Layer:
    """The layer itself, or the layer that runs this cell."""
    if isinstance(layer, Cell):
        return Recurrent(layer, reverse=reverse, batch_first=batch_first)
    if not isinstance(layer, Layer):
        raise OptionError(f"expected an elman layer or an elman.Cell, got {layer!r}")
    return layer


class Stack(Layer):
    """A deep recurrent network: each layer reads the outputs of the one below.

        u_l = layer_l(norm_l(u_{l-1})) + u_{l-1} where residual and the sizes are equal
        outputs = norm(u_L)

    x: [T, B, I]   ->   outputs: [T, B, O of the last], state: a tuple, one a layer
    layers: layers or cells, from the bottom.
    dropout: between layers, a new mask at every step (as torch.nn.LSTM's).
    residual: add the input of each layer to its output. layer_norm: normalise the input of each
        layer and the outputs of the last.
    reverse, batch_first: for cells; layers bring their own.

    Raises OptionError where sizes or directions do not fit.
    """

    def __init__(
        self,
        layers: Iterable[Layer | Cell],
        dropout: float = 0.0,
        residual: bool = False,
        *,
        layer_norm: bool = False,
        reverse: bool = False,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        require_probability(dropout=dropout)
        self.layers = nn.ModuleList(as_layer(layer, reverse, batch_first) for layer in layers)
        self.dropout = dropout
        self.residual = residual
        self._check()
        sizes = [layer.input_size for layer in self._layers] + [self.output_size]
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes) if layer_norm else None

    @property
    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _check(self) -> None:
        if not self._layers:
            raise OptionError("Stack needs at least one layer")
        for number, (below, above) in enumerate(pairwise(self._layers), start=1):
            if above.input_size != below.output_size:
                raise OptionError(
                    f"Stack: layer {number} takes input_size {above.input_size}, but layer "
                    f"{number - 1} puts out {below.output_size}"
                )
            if (above.batch_first, above.reverse) != (below.batch_first, below.reverse):
                raise OptionError(
                    f"Stack: layers {number - 1} and {number} must agree in batch_first and reverse"
                )
        if self.residual and not any(x.input_size == x.output_size for x in self._layers):
            raise OptionError("Stack: residual=True needs a layer with equal input and output size")

    @property
    def input_size(self) -> int:  # type: ignore[override]
        return self._layers[0].input_size

    @property
    def output_size(self) -> int:
        return self._layers[-1].output_size

    @property
    def batch_first(self) -> bool:  # type: ignore[override]
        return self._layers[0].batch_first

    @property
    def reverse(self) -> bool:  # type: ignore[override]
        return self._layers[0].reverse

    def run(
        self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool = False
    ) -> tuple[Tensor, Any, Any]:
        given = parts_of("Stack", state, len(self.layers), "one entry a layer")
        last, history = [], []
        if self.residual or self.norms is not None:  # these read the padding
            x = sequence.mask(x)
        for number, (layer, start) in enumerate(zip(self._layers, given, strict=True)):
            outputs, end, states = layer.run(self._normed(number, x), start, sequence, all_states)
            if self._skips(layer):
                outputs = outputs + x
            top = number == len(self.layers) - 1
            x = outputs if top else dropout(outputs, self.dropout, self.training)
            last.append(end)
            history.append(states)
        if self.norms is not None:
            x = sequence.mask(self._normed(len(self.layers), x))
        return x, tuple(last), tuple(history)

    def plan(self, *, batch_size: int = 16, training: bool | None = None) -> PlanReport:
        plans = (x.plan(batch_size=batch_size, training=training) for x in self._layers)
        parts = (plan.below(f"layers.{number}") for number, plan in enumerate(plans))
        return PlanReport(tuple(cell for part in parts for cell in part))

    def steps(self, state: Any, x: Tensor) -> Steps:
        given = parts_of("Stack", state, len(self.layers), "one entry a layer")
        norms = [copy.deepcopy(norm).requires_grad_(False) for norm in self.norms or ()]
        found: list[Steps] = []
        for number, (layer, start) in enumerate(zip(self._layers, given, strict=True)):
            steps = layer.steps(start, x.new_zeros(len(x), layer.input_size))
            found.append(joined(steps, norms[number] if norms else None, self._skips(layer)))
        if norms:
            found.append(Steps((), norms[-1]))
        return on_top(found)

    def _skips(self, layer: Layer) -> bool:
        return self.residual and layer.input_size == layer.output_size

    def _normed(self, number: int, x: Tensor) -> Tensor:
        return x if self.norms is None else self.norms[number](x)

    def over_batch_axis(self, change: Callable[[Tensor, int], Tensor], state: Any) -> Any:
        if state is None:
            return None
        parts = parts_of("Stack", state, len(self.layers), "one entry a layer")
        pairs = zip(self._layers, parts, strict=True)
        return tuple(layer.over_batch_axis(change, part) for layer, part in pairs)

    def check_streams(self) -> None:
        for layer in self._layers:
            layer.check_streams()

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}, residual={self.residual}"
