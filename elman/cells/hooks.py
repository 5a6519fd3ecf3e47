"""Hooks on a cell and its modules: which of them a plan may contain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

#: Where a module keeps the hooks that calling it runs.
CALLED = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
#: The hooks that calling any module of the process runs.
GLOBAL = tuple(getattr(torch_modules, f"_global{name}") for name in CALLED)


def hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than run its ``forward``."""
    mapping = module.__dict__
    return any(mapping[name] for name in CALLED)


def is_hooked(cell: nn.Module) -> bool:
    """Whether the cell or one of its modules is `hooked`."""
    return any(map(hooked, cell.modules()))


def computed_by_hook(module: nn.Module, name: str) -> bool:
    """Whether a hook computes this weight, as "U.weight", at each call anew."""
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    return bool(owner.__dict__["_forward_pre_hooks"]) and attribute in owner.__dict__


def step_of(cell: Any) -> Callable[..., Any]:
    """What runs one step of a cell: ``step``, or the cell itself, where it has hooks."""
    run: Callable[..., Any] = cell if hooked(cell) else cell.step
    return run


def without_hooks(clone: nn.Module) -> None:
    """Take the hooks from a copy of a cell, as `bind` makes it: the cell keeps its own."""
    for module in clone.modules():
        module.__dict__.update((name, OrderedDict()) for name in CALLED)


def impure(module: nn.Module, hook: Any) -> str:
    """Why a hook has to run at every step; "" where all it does is compute a weight from others."""
    kind = type(hook)
    if isinstance(hook, SpectralNorm) and kind.__call__ is SpectralNorm.__call__:
        if not module.training:
            return ""
        return (
            "torch.nn.utils.spectral_norm, which while training changes its buffers at each step; "
            "use torch.nn.utils.parametrizations.spectral_norm"
        )
    for pure in (WeightNorm, BasePruningMethod):
        if isinstance(hook, pure) and kind.__call__ is pure.__call__:
            return ""
    name = getattr(hook, "__qualname__", kind.__qualname__)
    return (
        f"a hook ({name}), which has to run at each step; remove it, or compute a weight "
        "from others with torch.nn.utils.parametrize"
    )
