"""What is fixed about the runs that a compiled graph holds, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, WeakValueDictionary, ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from elman import knobs
from elman.backends import memory
from elman.backends.choose import Choice, Execution, choose, plan_of
from elman.backends.engine import Tape
from elman.backends.segments import memory_budget
from elman.cells.cell import Cell, State, bind, weights_of
from elman.compiler.ir import Node
from elman.compiler.plan import Plan
from elman.errors import BackendError
from elman.scan import _Compiled, _Job, scan
from elman.sequence import Noise, Sequence, check_lengths


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
    or "all"; "/" where the literal loop was asked for."""
    backend = knobs.backend(execution.backend)
    if backend == "loop":
        return "/"
    autocast = None
    if torch.is_autocast_enabled(device):
        autocast = device, torch.get_autocast_dtype(device)
    execution = replace(execution, backend=backend)
    call = Call(execution, names, reverse, all_states, truncated, given, zoneout, autocast)
    with _disable_current_modes():
        plan = _plan(cell, call, dtype)
    saved = () if plan is None else [node.size for node in _kept(plan)]
    parts = len(cell.state_sizes)
    numbers = [_entry(cell, call).place, parts, parts if all_states else 1, *saved]
    return f"{' '.join(map(str, numbers))}/{_most(call, plan, dtype)}"


# torch.compile calls it while tracing, and traces anew where the cell is another one.
describe._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _plan(cell: Cell, call: Call, dtype: torch.dtype) -> Plan | None:
    own = weights_of(cell)
    like = {name: torch.empty(own[name].shape, dtype=dtype, device="meta") for name in call.names}
    there = torch.empty(0)
    zoneout = tuple(there if z is True else z for z in call.zoneout)
    plan = plan_of(cell, like, Noise(there if call.given[2] else None, zoneout))
    return plan if isinstance(plan, Plan) else None


def _kept(plan: Plan) -> list[Node]:
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


# ---------------------------------------------------------------- one run


@dataclass
class Run:
    """A run with its tensors: results are the states at all steps, then the last state."""

    cell: Cell
    call: Call
    weights: dict[str, Tensor]
    x: Tensor
    state: State
    sequence: Sequence
    noise: Noise

    @staticmethod
    def of(text: str, inputs: Several[Tensor], masks: Several[Tensor], truncate: int | None) -> Run:
        """Raises BackendError where the cell is no more, ShapeError where lengths are wrong."""
        shape = shape_of(text)
        entry = _table.get(shape.place)
        cell = None if entry is None else entry.cell()
        if entry is None or cell is None:
            raise BackendError(
                "the layer that this compiled graph was made of is gone; keep a reference to it, "
                "or compile or export it again in this process"
            )
        call, rest = entry.call, iter(masks)
        x, *others = inputs
        weights = dict(zip(call.names, others[shape.parts :], strict=True))
        lengths, reset, mask = (next(rest) if there else None for there in call.given)
        noise = Noise(mask, tuple(next(rest) if z is True else z for z in call.zoneout))
        if lengths is not None:
            check_lengths(lengths, len(x))
        state = tuple(others[: shape.parts])
        bound = _bound(cell, weights)
        return Run(bound, call, weights, x, state, Sequence(lengths, reset, truncate), noise)

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast as it was where the graph was made."""
        if self.call.autocast is None:
            return nullcontext()
        device, dtype = self.call.autocast
        return torch.autocast(device, dtype)

    def eager(self) -> list[Tensor]:
        """The run as the eager mode has it."""
        call = self.call
        states, last = scan(
            self.cell, self.weights, self.x, self.state, sequence=self.sequence, noise=self.noise,
            reverse=call.reverse, all_states=call.all_states, execution=call.execution,
        )  # fmt: skip
        return self._cast([*states, *last])

    def recorded(self, sizes: Several[int]) -> list[Tensor]:
        """The results, then the other parts of the states at all steps, and what is saved."""
        jobs: list[_Recording] = []
        choice = self._choice()

        def record(*fields: Any) -> _Job:
            jobs.append(_Recording(*fields))
            return jobs[-1]

        states, last = self._run(choice, record, all_states=True)
        shown = len(states) if self.call.all_states else 1
        T, B = self.x.shape[:2]
        saved = (
            _padded(jobs[0].kept(), T * B)
            if jobs
            else [self.state[0].new_zeros(T * B, size) for size in sizes]
        )
        return self._cast([*states[:shown], *last, *states[shown:], *saved])

    def replayed(self, kept: list[Tensor]) -> list[Tensor]:
        """The results, as functions of the inputs, without running the loop again."""
        parts = len(self.state)
        states, saved = kept[:parts], kept[parts:]
        states, last = self._run(
            self._choice(),
            lambda *fields: _Replaying(*fields, states, saved),
            all_states=self.call.all_states,
        )
        return self._cast([*states, *last])

    def _choice(self) -> Choice:
        execution = self.call.execution
        return choose(self.cell, self.weights, self.x, self.state, self.noise, execution)

    def _run(
        self, choice: Choice, job: Callable[..., _Job], all_states: bool
    ) -> tuple[State, State]:
        if choice.plan is None or choice.engine is None:
            raise BackendError(
                f"{type(self.cell).__name__} had a plan when this graph was compiled and has none "
                f"now: {choice.reason}; compile it again"
            )
        compiled = _Compiled(self.cell, choice.plan, choice.engine, self.weights, job)
        reverse = self.call.reverse
        return compiled.run(self.x, self.state, self.sequence, self.noise, reverse, all_states)

    def _cast(self, found: list[Tensor]) -> list[Tensor]:
        """In the dtype of the state: a graph knows it before anything has run."""
        return [t.to(self.state[0].dtype) for t in found]


def _bound(cell: Cell, weights: dict[str, Tensor]) -> Cell:
    """The cell with these values, which its initial state may be made of, and with its plans."""
    bound = bind(cell, weights)
    vars(bound)["plans_of"] = cell
    return bound


class _Running(_Job):
    """A run whose states lie in memory of their own, as the results of an operator must."""

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.forward(self.tape(inputs, training=False))

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Tape:
        tape = super().tape(inputs, training)
        tape.states = [s if ring else s.new_empty(s.shape)
                       for s, ring in zip(tape.states, tape.rings)]
        return tape


class _Recording(_Running):
    """A run for which there will be a backward loop elsewhere."""

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.recorded = self.tape(inputs, training=True)
        return self.forward(self.recorded)

    def kept(self) -> list[Tensor]:
        """What `_kept` names."""
        made = self.recorded.entering[: len(_kept(self.plan)) - len(self.plan.saved)]
        return [*self.recorded.saved, *(rows for rows in made if rows is not None)]


@dataclass
class _Replaying(_Job):
    """A run that has been: states [T, B, S] of each part, and what was kept, [T * B, n]."""

    known: list[Tensor]
    kept: list[Tensor]

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> Tape:
        tape = super().tape(inputs, training)
        for rows, known in zip(tape.states, self.known, strict=True):
            rows.copy_(self.walk.pack(known))
        kept = [kept[: self.walk.rows] for kept in self.kept]
        count = len(self.plan.saved)
        tape.saved, made = kept[:count], kept[count:]
        tape.entering[: len(made)] = made
        return tape

    def forward(self, tape: Tape) -> tuple[Tensor, ...]:
        return self.results(tape)


def _padded(kept: Several[Tensor], rows: int) -> list[Tensor]:
    """[rows, n]: what a ragged batch leaves free stays as it is."""
    if not kept or len(kept[0]) == rows:
        return list(kept)
    wholes = [memory.empty(tensor, rows, tensor.shape[1]) for tensor in kept]
    for whole, tensor in zip(wholes, kept, strict=True):
        whole[: len(tensor)] = tensor
        whole[len(tensor) :] = 0
    return wholes


@contextmanager
def with_autograd() -> Iterator[None]:
    """Let torch differentiate inside an operator, where it does not otherwise."""
    exclude = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradOther", "ADInplaceOrView"):
        exclude = exclude.remove(getattr(torch._C.DispatchKey, key))
    include = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(include, exclude), torch.enable_grad():
        yield
