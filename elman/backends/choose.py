"""Which backend runs a cell, and why not a faster one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from elman import knobs
from elman.backends.eager import Eager
from elman.backends.engine import Engine
from elman.backends.llvm.engine import LLVM
from elman.cells.cell import Cell, State
from elman.compiler.pipeline import compile_cell
from elman.compiler.plan import Plan, Zoneout
from elman.errors import BackendError, ElmanError, UnsupportedError, require_positive, unknown
from elman.sequence import Noise


MEMORY = ("auto", "save", "recompute")


@dataclass(frozen=True)
class Execution:
    """How a layer wants to be run.

    backend: "auto", "llvm" (kernels for the CPU), "eager" (the plan with torch operations) or
        "loop" (the literal loop).
    memory: "save" keeps what the backward pass reads of every step; "recompute" keeps the state
        at the borders of about sqrt(T) segments and runs each segment once more; a number of
        bytes does so where saving would take more than that, in segments that keep to it; "auto"
        does so where saving would take more than a quarter of the machine's memory.
    """

    backend: str = "auto"
    memory: str | int = "auto"

    def __post_init__(self) -> None:
        knobs.backend(self.backend)
        if isinstance(self.memory, str) and self.memory not in MEMORY:
            raise unknown("memory", self.memory, (*MEMORY, "or a number of bytes"))
        if not isinstance(self.memory, str):
            require_positive(memory=self.memory)


@dataclass(frozen=True)
class Choice:
    """What runs: a plan on an engine; or the literal loop, where there is none.

    reason: why it is not the fastest backend; "" where it is.
    """

    plan: Plan | None
    engine: Engine | None
    reason: str = ""

    @property
    def backend(self) -> str:
        return "loop" if self.engine is None else self.engine.name


ENGINES: dict[str, Engine] = {"llvm": LLVM(), "eager": Eager()}

_plans: WeakKeyDictionary[Cell, dict[Any, Plan | UnsupportedError]] = WeakKeyDictionary()
_said: set[str] = set()


def choose(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    noise: Noise,
    execution: Execution = Execution(),
) -> Choice:
    """The backend for this call. Raises BackendError where the one asked for cannot run it."""
    backend = knobs.backend(execution.backend)
    if backend == "loop":
        return Choice(None, None, "the literal loop was asked for")
    reason = _transformed((x, *state, *weights.values()))
    if reason is not None:
        return _fall_back(backend, cell, reason, silent=True)
    plan = plan_of(cell, weights, noise)
    if isinstance(plan, UnsupportedError):
        return _fall_back(backend, cell, str(plan))
    reason = "the eager backend was asked for"
    if backend != "eager":
        reason = ENGINES["llvm"].refuses(plan, x) or ""
        if not reason:
            return Choice(plan, ENGINES["llvm"])
        if backend == "llvm":
            raise BackendError(f"backend='llvm' cannot run {type(cell).__name__}: {reason}")
    return Choice(plan, ENGINES["eager"], reason)


def plan_of(cell: Cell, weights: dict[str, Tensor], noise: Noise) -> Plan | UnsupportedError:
    """The plan of a cell under this noise, made once; or why there is none."""
    parts = tuple(True if isinstance(z, Tensor) else z for z in noise.zoneout)
    shapes = tuple((name, w.shape) for name, w in weights.items())
    dtype = next((w.dtype for w in weights.values()), None)
    key = (noise.state_mask is not None, parts, shapes, dtype, _settings(cell))
    plans = _plans.setdefault(cell, {})
    if key not in plans:
        try:
            plans[key] = compile_cell(
                cell, masked=noise.state_mask is not None, zoneout=Zoneout(parts)
            )
        except UnsupportedError as error:
            plans[key] = error.with_traceback(None)
    return plans[key]


def _settings(cell: Cell) -> tuple[Any, ...]:
    """What a step may branch on: the plain attributes of the cell and of its modules."""
    modules = cell.modules() if cell._modules else (cell,)
    return tuple(
        [
            (name, value)
            for module in modules
            for name, value in module.__dict__.items()
            if type(value) in PLAIN or callable(value)
        ]
    )


#: Types of attributes that decide what a step does.
PLAIN = frozenset((bool, int, float, str, type(None)))


def _transformed(tensors: Iterable[Tensor]) -> str | None:
    """Why these tensors are not ones that a kernel may read."""
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation runs the literal loop"
    if torch._C._functorch.peek_interpreter_stack() is None:
        return None
    if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors):
        return "torch.func transforms run the literal loop"
    return None


def _fall_back(backend: str, cell: Cell, reason: str, silent: bool = False) -> Choice:
    if backend == "llvm" and not silent:
        raise BackendError(f"backend='llvm' cannot run {type(cell).__name__}: {reason}")
    if not silent and reason not in _said:
        _said.add(reason)
        warnings.warn(
            f"{type(cell).__name__} runs as the literal loop, which is slow: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
    return Choice(None, None, reason)


__all__ = ["Choice", "Execution", "choose", "plan_of", "ElmanError"]
