"""What a step can read beside its tensors: a plan holds as long as it stays the same.

A step reads its cell, the cell's modules and classes, the functions that it calls, and what these
name: module globals, closures, defaults, objects of the user's own. `Snapshot` walks all of it,
by the names that the code mentions, and remembers it in two forms: a key, equal for equal
content, and a flat list of probes, which are compared at every call.

Code and objects of torch, numpy, Python and installed packages are taken not to change.
"""

from __future__ import annotations

import builtins
import enum
import functools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import is_
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import parametrize

from elman.cells.hooks import CALLED, GLOBAL, impure
from elman.cells.names import AMBIENT, mentioned, origin

MISSING = object()
#: So many objects are compared at most: beyond, a call would spend its time on it.
LIMIT = 3000
#: Arrays of at most so many bytes are compared as a whole.
SMALL = 1 << 12

#: Values that never change, and are equal where their type and text are.
ATOMS = frozenset((bool, int, str, bytes, type(None), type(Ellipsis), type(NotImplemented)))
TEXTUAL = frozenset((
    *("complex", "range", "slice", "Pattern", "Decimal", "Fraction", "date", "datetime"),
    *("timedelta", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
))  # fmt: skip
#: Objects that tell a step nothing.
HARMLESS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
DESCRIPTORS = (
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
#: Bases whose state is in no attribute, and is looked at.
KNOWN = frozenset((object, *CONTAINERS, int, float, complex, str, bytes))

#: Names by which code reads attributes that it does not mention.
DYNAMIC = frozenset(
    (
        *("getattr", "vars", "dir", "__dict__", "__getattribute__", "attrgetter", "methodcaller"),
        *("asdict", "astuple", "fields", "replace", "copy", "deepcopy", "format", "format_map"),
        *("children", "named_children", "modules", "named_modules", "_modules", "get_submodule"),
        *("_parameters", "_buffers", "state_dict"),
    )
)
#: Builtin functions that reach attributes.
SPECIAL = DYNAMIC | {"super"}
#: Builtin functions whose answer nobody knows before.
UNKNOWABLE = frozenset(("open", "input", "eval", "exec", "globals", "locals", "__import__"))
#: What Python calls without being told to by name, but not while a step runs.
UNCALLED = frozenset(
    (
        *("__init__", "__new__", "__init_subclass__", "__set_name__", "__del__", "__repr__"),
        *("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__copy__"),
        *("__deepcopy__", "__dir__", "__sizeof__", "__class_getitem__", "__subclasshook__"),
    )
)
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


@dataclass(frozen=True, eq=False)
class Same:
    """An object that stands for itself: equal to another where both hold the same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Snapshot:
    """What the step of a module can read beside its tensors, at one moment.

    key: equal for equal content. reason: why it cannot be known, "" where it can.
    idle: tensors among the attributes of modules that no code mentions, by qualified name.
    """

    def __init__(self, cell: nn.Module) -> None:
        names = frozenset(("step", "forward"))
        while True:
            walk = _Walk(cell, names)
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


class Probes:
    """What is looked at at every call, as plain loops over flat lists.

    items: (mapping, key, value)    attributes: (object, name, value)
    ends: (mapping, length, last key): a key that is new is the last one
    orders: (container, its content)    empty: containers    absent: (mapping, key)
    tensors: (mapping, key)    arrays: (array, bytes)
    """

    def __init__(self) -> None:
        self.items: list[tuple[Any, Any, Any]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.ends: list[tuple[Any, int, Any]] = []
        self.orders: list[tuple[Any, tuple[Any, ...]]] = []
        self.empty: list[Any] = []
        self.absent: list[tuple[Any, Any]] = []
        self.tensors: list[tuple[Any, str]] = []
        self.arrays: list[tuple[Any, bytes]] = []

    def hold(self) -> bool:
        try:
            for mapping, key, value in self.items:
                if mapping[key] is not value:
                    return False
            for owner, name, value in self.attributes:
                if getattr(owner, name, MISSING) is not value:
                    return False
            for mapping, length, last in self.ends:
                if len(mapping) != length or next(reversed(mapping)) is not last:
                    return False
            if any(self.empty):
                return False
            return not (self.absent or self.orders or self.tensors or self.arrays) or self._rest()
        except (KeyError, IndexError, RuntimeError, StopIteration):  # also from another thread
            return False

    def _rest(self) -> bool:
        return (
            not any(key in mapping for mapping, key in self.absent)
            and all(len(c) == len(o) and all(map(is_, c, o)) for c, o in self.orders)
            and all(isinstance(mapping[name], Tensor) for mapping, name in self.tensors)
            and all(array.tobytes() == content for array, content in self.arrays)
        )

    def keys(self, mapping: Any) -> None:
        """That no key is new or gone."""
        if mapping:
            self.ends.append((mapping, len(mapping), next(reversed(mapping))))
        else:
            self.empty.append(mapping)


class _Walk:
    """One walk over all that a step can read, as far as these names reach."""

    def __init__(self, cell: nn.Module, names: frozenset[str]) -> None:
        self.root = cell
        self.given = names
        self.names = set(names)
        self.everything = not DYNAMIC.isdisjoint(names)
        self.own = frozenset(
            c.__module__.partition(".")[0]
            for c in type(cell).__mro__
            if c.__module__.partition(".")[0] not in ("torch", "builtins", "typing", "abc")
        )
        self.seen: dict[tuple[int, bool, bool], int] = {}
        self.kept: list[Any] = []
        self.reason = ""
        self.idle: list[str] = []
        self.loose = False
        self.hooked = False
        self.probes = Probes()
        self.content = self.key(cell, "self")

    def unknown(self, where: str, why: str) -> Hashable:
        if not self.loose:
            self.reason = self.reason or f"what the step reads cannot be compared: {where} {why}"
        return ()

    def origin(self, module: str | None) -> str:
        return origin(module, self.own)

    def reads(self, name: str, whole: bool = False) -> bool:
        return whole or self.everything or name in self.given

    # ------------------------------------------------------------ any value

    def key(self, value: Any, where: str, whole: bool = False) -> Hashable:
        """The content of a value. whole: all that it has, whatever the code mentions."""
        kind = type(value)
        if kind in ATOMS:
            return kind, value
        if kind is float:
            return kind, value.hex()
        if isinstance(value, Tensor):
            return Tensor
        if kind.__name__ in TEXTUAL and self.origin(kind.__module__) != "user":
            return kind, repr(value)
        how = (id(value), whole, self.loose)
        met = self.seen.get(how)
        if met is not None:
            return "again", met
        self.seen[how] = len(self.seen)
        self.kept.append(value)  # no other object gets its id meanwhile
        if len(self.seen) > LIMIT:
            self.loose = False
            return self.unknown(where, "reaches too many objects")
        for kinds, content in CONTENT:
            if isinstance(value, kinds):
                return content(self, value, where, whole)
        return self.object(value, where, whole)

    def item(self, mapping: Any, key: Any, where: str, whole: bool = False) -> Hashable:
        """The content of what stands under a key, which is looked up at every call."""
        value = mapping[key]
        self.probes.items.append((mapping, key, value))
        return self.key(value, where, whole)

    def named(self, mapping: Any, name: str, where: str, whole: bool = False) -> Hashable:
        """`item` of a name. One that is read only if code makes it up may hide what it likes."""
        before = self.loose
        self.loose = before or not (whole or name in self.given)
        content = self.item(mapping, name, where, whole)
        self.loose = before
        return content

    def same(self, value: Any, where: str = "", whole: bool = False) -> Hashable:
        return Same(value)

    # ------------------------------------------------------------ objects

    def object(self, value: Any, where: str, whole: bool) -> Hashable:
        kind = type(value)
        of = self.origin(kind.__module__)
        if kind.__module__.partition(".")[0] == "torch":
            return Same(value)
        if kind.__module__.startswith("numpy") and not isinstance(value, np.generic):
            random = "random" in kind.__module__
            return self.unknown(where, "draws random numbers") if random else Same(value)
        if isinstance(value, np.generic):
            return kind, value.tobytes()
        hidden = next((c for c in kind.__mro__ if c not in KNOWN and _hides(c)), None)
        if hidden is not None:
            return self.unknown(where, f"is a {kind.__qualname__}, which hides its state")
        whole = whole or of != "user"
        self.probes.attributes.append((value, "__class__", kind))
        parts: list[Hashable] = [Same(kind) if whole else self.key(kind, where)]
        if isinstance(value, CONTAINERS):
            parts.append(self.container(value, where, whole))
        elif isinstance(value, int | float | complex | str | bytes):
            parts.append(repr(value))
        if hasattr(value, "__dict__"):
            parts.append(self.variables(value.__dict__, where, whole))
        for name in _slots(kind):
            if self.reads(name, whole):
                part = getattr(value, name, MISSING)
                self.probes.attributes.append((value, name, part))
                parts.append((name, self.key(part, f"{where}.{name}", whole)))
        return tuple(parts)

    def variables(self, mapping: Any, where: str, whole: bool) -> Hashable:
        """Of a namespace, what is read."""
        self.probes.keys(mapping)
        return tuple(
            (name, self.named(mapping, name, f"{where}.{name}", whole))
            for name in list(mapping)
            if self.reads(name, whole)
        )

    def container(self, value: Any, where: str, whole: bool) -> Hashable:
        """All of a dict, list, tuple or set; kinds of one's own have attributes as well."""
        if isinstance(value, dict):
            self.probes.keys(value)
            return type(value), tuple(
                (self.key(k, where), self.item(value, k, f"{where}[{k!r}]", whole))
                for k in list(value)
            )
        if not isinstance(value, tuple | frozenset):
            self.probes.orders.append((value, tuple(value)))
        if isinstance(value, set | frozenset):
            return type(value), frozenset(self.key(v, where, whole) for v in value)
        return type(value), tuple(self.key(v, f"{where}[{n}]", whole) for n, v in enumerate(value))

    def collection(self, value: Any, where: str, whole: bool) -> Hashable:
        own = type(value) not in CONTAINERS and self.origin(type(value).__module__) == "user"
        return self.object(value, where, whole) if own else self.container(value, where, whole)

    def array(self, value: np.ndarray, where: str, whole: bool) -> Hashable:
        if value.nbytes > SMALL or value.dtype.hasobject:
            return self.unknown(where, "is a large array; make it a buffer, with register_buffer")
        content = value.tobytes()
        self.probes.arrays.append((value, content))
        return value.shape, str(value.dtype), content

    # ------------------------------------------------------------ modules

    def module(self, module: nn.Module, where: str, whole: bool) -> Hashable:
        kind = parametrize.type_before_parametrizations(module)
        mapping = module.__dict__
        # The code of torch's modules is not looked at: it may read whatever they have.
        whole = any(c is not nn.Module and c.__module__.startswith("torch.") for c in kind.__mro__)
        self.probes.attributes.append((module, "__class__", type(module)))
        self.probes.keys(mapping)
        children = mapping["_modules"]
        self.probes.keys(children)
        parts: list[Hashable] = [self.kind(kind, where, made=False), self.hooks(module, where)]
        for name in list(mapping):
            if name in SKIPPED or name in CALLED or name == "_modules":
                continue
            if name == "training" and whole and not _trains(kind):
                continue
            if isinstance(mapping[name], Tensor) and not self.reads(name, whole):
                self.idle.append(f"{where}.{name}".removeprefix("self."))
            elif isinstance(mapping[name], Tensor):
                self.probes.tensors.append((mapping, name))  # a weight, as parameters are
            elif self.reads(name, whole):
                parts.append((name, self.named(mapping, name, f"{where}.{name}", whole)))
        for name in list(children):
            if name != "parametrizations" and self.reads(name, whole):
                parts.append((name, self.named(children, name, f"{where}.{name}")))
        return tuple(parts)

    def hooks(self, module: nn.Module, where: str) -> Hashable:
        mapping, parts = module.__dict__, []
        for name in CALLED:
            hooks = mapping[name]
            self.probes.items.append((mapping, name, hooks))
            self.probes.keys(hooks)
            parts.append(tuple(self.hook(module, hook, where) for hook in list(hooks.values())))
        if (module is not self.root or any(parts)) and not self.hooked:
            self.hooked = True
            for hooks in GLOBAL:
                self.probes.keys(hooks)
            if any(GLOBAL):
                self.reason = self.reason or "a hook on all modules has to see those of each step"
        return tuple(parts)

    def hook(self, module: nn.Module, hook: Any, where: str) -> Hashable:
        training = self.item(module.__dict__, "training", where)
        why = impure(module, hook)
        if why:
            self.reason = self.reason or f"{where} has {why}"
            return ()
        return Same(type(hook)), training, self.variables(vars(hook), where, whole=True)

    # ------------------------------------------------------------ classes and modules of Python

    def kind(self, kind: type, where: str, made: bool = True) -> Hashable:
        """What the code reads of a class. made: it may also make an object of it."""
        parts: list[Hashable] = [Same(kind)]
        met: set[str] = set()
        for base in kind.__mro__:
            if self.origin(base.__module__) != "user":
                continue
            mapping = vars(base)
            self.probes.keys(mapping)
            for name, value in list(mapping.items()):
                hidden = name in met and "super" not in self.given
                if not hidden and self._runs(kind, name, value, made):
                    parts.append((name, self.named(mapping, name, f"{base.__name__}.{name}")))
            met.update(mapping)
        return tuple(parts)

    def _runs(self, kind: type, name: str, value: Any, made: bool) -> bool:
        """Whether code may run, or look at, an attribute of a class."""
        if not (name.startswith("__") and name.endswith("__")):
            return self.reads(name) and not (name == "forward" and self._unhooked(kind))
        uncalled = name in UNCALLED and not (made and name in ("__init__", "__new__"))
        return callable(value) and not uncalled

    def _unhooked(self, kind: type) -> bool:
        """Whether this is the cell's class and nothing calls its ``forward``."""
        mapping = self.root.__dict__
        return isinstance(self.root, kind) and not any(mapping[name] for name in CALLED)

    def type(self, value: type, where: str, whole: bool) -> Hashable:
        if issubclass(value, enum.Enum):
            return Same(value)
        if self.origin(value.__module__) == "user":
            return self.kind(value, where)
        return self.foreign(value, where, value.__module__, whole)

    def python_module(self, value: ModuleType, where: str, whole: bool) -> Hashable:
        name = value.__name__
        if name == "torch" and not AMBIENT.isdisjoint(self.given):
            return self.unknown(
                f"torch.{min(AMBIENT & self.given)}", "tells of what is around the step"
            )
        if name.startswith("numpy") and "random" in (*self.given, *name.split(".")):
            return self.unknown("numpy.random", "draws random numbers")
        if self.origin(name) == "library":
            return Same(value)
        mapping = vars(value)
        self.probes.keys(mapping)
        parts: list[Hashable] = [Same(value)]
        for name, part in list(mapping.items()):
            if name in self.given or (name == "__getattr__" and callable(part)):
                parts.append((name, self.item(mapping, name, f"{value.__name__}.{name}")))
            elif self.everything and not isinstance(part, ModuleType | type | FunctionType):
                parts.append((name, self.named(mapping, name, f"{value.__name__}.{name}")))
        return tuple(parts)

    # ------------------------------------------------------------ functions

    def function(self, value: FunctionType, where: str, whole: bool) -> Hashable:
        module = value.__globals__.get("__name__")
        original = vars(value).get("_torchdynamo_orig_callable")
        if original is not None:
            return Same(value), self.key(original, where)
        if self.origin(module) != "user":
            return self.foreign(value, where, module, whole)
        code = value.__code__
        names = mentioned(code)
        self.names |= names.attributes
        self.names.update(SPECIAL.intersection(names.variables))
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.probes.attributes.append((value, name, getattr(value, name)))
        parts = [code, self.key(value.__defaults__, where), self.key(value.__kwdefaults__, where)]
        parts += self.closure(value, where)
        parts += [(name, self.variable(value, name)) for name in names.variables]
        parts += [(name, self.imported(value, name)) for name in names.imports]
        return tuple(parts)

    def closure(self, value: FunctionType, where: str) -> list[Hashable]:
        parts: list[Hashable] = []
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            content = getattr(cell, "cell_contents", MISSING)
            self.probes.attributes.append((cell, "cell_contents", content))
            if name == "__class__" and isinstance(content, type):  # of super(), which makes nothing
                parts.append(self.kind(content, where, made=False))
            else:
                parts.append(self.key(content, name))
        return parts

    def variable(self, function: FunctionType, name: str) -> Hashable:
        mapping = function.__globals__
        if name in mapping:
            return self.item(mapping, name, name)
        self.probes.absent.append((mapping, name))
        if name in UNKNOWABLE:
            return self.unknown(name, "is called")
        return Same(vars(builtins).get(name))

    def imported(self, function: FunctionType, name: str) -> Hashable:
        package = function.__globals__.get("__package__")
        found = [sys.modules.get(n) for n in (name, f"{package}.{name}", package) if n]
        return tuple(self.key(module, name) for module in found if module is not None)

    def builtin(self, value: Any, where: str, whole: bool) -> Hashable:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType | type):
            module = value.__module__ or getattr(owner, "__module__", None) or "builtins"
            return self.foreign(value, where, module, whole)
        return value.__name__, self.key(owner, where, whole)

    def foreign(self, value: Any, where: str, module: str | None, whole: bool) -> Hashable:
        """A function or a class whose code is not the user's."""
        name = value.__qualname__
        if not whole and (self.origin(module) == "world" or name in UNKNOWABLE):
            return self.unknown(f"{module}.{name}", "tells of the world outside")
        if not whole and name.rpartition(".")[2] in AMBIENT:
            return self.unknown(name, "tells of what is around the step")
        return Same(value)

    def method(self, value: MethodType, where: str, whole: bool) -> Hashable:
        return self.key(value.__func__, where, whole), self.key(value.__self__, where)


def _wrapping(*names: str) -> Callable[..., Hashable]:
    """The content of an object whose attributes of these names never become other objects."""

    def content(walk: _Walk, value: Any, where: str, whole: bool) -> Hashable:
        return type(value), tuple(walk.key(getattr(value, name), where, whole) for name in names)

    return content


#: How the content of a value is found, by its type; else it is that of an object.
CONTENT: tuple[tuple[Any, Callable[[_Walk, Any, str, bool], Hashable]], ...] = (
    (nn.Module, _Walk.module),
    (FunctionType, _Walk.function),
    (BuiltinFunctionType, _Walk.builtin),
    (MethodType, _Walk.method),
    (enum.Enum, _Walk.same),
    (type, _Walk.type),
    (ModuleType, _Walk.python_module),
    (HARMLESS, _Walk.same),
    (DESCRIPTORS, _Walk.same),
    (property, _wrapping("fget")),
    ((staticmethod, classmethod), _wrapping("__func__")),
    (functools.cached_property, _wrapping("func")),
    (functools.partial, _wrapping("func", "args", "keywords")),
    (functools._lru_cache_wrapper, _wrapping("__wrapped__")),
    (np.ndarray, _Walk.array),
    (CONTAINERS, _Walk.collection),
)


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


@functools.lru_cache(maxsize=1024)
def _trains(kind: type[nn.Module]) -> bool:
    """Whether the code of a module of torch does something else while training."""
    functions = (f for c in kind.__mro__ if c is not nn.Module for f in vars(c).values())
    return any(
        "training" in mentioned(f.__code__).attributes
        for f in functions
        if isinstance(f, FunctionType) and f.__name__ != "__init__"
    )
