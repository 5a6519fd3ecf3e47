"""What is fixed about a run that a graph holds, as text: the plan, and how it is run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.autograd import forward_ad

from elman import settings
from elman.backends.gradients import transforming
from elman.backends.notices import say_once
from elman.backends.sequence import Regularisation
from elman.cells.cell import Cell, weights_of
from elman.cells.hooks import is_hooked
from elman.compiler.ir.nodes import Node
from elman.compiler.ir.serialise import plan_text, read_plan
from elman.compiler.plan import Plan
from elman.compiler.trace.untraced import untraced
from elman.errors import BackendError, SavedPlanError, UnsupportedError
from elman.runtime.custom_op.guards import recompile_unless
from elman.runtime.dispatch import Execution, plan_of
from elman.runtime.recompute import memory_budget


@dataclass(frozen=True)
class Call:
    """How a plan is run. lengths, reset: whether there are any."""

    backend: str
    memory: str | int
    reverse: bool
    all_states: bool
    lengths: bool
    reset: bool

    @property
    def text(self) -> str:
        """What `of` reads."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(text: str) -> Call:
        """Raises SavedPlanError where the text is not that of a call."""
        try:
            call = Call(**json.loads(text))
            Execution(call.backend, call.memory)
        except (TypeError, ValueError) as error:
            raise SavedPlanError(f"a saved call makes no sense: {error}") from None
        flags = (call.reverse, call.all_states, call.lengths, call.reset)
        if any(type(flag) is not bool for flag in flags):
            raise SavedPlanError(f"a saved call makes no sense: {text:.200}")
        return call


# ---------------------------------------------------------------- plans by their text


@dataclass(frozen=True, eq=False)
class Saved:
    """A plan with its text. dtypes: of the weights that it reads."""

    text: str
    plan: Plan
    dtypes: tuple[torch.dtype, ...]


#: The plans of cells in this process: kernels made for a layer serve its graphs as well.
_saved: WeakValueDictionary[str, Saved] = WeakValueDictionary()


def saved_by(text: str) -> Saved:
    """The plan of a text: one that a cell of this process has, else read. Raises SavedPlanError."""
    return _saved.get(text) or _read(text)


@lru_cache(maxsize=256)
def _read(text: str) -> Saved:
    plan = read_plan(text)
    return Saved(text, plan, tuple([node.attrs["dtype"] for node, _ in plan.parameters]))


def _save(plan: Plan, dtypes: dict[str, torch.dtype]) -> Saved:
    key = "text", tuple([dtypes[name] for _, name in plan.parameters])
    if key not in plan.made_of:
        plan.made_of[key] = Saved(plan_text(plan, dtypes), plan, key[1])
    saved: Saved = plan.made_of[key]
    return _saved.setdefault(saved.text, saved)


# ---------------------------------------------------------------- from cells to texts


@dataclass(frozen=True)
class Wanted:
    """What a cell is to be run with. dtype: of x and of the state. names, dtypes: of the weights.
    masked: with state dropout. zoneout: True stands for a mask. lengths, reset, truncated: whether
    there are any."""

    dtype: torch.dtype
    names: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    masked: bool
    zoneout: tuple[float | bool | None, ...]
    lengths: bool
    reset: bool
    truncated: bool
    reverse: bool
    all_states: bool

    def weights(self, cell: Cell) -> dict[str, Tensor]:
        """Tensors of the shapes and dtypes of the cell's weights, without numbers."""
        own = weights_of(cell)
        sizes = {name: [int(size) for size in own[name].shape] for name in self.names}
        pairs = zip(self.names, self.dtypes, strict=True)
        return {name: torch.empty(sizes[name], dtype=d, device="meta") for name, d in pairs}

    @property
    def noise(self) -> Regularisation:
        """Regularisation of this kind."""
        there = torch.empty(0, device="cpu")
        zoneout = tuple([there if z is True else z for z in self.zoneout])
        return Regularisation(there if self.masked else None, zoneout)


def describe(cell: Cell, execution: Execution, *fields: Any) -> str:
    """Four lines: the plan of a cell; the call; the names of the weights that are read, between
    tabs; how many rows a run may keep for its backward loop, or "all". Nothing where the loop has
    to run. fields: those of `Wanted`.

    Raises BackendError where the backend that is asked for cannot run it.
    """
    wanted, backend = Wanted(*fields), settings.backend(execution.backend)
    if backend == "loop" or transforming() or forward_ad._current_level >= 0:
        return ""  # what transforms every operation has to see every step
    with untraced():
        weights, noise = wanted.weights(cell), wanted.noise

        def find(cell: Cell) -> Plan | UnsupportedError | None:
            same = settings.backend(execution.backend) == backend
            return plan_of(cell, weights, noise, execution, dtype=wanted.dtype) if same else None

        plan = find(cell)
        try:
            if not isinstance(plan, Plan):
                raise UnsupportedError(str(plan))
            text = _save(plan, dict(zip(wanted.names, wanted.dtypes, strict=True))).text
        except (SavedPlanError, UnsupportedError) as error:
            return _unrolled(cell, backend, error)
    recompile_unless(cell, lambda now: find(now) is plan)
    if torch.onnx.is_in_onnx_export():
        raise _onnx(cell)
    call = Call(
        execution.backend, execution.memory, wanted.reverse, wanted.all_states, wanted.lengths,
        wanted.reset,
    )  # fmt: skip
    names = "\t".join([name for _, name in plan.parameters])
    return f"{text}\n{call.text}\n{names}\n{_most(plan, execution.memory, wanted)}"


# torch.compile calls it while tracing, and compiles anew where the cell is another one.
describe._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _unrolled(cell: Cell, backend: str, error: Exception) -> str:
    name = type(cell).__name__
    if backend != "auto":
        raise BackendError(f"backend='{backend}' cannot run {name} in a graph: {error}")
    say_once(f"{name} is in the graph as the literal loop, step by step, which is slow: {error}")
    return ""


def refuse_hooks(cell: Cell) -> None:
    """Raise BackendError where calling a module of the cell runs hooks, which torch.compile passes
    over in the copies that the loop makes."""
    if is_hooked(cell):
        raise BackendError(
            f"{type(cell).__name__} has hooks that torch.compile cannot see; remove them, or leave "
            "the layer out of the graph with torch.compiler.disable(layer)"
        )
    recompile_unless(cell, lambda now: not is_hooked(now))


refuse_hooks._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _onnx(cell: Cell) -> BackendError:
    return BackendError(
        f"ONNX has no operation for {type(cell).__name__}: build the layer with backend='loop', "
        "which writes its steps one by one for a fixed T, or turn LSTM, GRU and RNN into "
        "torch.nn's own with elman.to_torch"
    )


def _most(plan: Plan, memory: str | int, wanted: Wanted) -> str:
    if memory == "recompute":
        return "0"
    if memory == "save" or (wanted.reverse and wanted.lengths and wanted.truncated):
        return "all"
    size = max([dtype.itemsize for dtype in wanted.dtypes], default=8)
    return str(memory_budget(memory) // max(1, plan.bytes_per_row(size)))


def kept_nodes(plan: Plan) -> list[Node]:
    """What a backward loop reads of the forward loop beside the states."""
    made = plan.entering if plan.fused and plan.reads_entering else ()
    return [*plan.saved, *made]
