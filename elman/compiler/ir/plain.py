"""Arguments of torch operations as plain data, and back; and which operations data may name."""

from __future__ import annotations

import math
from typing import Any

import torch

from elman.compiler.ir.weights import Slot, aten
from elman.errors import SavedPlanError

#: Values of torch that stand under their names.
NAMED: dict[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}
#: Operations that begin with an underscore and yet are safe whatever they are given.
INNER = frozenset(
    ("_to_copy", "_softmax", "_log_softmax", "_unsafe_view", "_weight_norm_interface")
)
#: Operations that return memory as they find it, or look at it from outside.
UNFILLED = frozenset(
    ("empty_like", "new_empty", "new_empty_strided", "resize", "resize_as", "as_strided", "set")
)


def plain_of(value: Any) -> Any:
    """A number, a name of torch, None, a slot, or a nest of them, as JSON has it."""
    if isinstance(value, list | tuple):
        return [plain_of(part) for part in value]
    if isinstance(value, Slot):
        return {"slot": value.index}
    for kind, of in NAMED.items():
        if isinstance(value, of):
            return {kind: str(value).removeprefix("torch.")}
    if type(value) is float and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise SavedPlanError(f"a value that a saved plan has no word for: {value!r:.60}")


def plain_from(data: Any) -> Any:
    """What `plain_of` has written."""
    if isinstance(data, list):
        return tuple([plain_from(part) for part in data])
    if not isinstance(data, dict):
        return data
    [(kind, value)] = data.items()
    if kind == "slot" and type(value) is int and value >= 0:
        return Slot(value)
    if kind == "float" and value in ("inf", "-inf", "nan"):
        return float(value)
    found = getattr(torch, value, None) if isinstance(value, str) else None
    if kind in NAMED and isinstance(found, NAMED[kind]):
        return found
    raise SavedPlanError(f"a saved plan has a value that this elman does not know: {data!r:.60}")


def functional_overload(name: str) -> Any:
    """The operation "aten.NAME.OVERLOAD". Raises SavedPlanError for what is none, and for one that
    does more than make tensors of tensors."""
    words = name.split(".")
    packet = getattr(aten, words[1], None) if len(words) == 3 and words[0] == "aten" else None
    known = packet.overloads() if isinstance(packet, torch._ops.OpOverloadPacket) else ()  # type: ignore[no-untyped-call]
    if words[-1] not in known:
        raise SavedPlanError(f"a saved plan names an operation that torch has not: {name!r:.60}")
    overload = getattr(packet, words[2])
    if not _is_functional(words[1], overload):
        raise SavedPlanError(f"{name} is no operation that a saved plan may name")
    return overload


def _is_functional(name: str, overload: Any) -> bool:
    schema = overload._schema
    given = [str(argument.type) for argument in schema.arguments]
    made = [str(result.type) for result in schema.returns]
    return (
        not schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in overload.tags
        and not any("str" in kind or "Generator" in kind for kind in given)
        and any("Tensor" in kind for kind in given)
        and bool(made)
        and all(kind in ("Tensor", "List[Tensor]") for kind in made)
        and name not in UNFILLED
        and (not name.startswith("_") or name in INNER)
    )
