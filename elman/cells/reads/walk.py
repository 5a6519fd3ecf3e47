"""One walk over all that a step can read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from elman.cells.reads.names import origin
from elman.cells.reads.probes import Probes

#: So many objects are compared at most: beyond, a call would spend its time on it.
LIMIT = 3000

#: Values that never change, and are equal where their type and text are.
ATOMS = frozenset((bool, int, str, bytes, type(None), type(Ellipsis), type(NotImplemented)))
TEXTUAL = frozenset((
    *("complex", "range", "slice", "Pattern", "Decimal", "Fraction", "date", "datetime"),
    *("timedelta", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
))  # fmt: skip
#: Names by which code reads attributes that it does not mention.
DYNAMIC = frozenset(
    (
        *("getattr", "vars", "dir", "__dict__", "__getattribute__", "attrgetter", "methodcaller"),
        *("asdict", "astuple", "fields", "replace", "copy", "deepcopy", "format", "format_map"),
        *("children", "named_children", "modules", "named_modules", "_modules", "get_submodule"),
        *("_parameters", "_buffers", "state_dict"),
    )
)

#: The flag of classes that a class statement has made.
MADE_BY_PYTHON = 1 << 9

#: By type: how to find the content of a value, as (walk, value, where, whole).
Contents = tuple[tuple[Any, Callable[["Walk", Any, str, bool], Hashable]], ...]


@dataclass(frozen=True, eq=False)
class Same:
    """An object that stands for itself: equal to another where both hold the same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Walk:
    """One walk over all that a step can read, as far as these names reach."""

    def __init__(self, cell: nn.Module, names: frozenset[str], contents: Contents) -> None:
        self.contents = contents
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
        self.classes: set[tuple[type, bool, bool]] = set()
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

    def maker(self, kind: type) -> str:
        """Whose code a class is. One that is made by `exec`, as examples in documents are, has no
        module but that of builtins."""
        made = kind.__module__ == "builtins" and kind.__flags__ & MADE_BY_PYTHON
        return "user" if made else self.origin(kind.__module__)

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
        if kind.__name__ in TEXTUAL and self.maker(kind) != "user":
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
        content = next(found for kinds, found in self.contents if isinstance(value, kinds))
        return content(self, value, where, whole)

    def item(self, mapping: Any, key: Any, where: str, whole: bool = False) -> Hashable:
        """The content of what stands under a key, which is looked up at every call."""
        value = mapping[key]
        self.probes.items.append((mapping, key, value))
        self.probes.where[id(mapping), key] = where
        return self.key(value, where, whole)

    def named(self, mapping: Any, name: str, where: str, whole: bool = False) -> Hashable:
        """`item` of a name. One that is read only if code makes it up may hide what it likes."""
        before = self.loose
        self.loose = before or not (whole or name in self.given)
        content = self.item(mapping, name, where, whole)
        self.loose = before
        return content

    def variables(self, mapping: Any, where: str, whole: bool) -> Hashable:
        """Of a namespace, what is read."""
        self.probes.keys(mapping)
        return tuple(
            (name, self.named(mapping, name, f"{where}.{name}", whole))
            for name in list(mapping)
            if self.reads(name, whole)
        )
