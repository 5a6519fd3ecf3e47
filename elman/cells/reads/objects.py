"""Objects, containers and arrays: what a step can read of them."""

from __future__ import annotations

import enum
import logging
import threading
from collections import deque, namedtuple
from collections.abc import Hashable
from operator import attrgetter, itemgetter, methodcaller
from types import (
    ClassMethodDescriptorType,
    GenericAlias,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload, OpOverloadPacket, _OpNamespace

from elman.cells.reads.code import class_content
from elman.cells.reads.probes import MISSING, array_content
from elman.cells.reads.walk import Same, Walk

#: Arrays of at most so many bytes are compared as a whole.
SMALL = 1 << 12
#: Objects that tell a step nothing.
HARMLESS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
#: Parts of classes, and functions made of names, that never change.
DESCRIPTORS = (
    type(vars(namedtuple("_", "field"))["field"]),
    type(attrgetter("_")),
    type(itemgetter(0)),
    type(methodcaller("_")),
    GenericAlias,
    UnionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
#: Objects of torch and NumPy that never change.
CONSTANT = (
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
    *(OpOverload, OpOverloadPacket, _OpNamespace, type(torch.ops), torch.jit.ScriptFunction),
    *(np.dtype, np.ufunc),
)
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
#: Bases whose state is in no attribute, and is looked at.
KNOWN = frozenset((object, *CONTAINERS, int, float, complex, str, bytes))


def itself(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """What stands for itself, whatever is in it."""
    return Same(value)


def member(walk: Walk, value: enum.Enum, where: str, whole: bool) -> Hashable:
    """A member of an enumeration: itself, its value, and what else was set on it."""
    return Same(value), walk.variables(vars(value), where, whole=True)


def object_content(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """An object: its class, and those of its attributes that the code mentions."""
    kind = type(value)
    of = walk.maker(kind)
    if isinstance(value, CONSTANT):
        return Same(value)
    if kind.__module__.startswith("numpy") and "random" in kind.__module__:
        return walk.unknown(where, "draws random numbers")
    if isinstance(value, np.generic):
        return kind, value.tobytes()
    hidden = next((c for c in kind.__mro__ if c not in KNOWN and _hides(c)), None)
    if hidden is not None:
        return walk.unknown(where, f"is a {kind.__qualname__}, which hides its state")
    whole = whole or of != "user"
    walk.probes.attributes.append((value, "__class__", kind))
    parts: list[Hashable] = [Same(kind) if whole else class_content(walk, kind, where)]
    if isinstance(value, CONTAINERS):
        parts.append(container_content(walk, value, where, whole))
    elif isinstance(value, int | float | complex | str | bytes):
        parts.append(repr(value))
    if hasattr(value, "__dict__"):
        parts.append(walk.variables(value.__dict__, where, whole))
    for name in _slots(kind):
        if walk.reads(name, whole):
            part = getattr(value, name, MISSING)
            walk.probes.attributes.append((value, name, part))
            parts.append((name, walk.key(part, f"{where}.{name}", whole)))
    return tuple(parts)


def container_content(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """All of a dict, list, tuple or set."""
    walk.probes.where[id(value), None] = where
    if isinstance(value, dict):
        walk.probes.keys(value, in_order=True)
        return type(value), tuple(
            (walk.key(k, where), walk.item(value, k, f"{where}[{k!r}]", whole)) for k in list(value)
        )
    if not isinstance(value, tuple | frozenset):
        walk.probes.orders.append((value, tuple(value)))
    if isinstance(value, set | frozenset):
        return type(value), frozenset(walk.key(v, where, whole) for v in value)
    return type(value), tuple(walk.key(v, f"{where}[{n}]", whole) for n, v in enumerate(value))


def collection(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """A container; of a kind of the user's own, its attributes too."""
    own = type(value) not in CONTAINERS and walk.maker(type(value)) == "user"
    return (
        object_content(walk, value, where, whole)
        if own
        else container_content(walk, value, where, whole)
    )


def array_of_numpy(walk: Walk, value: np.ndarray, where: str, whole: bool) -> Hashable:
    """The numbers of an array of NumPy."""
    if value.nbytes > SMALL or value.dtype.hasobject:
        return walk.unknown(where, "is a large array; make it a buffer, with register_buffer")
    content = array_content(value)
    walk.probes.arrays.append((value, content))
    return content


def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return tuple(n for n in names if n not in ("__dict__", "__weakref__"))


def _hides(kind: type) -> bool:
    """Whether objects of a class have memory that is in no attribute: one written in C."""
    slots = vars(kind).get("__slots__", ())
    seen = 1 if isinstance(slots, str) else len(slots)
    seen += sum(name in vars(kind) and name not in slots for name in ("__dict__", "__weakref__"))
    base = kind.__base__ or object
    return kind.__basicsize__ - base.__basicsize__ > 8 * seen
