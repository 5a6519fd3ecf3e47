"""Whole models to torch.nn's recurrent layers and back.

A drop-in layer is torch.nn's by inheritance and holds its parameters under torch.nn's names, so a
conversion changes the class of a layer and leaves it what it is: the same parameters, tied ones
tied, hooks, training flags and parametrisations.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from elman.errors import OptionError
from elman.layers.layer import Layer
from elman.layers.regularisers import Regularisers
from elman.layers.torch_like import EXTRAS, GRU, LSTM, RNN, TorchLike, extras
from elman.runtime.scan import Execution

Module = TypeVar("Module", bound=nn.Module)

TO_TORCH: dict[type[nn.Module], type[nn.Module]] = {RNN: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}
#: The names of the options of `Execution`.
EXECUTION = frozenset(field.name for field in fields(Execution))
FROM_TORCH: dict[type[nn.Module], type[TorchLike]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}


def to_torch(model: Module, *, inplace: bool = False) -> Module:
    """The model with torch.nn's RNN, LSTM and GRU in the place of elman's.

    For tools that know torch.nn alone: quantization, pruning, exporters. What elman's take beyond
    torch.nn's (lengths=, reset=, step, ...) is gone from the layers.

    model: a module, or such a layer itself. inplace: change this one; else a copy is returned.

    Raises OptionError for a layer with rates that torch.nn lacks (zoneout, state_dropout,
    input_dropout, weight_drop), and changes nothing then. Warns of layers that torch.nn has no
    counterpart of, which stay as they are.
    """
    _require_module("to_torch", model)
    found = list(_found(model, TO_TORCH))
    for name, layer in found:
        _require_plain(name, layer)
    left = [name for name, layer in _layers(model) if not any(layer is one for _, one in found)]
    if left:
        warnings.warn(
            f"to_torch: torch.nn has nothing like {', '.join(left)}; left as they are",
            RuntimeWarning,
            stacklevel=2,
        )
    if not inplace:
        model = _copied("to_torch", model)
    for _, layer in _found(model, TO_TORCH):
        for name in EXTRAS:
            del layer.__dict__[name]
        _change(layer, TO_TORCH[_class(layer)])
    return model


def from_torch(model: Module, *, inplace: bool = False, **options: Any) -> Module:
    """The model with elman's RNN, LSTM and GRU in the place of torch.nn's.

    model: a module, or such a layer itself. inplace: change this one; else a copy is returned.
    options: what elman's take by keyword beside torch.nn's arguments, for all of them alike: the
        rates of `Regularisers` and the options of `Execution`.

    Raises OptionError for a value of an option that does not exist or fit, and changes nothing
    then. Warns of subclasses of torch.nn's layers, which stay as they are: what they do, elman
    cannot know.
    """
    _require_module("from_torch", model)
    if not inplace:
        model = _copied("from_torch", model)
    kinds = tuple(FROM_TORCH)
    left = [
        _named(name, module)
        for name, module in model.named_modules()
        if isinstance(module, kinds) and _class(module) not in FROM_TORCH
        if not isinstance(module, Layer)
    ]
    execution = Execution(**{key: options.pop(key) for key in EXECUTION & options.keys()})
    regularisers = Regularisers(**options)
    added = [
        (layer, extras(layer, regularisers, execution)) for _, layer in _found(model, FROM_TORCH)
    ]  # all of them, before anything changes
    for layer, new in added:
        _change(layer, FROM_TORCH[_class(layer)])
        layer.__dict__.update(new)
    if left:
        warnings.warn(
            f"from_torch: {', '.join(left)} derive from torch.nn's layers; left as they are",
            RuntimeWarning,
            stacklevel=2,
        )
    return model


def _require_module(function: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise OptionError(f"{function}: model must be a torch.nn.Module, got {model!r:.60}")


def _copied(function: str, model: Module) -> Module:
    """A copy; OptionError where torch copies none, as of weights that a hook has computed."""
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise OptionError(
            f"{function}: the model cannot be copied ({error}); convert it in place "
            f"(inplace=True), or before its weights are pruned, normed or parametrised"
        ) from error


def _found(model: nn.Module, kinds: dict[Any, Any]) -> Iterator[tuple[str, nn.Module]]:
    """The layers of these classes by name, but for those inside a layer of elman's."""
    inside = {
        id(part)
        for module in model.modules()
        if isinstance(module, Layer)
        for part in module.modules()
        if part is not module
    }
    for name, module in model.named_modules():
        if _class(module) in kinds and id(module) not in inside:
            yield name, module


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Elman's layers in a model, the outermost alone."""
    found: list[nn.Module] = []
    for name, module in model.named_modules():
        if isinstance(module, Layer):
            if not any(module is part for layer in found for part in layer.modules()):
                yield _named(name, module), module
            found.append(module)


def _class(module: nn.Module) -> type[nn.Module]:
    """Its class as it was written: a parametrised module has one of its own."""
    return parametrize.type_before_parametrizations(module)


def _named(name: str, module: nn.Module) -> str:
    return f"'{name}' ({_class(module).__name__})" if name else _class(module).__name__


def _require_plain(name: str, layer: Any) -> None:
    rates = {key: rate for key, rate in vars(layer.regularisers).items() if rate}
    if rates:
        given = ", ".join(f"{key}={rate}" for key, rate in rates.items())
        raise OptionError(
            f"to_torch: torch.nn has no {given} as {_named(name, layer)} has; set "
            f"{name or 'layer'}.regularisers = elman.layers.Regularisers() to do without"
        )


def _change(layer: nn.Module, kind: type[nn.Module]) -> None:
    """Make it a layer of that class, with the parametrisations that it has."""
    known: Any = layer.parametrizations if parametrize.is_parametrized(layer) else ()
    parametrised = list(known)
    layer.__class__ = kind
    if parametrised:
        parametrize._inject_new_class(layer)
    for name in parametrised:
        parametrize._inject_property(layer, name)
