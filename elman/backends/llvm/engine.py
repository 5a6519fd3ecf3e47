"""Kernels for the CPU: plans compiled by LLVM, run on torch's own threads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.engine import BackTape, Tape
from elman.backends.llvm import jit, team
from elman.backends.llvm.code import Code, Vector
from elman.backends.llvm.kernel import Kernel
from elman.backends.llvm.lower import Slot, lower
from elman.backends.llvm.packing import Packer
from elman.backends.llvm.share import Share, share
from elman.backends.llvm.target import Target, host
from elman.backends.walk import Walk
from elman.compiler.ir import Node, broadcast, const, elementwise, leaf, substitute, walk
from elman.compiler.plan import Plan

Targets = list[tuple[Node, Slot]]
Places = dict[Node, Slot]

ELEMENTS = {torch.float32: "float", torch.float64: "double"}


class LLVM:
    """The backend "llvm"."""

    name = "llvm"

    def __init__(self) -> None:
        self._programs: WeakKeyDictionary[Plan, dict[tuple[torch.dtype, Target], Program]] = (
            WeakKeyDictionary()
        )
        self._lock = Lock()

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        if like.device.type != "cpu":
            return f"there are no kernels for {like.device.type} yet"
        if like.dtype not in ELEMENTS:
            return f"there are no kernels for {like.dtype} yet, only for float32 and float64"
        return None

    def forward(self, plan: Plan, tape: Tape) -> None:
        program = self.program(plan, tape.given[0].dtype)
        loop = program.training if tape.training else program.inference
        loop.run(plan, tape, None)

    def backward(self, plan: Plan, tape: Tape, back: BackTape) -> None:
        self.program(plan, tape.given[0].dtype).backward.run(plan, tape, back)

    def program(self, plan: Plan, dtype: torch.dtype) -> Program:
        """The kernels of a plan, each compiled when it is first run."""
        key = dtype, host()
        with self._lock:
            programs = self._programs.setdefault(plan, {})
            if key not in programs:
                programs[key] = Program(plan, ELEMENTS[dtype], host())
            return programs[key]


@dataclass
class Program:
    """The kernels of a plan for one type of numbers and one processor."""

    plan: Plan
    element: str
    target: Target

    @cached_property
    def inference(self) -> Loop:
        return self._loop("inference", _forward(self.plan, training=False))

    @cached_property
    def training(self) -> Loop:
        return self._loop("training", _forward(self.plan, training=True))

    @cached_property
    def backward(self) -> Loop:
        return self._loop("backward", _backward(self.plan))

    def _loop(self, name: str, work: tuple[Targets, Places]) -> Loop:
        prelude = None
        if self.plan.fused and name != "backward":
            prelude = _prelude(self.plan, training=name == "training")
        return Loop(name, work, prelude, self.element, self.target)


class Loop:
    """One compiled loop."""

    def __init__(
        self,
        name: str,
        work: tuple[Targets, Places],
        prelude: tuple[Targets, Places] | None,
        element: str,
        target: Target,
    ) -> None:
        code, ty = Code(), Vector(element, target.lanes(element))
        self.lowered = lower(*work)
        before = None if prelude is None else lower(*prelude)
        backward = name == "backward"
        self.kernel = Kernel(code, name, self.lowered, ty, target, backward, before)
        self.kernel.write()
        self.spanned = () if prelude is None else tuple(slot for _, slot in prelude[0])
        width = "512" if ty.lanes * ty.bits == 512 else "256"
        self.source = code.module([f'"prefer-vector-width"="{width}"'])
        self.library = jit.load(self.source, name)
        self.entry = self.library.address(name)
        self.packer = Packer(self.kernel.packs, ty)
        self.target = target
        self.scratch = list(dict.fromkeys(self.lowered.scratch))

    def run(self, plan: Plan, tape: Tape, back: BackTape | None) -> None:
        """Run over a tape, forward or backward."""
        run = _Arguments(self, plan, tape, back)
        team.run(self.entry, run.address, run.share.threads)


class _Arguments:
    """The argument array of one run, and what must stay alive while it runs."""

    def __init__(self, loop: Loop, plan: Plan, tape: Tape, back: BackTape | None) -> None:
        self.keep: list[object] = []
        self.values: dict[str, int] = {}
        walk = tape.walk
        like = tape.given[0]
        self.share: Share = share(walk, loop.kernel.weights, loop.target)
        span = _span(loop, walk, self.share)
        self._header(loop, walk, span)
        if loop.spanned:
            self._spans(loop, plan, tape, span)
        self._inputs(plan, tape)
        for slot in loop.scratch:
            self.values[slot.name] = self.place(like.new_empty(walk.batch, slot.size))
        for name, packed in loop.packer.pack(plan, tape.weights):
            self.values[name] = self.place(packed)
        for i, buffer in enumerate(tape.saved):
            self.values[f"saved{i}"] = self.place(buffer)
        if back is not None:
            self._backward(plan, tape, back)
        names = loop.kernel.arguments
        self.array = (ctypes.c_int64 * len(names))(*[self.values[n] for n in names])
        self.address = ctypes.addressof(self.array)

    def _header(self, loop: Loop, walk: Walk, span: int) -> None:
        workspace = loop.kernel.workspace(walk.batch, span)
        room = torch.empty(workspace * self.share.threads + 128, dtype=torch.uint8)
        start = -(-room.data_ptr() // 64) * 64
        ctypes.memset(start, 0, 64)  # the counter of meetings, in a cache line of its own
        bounds = (ctypes.c_int64 * len(self.share.bounds))(*self.share.bounds)
        self.keep += [room, bounds]
        self.values |= {
            "steps": walk.steps,
            "batch": walk.batch,
            "shared": int(self.share.units),
            "chunks": len(self.share.bounds) - 1,
            "bounds": ctypes.addressof(bounds),
            "starts": walk.starts.data_ptr(),
            "counts": walk.counts.data_ptr(),
            "flags": walk.row_flags.data_ptr(),
            "counter": start,
            "workspace": start + 64,
            "stride": workspace,
            "span": span,
            "yield": team.yield_address(),
        }

    def _spans(self, loop: Loop, plan: Plan, tape: Tape, span: int) -> None:
        """Memory for what enters the loop: for a span of steps, or for all."""
        like, walk = tape.given[0], tape.walk
        for i, slot in enumerate(loop.spanned):
            if slot.kind == "row":
                tape.entering[i] = memory.empty(like, walk.rows, slot.size)
            else:
                self.values[slot.name] = self.place(like.new_empty(span * walk.batch, slot.size))

    def place(self, tensor: Tensor) -> int:
        assert tensor.is_contiguous()
        self.keep.append(tensor)
        return tensor.data_ptr()

    def _inputs(self, plan: Plan, tape: Tape) -> None:
        for i, rows in enumerate(tape.entering):
            if rows is not None:
                self.values[f"in{i}"] = self.place(rows)
        if plan.fused:
            self.values["x"] = self.place(tape.inputs[0])
        for i, weight in enumerate(tape.weights):
            self.values[f"weight{i}"] = self.place(weight.contiguous())
        if tape.mask is not None:
            self.values["mask"] = self.place(tape.mask.contiguous())
        for i, state in enumerate(plan.states):
            name = state.attrs["name"]
            self.values[f"states {name}"] = self.place(tape.states[i])
            self.values[f"ring {name}"] = int(tape.rings[i])
            self.values[f"given {name}"] = self.place(tape.given[i].contiguous())
            self.values[f"own {name}"] = self.place(tape.own[i].contiguous()) if tape.own else 0

    def _backward(self, plan: Plan, tape: Tape, back: BackTape) -> None:
        for i, buffer in enumerate(back.stored):
            self.values[f"stored{i}"] = self.place(buffer)
        for i, state in enumerate(plan.states):
            name, d_last, d_out = state.attrs["name"], back.d_last[i], back.d_states[i]
            self.values[f"carry {name}"] = self.place(torch.cat([d_last, d_last]))
            self.values[f"d_given {name}"] = self.place(d_last)
            own = torch.zeros_like(d_last) if back.d_own is None else back.d_own[i]
            self.values[f"d_own {name}"] = self.place(own)
            rows = d_last.new_zeros(1, d_last.shape[1]) if d_out is None else d_out
            self.values[f"out {name}"] = self.place(rows)
            self.values[f"stride out {name}"] = 0 if d_out is None else d_last.shape[1]


# ------------------------------------------------------------ from a plan to places in memory


#: Rows that enter at once, for each thread: enough that they share the weights they meet.
SPAN_ROWS = 96


def _span(loop: Loop, walk: Walk, share: Share) -> int:
    """How many steps are entered at once: a few, so that what enters is still in the L2 cache
    when the loop comes to read it."""
    if not loop.spanned:
        return 1
    rows = -(-walk.batch // (1 if share.units else share.threads))
    return max(1, min(walk.steps, SPAN_ROWS // max(rows, 1)))


def _prelude(plan: Plan, training: bool) -> tuple[Targets, Places]:
    """What enters the loop, made from x; kept for all t where the backward loop reads it."""
    kind = "row" if training and plan.reads_entering else "span"
    targets = [(n, Slot(f"in{i}", kind, n.size)) for i, n in enumerate(plan.entering)]
    places = {n: Slot(f"weight{i}", "weight", n.size) for i, n in enumerate(plan.prepared)}
    places[plan.step.x] = Slot("x", "row", plan.step.x.size)
    return targets, _reached(targets, places)


def _places(plan: Plan, kind: str = "row") -> Places:
    """Where a loop finds its leaves; ``kind``: of what enters it."""
    places = {n: Slot(f"weight{i}", "weight", n.size) for i, n in enumerate(plan.prepared)}
    places |= {n: Slot(f"in{i}", "row", n.size) for i, n in enumerate(plan.rows)}
    places |= {n: Slot(f"in{i}", kind, n.size) for i, n in enumerate(plan.entering)}
    places |= {n: Slot(n.attrs["name"], "old", n.size) for n in plan.states}
    if plan.step.mask is not None:
        places[plan.step.mask] = Slot("mask", "batch", plan.step.mask.size)
    return places


def _forward(plan: Plan, training: bool) -> tuple[Targets, Places]:
    saved = plan.saved if training else ()
    kept = not plan.fused or training and plan.reads_entering
    targets = [
        (new, Slot(old.attrs["name"], "new", old.size))
        for old, new in zip(plan.states, plan.outputs, strict=True)
    ]
    targets += [(node, Slot(f"saved{i}", "row", node.size)) for i, node in enumerate(saved)]
    return targets, _reached(targets, _places(plan, "row" if kept else "span"))


def _backward(plan: Plan) -> tuple[Targets, Places]:
    places = _places(plan)
    for old, new in zip(plan.states, plan.outputs, strict=True):
        places.setdefault(new, Slot(old.attrs["name"], "new", old.size))
    places |= {n: Slot(f"saved{i}", "row", n.size) for i, n in enumerate(plan.saved)}
    replaced = {}
    for old, d_new in zip(plan.states, plan.backward.cotangents, strict=True):
        name = old.attrs["name"]
        carry, out = leaf("cotangent", f"carry {name}", old.size), leaf("cotangent", name, old.size)
        places[carry] = Slot(name, "carry", old.size)
        places[out] = Slot(f"out {name}", "dout", old.size)
        replaced[d_new] = elementwise("add", carry, out)
    nothing = [broadcast(const(0.0), old.size) for old in plan.states]
    d_states = [
        zero if d is None else d
        for d, zero in zip(plan.backward.d_states, nothing, strict=True)
    ]
    nodes = substitute((*d_states, *plan.backward.stored), replaced)
    targets = [
        (node, Slot(old.attrs["name"], "d_old", old.size))
        for old, node in zip(plan.states, nodes, strict=False)
    ]
    stored = nodes[len(plan.states) :]
    targets += [(node, Slot(f"stored{i}", "row", node.size)) for i, node in enumerate(stored)]
    return targets, _reached(targets, places)


def _reached(targets: Targets, places: Places) -> Places:
    """The places that are read."""
    reached = set(walk([node for node, _ in targets], until=places))
    return {node: slot for node, slot in places.items() if node in reached}
