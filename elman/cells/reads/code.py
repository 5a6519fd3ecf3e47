"""Functions, classes and modules of Python: what a step can read of them."""

from __future__ import annotations

import builtins
import enum
import sys
from collections.abc import Hashable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from elman.cells.hooks import hooked
from elman.cells.reads.names import AMBIENT, mentioned
from elman.cells.reads.probes import MISSING
from elman.cells.reads.walk import DYNAMIC, Same, Walk

#: Builtin functions that reach attributes.
SPECIAL = DYNAMIC | {"super"}
#: Builtin functions whose result cannot be known beforehand.
UNKNOWABLE = frozenset(("open", "input", "eval", "exec", "globals", "locals", "__import__"))
#: What code names that is code itself.
CODE = (ModuleType, FunctionType, BuiltinFunctionType, type)
#: What Python calls without being told to by name, but not while a step runs.
UNCALLED = frozenset(
    (
        *("__init__", "__new__", "__init_subclass__", "__set_name__", "__del__", "__repr__"),
        *("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__copy__"),
        *("__deepcopy__", "__dir__", "__sizeof__", "__class_getitem__", "__subclasshook__"),
    )
)


def class_content(walk: Walk, kind: type, where: str, made: bool = False) -> Hashable:
    """What the code reads of a class. made: it may also make an object of it."""
    how = (kind, made, walk.loose)
    if how in walk.classes:
        return Same(kind)
    walk.classes.add(how)
    parts: list[Hashable] = [Same(kind)]
    if walk.maker(type(kind)) == "user":
        parts.append(class_content(walk, type(kind), where))
    met: set[str] = set()
    for base in kind.__mro__:
        if walk.maker(base) != "user":
            continue
        mapping = vars(base)
        walk.probes.keys(mapping)
        for name, value in list(mapping.items()):
            hidden = name in met and "super" not in walk.given
            if not hidden and _runs(walk, kind, name, value, made):
                parts.append((name, walk.named(mapping, name, f"{base.__name__}.{name}")))
        met.update(mapping)
    return tuple(parts)


def _runs(walk: Walk, kind: type, name: str, value: Any, made: bool) -> bool:
    """Whether code may run, or look at, an attribute of a class."""
    if not (name.startswith("__") and name.endswith("__")):
        return walk.reads(name) and not (name == "forward" and _unhooked(walk, kind))
    uncalled = name in UNCALLED and not (made and name in ("__init__", "__new__"))
    return callable(value) and not uncalled


def _unhooked(walk: Walk, kind: type) -> bool:
    """Whether this is the cell's class and nothing calls its ``forward``."""
    return isinstance(walk.root, kind) and not hooked(walk.root)


def class_value(walk: Walk, value: type, where: str, whole: bool) -> Hashable:
    """A class as a value, of which the code may make objects."""
    if issubclass(value, enum.Enum) and walk.maker(value) == "user":
        members = tuple(walk.key(member, f"{where}.{member.name}") for member in value)
        return class_content(walk, value, where, made=True), members
    if walk.maker(value) == "user":
        return class_content(walk, value, where, made=True)
    return _foreign(walk, value, where, value.__module__, whole)


def module_of_python(walk: Walk, value: ModuleType, where: str, whole: bool) -> Hashable:
    """Of a module what the code mentions."""
    name = value.__name__
    if name == "torch" and not AMBIENT.isdisjoint(walk.given):
        return walk.unknown(
            f"torch.{min(AMBIENT & walk.given)}", "tells of what is around the step"
        )
    if name.startswith("numpy") and "random" in (*walk.given, *name.split(".")):
        return walk.unknown("numpy.random", "draws random numbers")
    if walk.origin(name) == "library":
        return Same(value)
    mapping = vars(value)
    walk.probes.keys(mapping)
    parts: list[Hashable] = [Same(value)]
    for name, part in list(mapping.items()):
        if name in walk.given or (name == "__getattr__" and callable(part)):
            parts.append((name, walk.item(mapping, name, f"{value.__name__}.{name}")))
        elif walk.everything and not isinstance(part, ModuleType | type | FunctionType):
            parts.append((name, walk.named(mapping, name, f"{value.__name__}.{name}")))
    return tuple(parts)


# ------------------------------------------------------------ functions


def function_content(walk: Walk, value: FunctionType, where: str, whole: bool) -> Hashable:
    """A function: its code, and everything that this names."""
    module = value.__globals__.get("__name__")
    original = vars(value).get("_torchdynamo_orig_callable")
    if original is not None:
        return Same(value), walk.key(original, where)
    if module != "builtins" and walk.origin(module) != "user":  # where `exec` has made it
        return _foreign(walk, value, where, module, whole)
    code = value.__code__
    names = mentioned(code)
    walk.names |= names.attributes
    walk.names.update(SPECIAL.intersection(names.variables))
    for name in ("__code__", "__defaults__", "__kwdefaults__"):
        walk.probes.attributes.append((value, name, getattr(value, name)))
    parts = [code, walk.key(value.__defaults__, where), walk.key(value.__kwdefaults__, where)]
    parts += _closure(walk, value, where)
    parts.append(walk.variables(vars(value), where, whole=False))
    parts += [(name, _variable(walk, value, name)) for name in names.variables]
    parts += [(name, _imported(walk, value, name)) for name in names.imports]
    return tuple(parts)


def _closure(walk: Walk, value: FunctionType, where: str) -> list[Hashable]:
    parts: list[Hashable] = []
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        content = getattr(cell, "cell_contents", MISSING)
        walk.probes.attributes.append((cell, "cell_contents", content))
        if name == "__class__" and isinstance(content, type):  # of super(), which makes nothing
            parts.append(class_content(walk, content, where))
        else:
            parts.append(walk.key(content, name))
    return parts


def _variable(walk: Walk, function: FunctionType, name: str) -> Hashable:
    mapping = function.__globals__
    if name in mapping:
        return walk.item(mapping, name, name)
    walk.probes.absent.append((mapping, name))
    if name in UNKNOWABLE:
        return walk.unknown(name, "is called")
    return Same(vars(builtins).get(name))


def _imported(walk: Walk, function: FunctionType, name: str) -> Hashable:
    package = function.__globals__.get("__package__")
    found = [sys.modules.get(n) for n in (name, f"{package}.{name}", package) if n]
    return tuple(walk.key(module, name) for module in found if module is not None)


def builtin_content(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """A function written in C, or a method of an object of such a class."""
    owner = value.__self__
    if owner is None or isinstance(owner, ModuleType | type):
        module = value.__module__ or getattr(owner, "__module__", None) or "builtins"
        return _foreign(walk, value, where, module, whole)
    return value.__name__, walk.key(owner, where, whole)


def cached_function(walk: Walk, value: Any, where: str, whole: bool) -> Hashable:
    """What `functools.lru_cache` has made: what it holds is from before, so what the function reads
    must be code alone, which does not change."""
    items, attributes = len(walk.probes.items), len(walk.probes.attributes)
    content = type(value), walk.key(value.__wrapped__, where, whole)
    read = [item for _, _, item in walk.probes.items[items:]]
    read += [v for _, name, v in walk.probes.attributes[attributes:] if name == "cell_contents"]
    if all(isinstance(item, CODE) for item in read):
        return content
    return walk.unknown(where, "holds results of before (functools.lru_cache)")


def _foreign(walk: Walk, value: Any, where: str, module: str | None, whole: bool) -> Hashable:
    """A function or a class whose code is not the user's."""
    name = value.__qualname__
    if not whole and (walk.origin(module) == "world" or name in UNKNOWABLE):
        return walk.unknown(f"{module}.{name}", "tells of the world outside")
    if not whole and name.rpartition(".")[2] in AMBIENT:
        return walk.unknown(name, "tells of what is around the step")
    return Same(value)
