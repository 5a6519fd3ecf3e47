"""What is fixed about the runs of cells that compiled graphs hold: a table of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from weakref import ReferenceType, WeakKeyDictionary, WeakValueDictionary, ref

import torch
from torch.utils._python_dispatch import _disable_current_modes

from elman import knobs
from elman.backends.choose import Execution, plan_of
from elman.backends.segments import memory_budget
from elman.cells.cell import Cell, weights_of
from elman.compiler.ir import Node
from elman.compiler.plan import Plan
from elman.errors import BackendError
from elman.sequence import Noise


@dataclass(frozen=True)
class Call:
    """What is fixed about a run beside its cell.

    truncated: how many steps, the operator is told. given: whether there are lengths, resets, a
    state mask. zoneout: True stands for a mask.
    """

    execution: Execution
    names: tuple[str, ...]
    reverse: bool
    all_states: bool
    truncated: bool
    given: tuple[bool, ...]
    zoneout: tuple[float | bool | None, ...]
    autocast: tuple[str, torch.dtype] | None


@dataclass(frozen=True)
class Shape:
    """What the results of a run look like.

    place: its place in the table. parts: of the state; shown: of those, how many at all steps.
    saved: the size of what the plan saves in each row.
    """

    place: int
    parts: int
    shown: int
    saved: tuple[int, ...]


def shape_of(call: str) -> Shape:
    """What the string of a run says."""
    place, parts, shown, *saved = map(int, call.split())
    return Shape(place, parts, shown, tuple(saved))


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, eq=False)
class _Entry:
    cell: ReferenceType[Cell]
    call: Call
    place: int


_places = count()
_entries: WeakKeyDictionary[Cell, dict[Call, _Entry]] = WeakKeyDictionary()
_table: WeakValueDictionary[int, _Entry] = WeakValueDictionary()


def _entry(cell: Cell, call: Call) -> _Entry:
    """Where this run of this cell stands. It is there as long as the cell is."""
    own = _entries.setdefault(cell, {})
    if call not in own:  # another thread may have been faster
        own.setdefault(call, _Entry(ref(cell), call, next(_places)))
    entry = own[call]
    _table[entry.place] = entry
    return entry


def look_up(place: int) -> tuple[Cell, Call]:
    """What stands at a place of the table. Raises BackendError where the cell is no more."""
    entry = _table.get(place)
    cell = None if entry is None else entry.cell()
    if entry is None or cell is None:
        raise BackendError(
            "the layer that this compiled graph was made of is gone; keep a reference to it, or "
            "compile or export it again in this process"
        )
    return cell, entry.call


def describe(
    cell: Cell,
    execution: Execution,
    names: tuple[str, ...],
    reverse: bool,
    all_states: bool,
    truncated: bool,
    given: tuple[bool, ...],
    zoneout: tuple[float | bool | None, ...],
    dtype: torch.dtype,
    device: str,
) -> str:
    """ "CALL/MOST": what `shape_of` reads, and how many rows a run may keep for its backward loop,
    or "all"; "/" where the literal loop has to run."""
    backend = knobs.backend(execution.backend)
    if backend == "loop" or _transformed():
        return "/"
    autocast = None
    if device != "cpu" and torch.is_autocast_enabled(device):
        autocast = device, torch.get_autocast_dtype(device)
    execution = replace(execution, backend=backend)
    call = Call(execution, names, reverse, all_states, truncated, given, zoneout, autocast)
    with _disable_current_modes():
        plan = _plan(cell, call, dtype)
    saved = () if plan is None else [node.size for node in kept_nodes(plan)]
    parts = len(cell.state_sizes)
    numbers = [_entry(cell, call).place, parts, parts if all_states else 1, *saved]
    return f"{' '.join(map(str, numbers))}/{_most(call, plan, dtype)}"


# torch.compile calls it while tracing, and traces anew where the cell is another one.
describe._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _plan(cell: Cell, call: Call, dtype: torch.dtype) -> Plan | None:
    own = weights_of(cell)
    kinds = {n: dtype if own[n].is_floating_point() else own[n].dtype for n in call.names}
    like = {n: torch.empty(own[n].shape, dtype=kinds[n], device="meta") for n in call.names}
    there = torch.empty(0, device="cpu")
    zoneout = tuple(there if z is True else z for z in call.zoneout)
    noise = Noise(there if call.given[2] else None, zoneout)
    plan = plan_of(cell, like, noise, call.execution, dtype=dtype)
    return plan if isinstance(plan, Plan) else None


def _transformed() -> bool:
    """Whether one of torch.func's transforms is at work: it has to see every step."""
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def kept_nodes(plan: Plan) -> list[Node]:
    """What a backward loop reads of the forward loop beside the states."""
    made = plan.entering if plan.fused and plan.reads_entering else ()
    return [*plan.saved, *made]


def _most(call: Call, plan: Plan | None, dtype: torch.dtype) -> str:
    memory = call.execution.memory
    if plan is None or call.autocast is not None or memory == "recompute":
        return "0"
    if memory == "save" or (call.reverse and call.given[0] and call.truncated):
        return "all"
    return str(memory_budget(memory) // max(1, plan.bytes_per_row(dtype.itemsize)))
