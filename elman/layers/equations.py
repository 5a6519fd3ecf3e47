"""The equations of torch.nn's RNN, LSTM and GRU: cells without values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from elman.cells import GRU, LSTM, Elman, ProjectedLSTM, StackedCell
from elman.compiler.trace.untraced import untraced


class Equations:
    """The cells of the first layer and of those above; all layers alike share them."""

    def __init__(self, *options: Any) -> None:
        self.options = options
        self.cells = tuple(_equation(*one) for one in options)

    @staticmethod
    def of(layer: Any) -> Equations:
        """Those of a layer of torch.nn's, or of a drop-in one, as it is now."""
        above = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)
        rest = layer.hidden_size, layer.proj_size, layer.bias
        return Equations(*((layer.mode, size, *rest) for size in (layer.input_size, above)))

    def __deepcopy__(self, memo: object) -> Equations:
        return self

    def __reduce__(self) -> tuple[type[Equations], Any]:
        return Equations, self.options


@lru_cache(maxsize=256)
def _equation(*options: Any) -> StackedCell:
    with untraced():  # it is kept for all layers of these options
        cell = _cell(*options)
        cell.shapes = {n: tuple(p.shape) for n, p in cell._parameters.items() if p is not None}
    return cell


def _cell(mode: str, input_size: int, hidden_size: int, proj_size: int, bias: bool) -> StackedCell:
    """The cell of that mode without values: they are the layer's own parameters."""
    if mode == "GRU":
        return GRU(input_size, hidden_size, bias, device="meta")
    if mode == "LSTM" and proj_size:
        return ProjectedLSTM(input_size, hidden_size, proj_size, bias, device="meta")
    if mode == "LSTM":
        return LSTM(input_size, hidden_size, bias, device="meta")
    nonlinearity = mode.removeprefix("RNN_").lower()
    return Elman(input_size, hidden_size, bias, activation=nonlinearity, device="meta")
