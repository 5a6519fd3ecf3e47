"""Random layers, as data: what holds which cell, with which options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from torch import nn

from elman.cells import CELLS
from elman.cells.cell import Cell
from elman.errors import OptionError
from elman.layers import GRU, LSTM, RNN, Bidirectional, Recurrent, Stack
from elman.layers.layer import Layer
from elman.testing.fuzz.cells import Drawn, fill, random_cell

Options = tuple[tuple[str, Any], ...]


class Zoo(NamedTuple):
    """A built-in cell."""

    kind: str
    input_size: int
    hidden: int

    def build(self) -> Cell:
        made: Any = CELLS[self.kind]
        cell: Cell = made(self.input_size, self.hidden, init="torch")
        return cell


class Lifted(NamedTuple):
    """`elman.Recurrent`."""

    cell: Zoo | Drawn
    options: Options = ()

    def build(self) -> Layer:
        return Recurrent(self.cell.build(), **dict(self.options))


class Both(NamedTuple):
    """`elman.Bidirectional`."""

    ahead: Lifted
    back: Lifted
    merge: str = "concat"

    def build(self) -> Layer:
        return Bidirectional(self.ahead.build(), self.back.build(), self.merge)


class Deep(NamedTuple):
    """`elman.Stack`."""

    layers: tuple[Any, ...]
    options: Options = ()

    def build(self) -> Layer:
        return Stack([layer.build() for layer in self.layers], **dict(self.options))


class Torch(NamedTuple):
    """A drop-in for a layer of torch.nn's."""

    kind: str
    input_size: int
    hidden: int
    options: Options = ()

    def build(self) -> Layer:
        kind: Any = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[self.kind]
        made: Layer = kind(self.input_size, self.hidden, **dict(self.options))
        return made


Spec = Lifted | Both | Deep | Torch


@lru_cache(maxsize=64)
def template(spec: Spec) -> Layer:
    """The layer in float64, every parameter drawn: to be copied, as its copies share its plans."""
    layer = spec.build().double()
    fill(layer, seed=0)
    return layer


def on(layer: Layer, backend: str) -> Layer:
    """The layer, with every part of it run by that backend."""
    for module in layer.modules():
        execution = getattr(module, "execution", None)
        if execution is not None:
            module.execution = replace(execution, backend=backend)
    return layer


def drawn_in(spec: Any) -> Iterable[Drawn]:
    """The random cells of a layer."""
    if isinstance(spec, Drawn):
        yield spec
    elif isinstance(spec, tuple):
        for part in spec:
            yield from drawn_in(part)


def streams(layer: nn.Module) -> bool:
    """Whether the layer can run step by step as it is."""
    try:
        layer.check_streams()  # type: ignore[operator]
    except OptionError:
        return False
    return True


# ------------------------------------------------------------------ drawing


def random_layer(draw: Random, smooth: bool) -> Spec:
    """smooth: only of cells that have no jumps."""
    while True:
        try:
            spec = _random_layer(draw, smooth)
            template(spec)
            return spec
        except OptionError:  # what does not go together
            continue


def _random_layer(draw: Random, smooth: bool) -> Spec:
    match draw.choice(("lifted", "lifted", "lifted", "both", "deep", "torch", "torch")):
        case "lifted":
            return _lifted(draw, _cell(draw, smooth), reverse=draw.random() < 0.2)
        case "both":
            return _both(draw, smooth, draw.random() < 0.3)
        case "deep":
            return _deep(draw, smooth)
        case _:
            return _torch(draw)


#: Cells whose gradient jumps in some place.
KINKED = ("li-gru", "ind-rnn", "slstm")


def _cell(
    draw: Random, smooth: bool, input_size: int | None = None, output: int | None = None
) -> Zoo | Drawn:
    """A cell; one of the built-in where it has to fit."""
    if input_size is None and output is None and draw.random() < 0.6:
        return random_cell(draw, smooth)
    kinds = [kind for kind in CELLS if not (smooth and kind in KINKED)]
    I = input_size or draw.choice((1, 2, 3, 5))
    while True:
        kind, hidden = draw.choice(kinds), output or draw.choice((1, 2, 4, 6, 17))
        made: Any = CELLS[kind]
        try:
            if output in (None, made(I, hidden, device="meta").output_size):
                return Zoo(kind, I, hidden)
        except (OptionError, ValueError):  # sizes that it does not take
            continue


def _lifted(
    draw: Random, cell: Zoo | Drawn, reverse: bool = False, batch_first: bool = False
) -> Lifted:
    options: dict[str, Any] = {}
    if reverse:
        options["reverse"] = True
    if batch_first or draw.random() < 0.15:
        options["batch_first"] = True
    if draw.random() < 0.35:
        options |= _noise(draw, cell)
    options |= _execution(draw)
    return Lifted(cell, tuple(options.items()))


def _noise(draw: Random, cell: Zoo | Drawn) -> dict[str, Any]:
    kinds: dict[str, Any] = {
        "input_dropout": 0.3,
        "zoneout": 0.25,
    }
    if isinstance(cell, Zoo) or cell.drops:
        kinds["state_dropout"] = 0.4
    if isinstance(cell, Zoo):
        kinds["weight_drop"] = 0.3
    name = draw.choice(sorted(kinds))
    return {name: kinds[name]}


def _execution(draw: Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw.random() < 0.25:
        found["memory"] = draw.choice(("recompute", "save", 1, 400))
    if draw.random() < 0.1:
        found["deterministic"] = "batch"
    return found


def _both(draw: Random, smooth: bool, batch_first: bool, input_size: int | None = None) -> Both:
    ahead = _lifted(draw, _cell(draw, smooth, input_size), batch_first=batch_first)
    batch_first = dict(ahead.options).get("batch_first", False)
    I = ahead.cell.build().input_size
    back = _lifted(draw, _cell(draw, smooth, I), reverse=True)
    options = dict(back.options) | {"batch_first": batch_first}
    return Both(ahead, Lifted(back.cell, tuple(options.items())))


def _deep(draw: Random, smooth: bool) -> Deep:
    I = draw.choice((1, 2, 3, 5))
    first: Any = _plain(draw, _cell(draw, smooth, I))
    layers = [first]
    for _ in range(draw.randint(1, 2)):
        I = layers[-1].build().output_size
        layers.append(
            Torch(draw.choice(("LSTM", "GRU")), I, draw.choice((I, 3)))
            if draw.random() < 0.3
            else _plain(draw, _cell(draw, smooth, I, draw.choice((None, I))))
        )
    sizes = [I for layer in layers for I in [layer.build()] if I.input_size == I.output_size]
    options: dict[str, Any] = {}
    if sizes and draw.random() < 0.5:
        options["residual"] = True
    # The norm of a single number is 0, with a slope of rounding errors in float32.
    alone = smooth and any(layer.build().input_size == 1 for layer in layers)
    if draw.random() < 0.3 and not alone:
        options["layer_norm"] = True
    if draw.random() < 0.3:
        options["dropout"] = 0.3
    return Deep(tuple(layers), tuple(options.items()))


def _plain(draw: Random, cell: Zoo | Drawn) -> Lifted:
    """A layer that goes with any other: time first, forwards."""
    options = dict(_lifted(draw, cell).options)
    options.pop("batch_first", None)
    return Lifted(cell, tuple(options.items()))


def _torch(draw: Random) -> Torch:
    kind = draw.choice(("RNN", "LSTM", "GRU"))
    options: dict[str, Any] = {}
    for name, rate in (("bidirectional", 0.3), ("batch_first", 0.3)):
        if draw.random() < rate:
            options[name] = True
    if draw.random() < 0.4:
        options["num_layers"] = 2
        if draw.random() < 0.4:
            options["dropout"] = 0.3
    if draw.random() < 0.2:
        options["bias"] = False
    hidden = draw.choice((1, 2, 4, 6, 17))
    if kind == "LSTM" and hidden > 1 and draw.random() < 0.2:
        options["proj_size"] = hidden - 1
    if draw.random() < 0.25:
        name = draw.choice(("state_dropout", "zoneout", "weight_drop", "input_dropout"))
        options[name] = 0.3
    return Torch(
        kind, draw.choice((1, 2, 3, 5)), hidden, tuple((options | _execution(draw)).items())
    )
