"""Dataclasses from JSON: each field there, known, and of the type that it is written with."""

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def typed(kind: type[T], value: Any) -> T:
    """The dataclass whose fields a JSON object holds; a list may stand for a tuple.

    Raises ValueError for the first field that is missing, unknown or of another type, and what
    the class itself raises for a value that makes no sense.
    """
    if not isinstance(value, dict):
        raise ValueError(
            f"must be an object with the fields of {kind.__name__}, got {_short(value)}"
        )
    made_by: Any = kind
    hints, needed = _fields_of(made_by)
    odd = sorted((needed - value.keys()) | (value.keys() - hints.keys()))
    if odd:
        what = "lacks" if odd[0] in needed else "has the unknown field"
        raise ValueError(f"{what} {_short(odd[0])}")
    return kind(**{name: as_type(hints[name], given, name) for name, given in value.items()})


@cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """The types of the fields, and which have no default."""
    hints, own = get_type_hints(kind), fields(kind)
    needed = {f.name for f in own if f.default is MISSING and f.default_factory is MISSING}
    return {f.name: hints[f.name] for f in own}, needed


def as_type(hint: Any, value: Any, name: str) -> Any:
    """A value of JSON as this type; ValueError, which begins with the name, where it is none."""
    if not _fits(hint, value):
        shown = getattr(hint, "__name__", None) if get_origin(hint) is None else str(hint)
        raise ValueError(f"{name} must be {shown}, got {_short(value)}")
    return _made(hint, value)


def _fits(hint: Any, value: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in inner)
    if origin is list or (origin is tuple and inner[-1] is ...):
        return isinstance(value, list | tuple) and all(_fits(inner[0], v) for v in value)
    if origin is tuple:
        whole = isinstance(value, list | tuple) and len(value) == len(inner)
        return whole and all(map(_fits, inner, value))
    if origin is dict:
        return isinstance(value, dict) and all(_fits(inner[1], v) for v in value.values())
    if hint is float:
        return _is_number(value, int | float)
    if hint is int:
        # What no tensor can count is no size, and would overflow somewhere later.
        return _is_number(value, int) and -(2**63) <= value < 2**63
    if is_dataclass(hint):
        return isinstance(value, dict)
    return isinstance(value, NoneType if hint is None else hint)


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _made(hint: Any, value: Any) -> Any:
    """Lists as the tuples, objects as the dataclasses that a field holds."""
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        inner = get_args(hint)
        each = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(map(_made, each, value))
    return typed(hint, value) if isinstance(hint, type) and is_dataclass(hint) else value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
