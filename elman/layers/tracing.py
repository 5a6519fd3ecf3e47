"""Layers under tracers that read Python itself."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn
from torch.fx import Proxy

from elman.errors import BackendError


def as_leaf(layer: nn.Module, x: Proxy, state: Any, options: dict[str, Any]) -> Any:
    """The node that stands for the layer in a graph of `torch.fx`, as for torch.nn's own layers.

    Raises BackendError where the layer itself is what is traced.
    """
    place = x.tracer.path_of_module(layer)  # type: ignore[attr-defined]
    if not place:
        raise BackendError(
            f"torch.fx takes {type(layer).__name__} as one operation, as it does torch.nn.LSTM: "
            "trace a module that holds the layer, or export the layer with torch.export"
        )
    given = {name: v for name, v in options.items() if v is not None and v is not False}
    return x.tracer.create_proxy("call_module", place, (x, state), given)


def refuse_script(layer: nn.Module) -> NoReturn:
    """Raise BackendError: TorchScript compiles Python, and a layer is compiled already."""
    raise BackendError(
        f"torch.jit.script cannot compile {type(layer).__name__}: use torch.jit.trace or "
        "torch.export, which hold its loop as one operator, or turn the model into torch.nn's own "
        "layers with elman.to_torch"
    )
