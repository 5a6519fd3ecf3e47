"""What a step can read beside its tensors, at one moment.

A step reads its cell, the cell's modules and classes, the functions that it calls, and what these
name: module globals, closures, defaults, objects of the user's own. `Snapshot` walks all of it,
by the names that the code mentions, and remembers it in two forms: a key, equal for equal
content, and a flat list of probes, which are compared at every call.

Code and objects of torch, numpy, Python and installed packages are taken not to change.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import nn

from elman.cells.reads import code, modules, objects
from elman.cells.reads.walk import Contents, Walk


class Snapshot:
    """What the step of a module can read beside its tensors, at one moment.

    key: equal for equal content. reason: why it cannot be known, "" where it can.
    idle: tensors among the attributes of modules that no code mentions, by qualified name.
    """

    def __init__(self, cell: nn.Module) -> None:
        names = frozenset(("step", "forward"))
        while True:
            walk = Walk(cell, names, CONTENTS)
            if walk.names == names:
                break
            names = frozenset(walk.names)
        self.key: Hashable = walk.content
        self.reason = walk.reason
        self.idle = frozenset(walk.idle)
        self.probes = walk.probes

    def holds(self) -> bool:
        """Whether everything is as it was, by identity: where not, it may still be equal."""
        return self.probes.hold()


def _wrapping(*names: str) -> Callable[[Walk, Any, str, bool], Hashable]:
    """The content of an object whose attributes of these names never become other objects."""

    def content(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
        return type(value), tuple(walk.key(getattr(value, name), where, whole) for name in names)

    return content


#: How the content of a value is found, by its type.
CONTENTS: Contents = (
    (nn.Module, modules.module_content),
    (FunctionType, code.function_content),
    (BuiltinFunctionType, code.builtin_content),
    (MethodType, _wrapping("__func__", "__self__")),
    (enum.Enum, objects.member),
    (type, code.class_value),
    (ModuleType, code.module_of_python),
    (objects.HARMLESS, objects.itself),
    (objects.DESCRIPTORS, objects.itself),
    (property, _wrapping("fget")),
    ((staticmethod, classmethod), _wrapping("__func__")),
    (functools.cached_property, _wrapping("func")),
    (functools.partial, _wrapping("func", "args", "keywords")),
    (functools._lru_cache_wrapper, code.cached_function),
    (np.ndarray, objects.array_of_numpy),
    (objects.CONTAINERS, objects.collection),
    (object, objects.object_content),
)
