"""Modules of torch, the cell among them: what a step can read of them."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from elman.cells.hooks import CALLED, GLOBAL, impure
from elman.cells.reads.code import class_content
from elman.cells.reads.names import mentioned
from elman.cells.reads.walk import Same, Walk

#: Attributes of a module that are tensors, elman's own, or none of a step's business.
SKIPPED = frozenset(
    (
        *("_parameters", "_buffers", "_non_persistent_buffers_set", "_plan_cache", "state_mask"),
        *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks"),
        *("_load_state_dict_post_hooks", "_is_full_backward_hook", "_is_hf_initialized"),
        *("_forward_hooks_always_called", "_is_replica", "_former_parameters"),
        *("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    )
)


def module_content(walk: Walk, module: nn.Module, where: str, whole: bool) -> Hashable:
    """A module of torch: its attributes, classes, hooks and children; its tensors are weights."""
    if isinstance(module, torch.jit.ScriptModule):
        return walk.unknown(where, "is a module of TorchScript")
    kind = parametrize.type_before_parametrizations(module)
    mapping = module.__dict__
    # The code of torch's modules is not looked at: it may read whatever they have.
    whole = any(c is not nn.Module and c.__module__.startswith("torch.") for c in kind.__mro__)
    walk.probes.attributes.append((module, "__class__", type(module)))
    walk.probes.keys(mapping)
    children = mapping["_modules"]
    walk.probes.keys(children, in_order=True)
    parts: list[Hashable] = [class_content(walk, kind, where), _hooks(walk, module, where)]
    for name in list(mapping):
        if name in SKIPPED or name in CALLED or name == "_modules":
            continue
        if name == "training" and whole and not (walk.reads(name) or _trains(kind)):
            continue
        if isinstance(mapping[name], Tensor) and not walk.reads(name, whole):
            walk.idle.append(f"{where}.{name}".removeprefix("self."))
        elif isinstance(mapping[name], Tensor):
            walk.probes.tensors.append((mapping, name))  # a weight, as parameters are
        elif walk.reads(name, whole):
            parts.append((name, walk.named(mapping, name, f"{where}.{name}", whole)))
    for name in list(children):
        if name != "parametrizations" and walk.reads(name, whole):
            parts.append((name, walk.named(children, name, f"{where}.{name}")))
    return tuple(parts)


def _hooks(walk: Walk, module: nn.Module, where: str) -> Hashable:
    mapping, parts = module.__dict__, []
    for name in CALLED:
        hooks = mapping[name]
        walk.probes.items.append((mapping, name, hooks))
        walk.probes.keys(hooks)
        parts.append(tuple(_hook(walk, module, hook, where) for hook in list(hooks.values())))
    if (module is not walk.root or any(parts)) and not walk.hooked:
        walk.hooked = True
        for hooks in GLOBAL:
            walk.probes.keys(hooks)
        if any(GLOBAL):
            walk.reason = walk.reason or "a hook on all modules has to see those of each step"
    return tuple(parts)


def _hook(walk: Walk, module: nn.Module, hook: Any, where: str) -> Hashable:
    training = walk.item(module.__dict__, "training", where)
    why = impure(module, hook)
    if why:
        walk.reason = walk.reason or f"{where} has {why}"
        return ()
    return Same(type(hook)), training, walk.variables(vars(hook), where, whole=True)


@lru_cache(maxsize=1024)
def _trains(kind: type[nn.Module]) -> bool:
    """Whether the code of a module of torch does something else while training."""
    functions = (f for c in kind.__mro__ if c is not nn.Module for f in vars(c).values())
    return any(
        "training" in mentioned(f.__code__).attributes
        for f in functions
        if isinstance(f, FunctionType) and f.__name__ != "__init__"
    )
