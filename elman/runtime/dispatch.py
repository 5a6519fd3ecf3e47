"""Which backend runs a cell, and why not a faster one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from elman import settings
from elman.backends import torch_fused
from elman.backends.base import Engine
from elman.backends.cpu.engine import LLVM
from elman.backends.notices import say_once
from elman.backends.operands import all_plain, autocasts, dispatch_mode, is_lazy, oddity
from elman.backends.reference.compare import checked
from elman.backends.reference.eager import Eager
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import Cell, State, dtype_of
from elman.compiler.plan import Plan
from elman.errors import BackendError, UnsupportedError, require_positive, unknown
from elman.runtime.plans import plan_for

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
    deterministic: "batch" gives each sequence the same bits whatever batch it is in. Kernels do
        so anyway where W x + b is all that is made of x; for other cells torch's matrix product,
        whose bits depend on the batch, is then replaced by a kernel inside the loop.
    """

    backend: str = "auto"
    memory: str | int = "auto"
    deterministic: str | None = None

    def __post_init__(self) -> None:
        settings.backend(self.backend)
        if isinstance(self.memory, str) and self.memory not in MEMORY:
            raise unknown("memory", self.memory, (*MEMORY, "or a number of bytes"))
        if not isinstance(self.memory, str):
            require_positive(memory=self.memory)
        if self.deterministic not in (None, "batch"):
            raise unknown("value of deterministic", self.deterministic, ("None", "batch"))


#: Nothing in particular is asked for.
AUTOMATIC = Execution()


@dataclass(frozen=True)
class Choice:
    """What runs: a plan on an engine; or the literal loop, where there is none; or torch's own
    fused kernel.

    reason: why it is not the fastest backend; "" where it is.
    """

    plan: Plan | None
    engine: Engine | None
    reason: str = ""
    of_torch: bool = False
    #: Whether a plan could run once lazy negations are resolved (`operands.resolved`).
    lazy: bool = False

    @property
    def backend(self) -> str:
        if self.of_torch:
            return "torch"
        return "loop" if self.engine is None else self.engine.name


LAZY = "a negation or a conjugation is lazy"

#: What runs plans, by name: those of `settings.ENGINE_NAMES`.
ENGINES: dict[str, Engine] = {"llvm": LLVM(), "eager": Eager()}
FASTEST = settings.ENGINE_NAMES[0]
assert tuple(ENGINES) == settings.ENGINE_NAMES, "an engine's name has to stand in settings.py too"


def choose(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    noise: Regularisation,
    execution: Execution = AUTOMATIC,
    quiet: bool = False,
    streamed: bool = False,
    sequence: SequenceInfo | None = None,
    all_states: bool = False,
) -> Choice:
    """The backend for this call. Where "auto" has to take a slower one than the kernels, that is
    told of once, unless ``quiet``. ``streamed``: it will run one step at a time. ``sequence``:
    torch's fused kernels may run it too, over this. Raises BackendError where the backend asked
    for cannot run it."""
    backend = settings.backend(execution.backend)
    if backend == "loop":
        return Choice(None, None, "the literal loop was asked for")
    reason = _hidden(cell, weights, x, state, noise, sequence)
    free = reason is None and backend == "auto" and not execution.deterministic
    if sequence is not None and free and torch_fused.runs(cell, x, noise, sequence, all_states):
        return Choice(None, None, torch_fused.reason(x), of_torch=True)
    reason = reason or _mixed(x)
    if reason is not None:
        if reason == LAZY:
            return Choice(None, None, reason, lazy=True)
        return _fall_back(cell, reason, backend, quiet)
    plan = plan_of(cell, weights, noise, execution, streamed, x.dtype)
    if isinstance(plan, UnsupportedError):
        return _fall_back(cell, str(plan), backend, quiet)
    choice = _engine(plan, x, backend)
    slow = backend == "auto" and bool(choice.reason)
    return _told(cell, choice, quiet) if slow else choice


def choose_engine(plan: Plan, x: Tensor, asked: str) -> Choice:
    """What runs a plan on such tensors. Raises BackendError where what is asked for cannot."""
    return _engine(plan, x, settings.backend(asked))


def _engine(plan: Plan, x: Tensor, backend: str) -> Choice:
    if backend == "loop":
        return Choice(None, None, "the literal loop was asked for")
    name = FASTEST if backend == "auto" else backend
    engine = ENGINES[name]
    refused = engine.refuses(plan, x)
    if refused is None:
        slower = "" if name == FASTEST else f"the {name} backend was asked for"
        return Choice(plan, engine if name == "eager" else checked(engine), slower)
    if backend == "auto":
        return Choice(plan, ENGINES["eager"], refused)
    raise BackendError(f"backend='{backend}' cannot run {plan.step.cell}: {refused}")


def plan_of(
    cell: Cell,
    weights: dict[str, Tensor],
    noise: Regularisation,
    execution: Execution = AUTOMATIC,
    streamed: bool = False,
    dtype: torch.dtype | None = None,
) -> Plan | UnsupportedError:
    """The plan of a cell under this noise, made once; or why there is none.

    dtype: of x and of the state; None: that of the weights.
    """
    parts = tuple([True if isinstance(z, Tensor) else z for z in noise.zoneout])
    kind = dtype or dtype_of(weights.values())
    masked = noise.state_mask is not None
    plan = plan_for(cell, weights, kind, masked, parts, streamed)
    if execution.deterministic and isinstance(plan, Plan) and not plan.fused:
        return plan_for(cell, weights, kind, masked, parts, streamed=True)
    return plan


def _hidden(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    noise: Regularisation,
    sequence: SequenceInfo | None,
) -> str | None:
    """What stands between a plan and the numbers that it reads, or hides its work from what has
    to see it; None: nothing."""
    mode = dispatch_mode()
    if mode is not None:
        return f"{mode} has to see every operation"
    extra = () if sequence is None else (sequence.lengths, sequence.reset)
    others = [t for t in (*extra, noise.state_mask, *noise.zoneout) if isinstance(t, Tensor)]
    tensors = (x, *state, *weights.values(), *others)
    if not all_plain(tensors):
        if any(map(is_lazy, tensors)):
            return LAZY
        names = ("x", *cell.state_sizes, *weights, *("a mask" for _ in others))
        return next(filter(None, map(oddity, names, tensors)))
    if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
        return "forward-mode differentiation has to see every operation"
    return None


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _mixed(x: Tensor) -> str | None:
    if not autocasts(x):
        return None
    return f"autocast on {x.device.type} chooses the type of each operation"


def _fall_back(cell: Cell, reason: str, backend: str, quiet: bool) -> Choice:
    """The literal loop; an error where another backend was asked for."""
    if backend != "auto":
        raise BackendError(
            f"backend='{backend}' cannot run {type(cell).__name__}: {reason}; use backend='auto' "
            "or 'loop'"
        )
    return _told(cell, Choice(None, None, reason), quiet)


def _told(cell: Cell, choice: Choice, quiet: bool) -> Choice:
    """A slower path than the kernels', which is told of once for each class of cells and reason."""
    name = type(cell).__name__
    if not quiet:
        path = "as the literal loop" if choice.plan is None else "as operations of torch"
        say_once(f"{name} runs {path}, which is slow: {choice.reason}")
    return choice
