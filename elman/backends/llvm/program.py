"""The kernels of a plan, and the arguments that they are run with."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.engine import BackTape, Tape
from elman.backends.llvm import jit, places, team
from elman.backends.llvm.code import Code, Vector
from elman.backends.llvm.kernel import Kernel
from elman.backends.llvm.lower import lower
from elman.backends.llvm.packing import Packer
from elman.backends.llvm.places import Places, Targets
from elman.backends.llvm.share import Load, Share, share
from elman.backends.llvm.target import Target
from elman.backends.walk import Walk
from elman.compiler.plan import Plan

#: Rows that enter at once, for each thread: enough that they share the weights they meet.
SPAN_ROWS = 64


@dataclass
class Program:
    """The kernels of a plan for one type of numbers and one processor."""

    plan: Plan
    element: str
    target: Target

    @cached_property
    def inference(self) -> Loop:
        return self._loop("inference", places.forward(self.plan, training=False))

    @cached_property
    def training(self) -> Loop:
        return self._loop("training", places.forward(self.plan, training=True))

    @cached_property
    def backward(self) -> Loop:
        return self._loop("backward", places.backward(self.plan))

    def forward(self, training: bool) -> Loop:
        return self.training if training else self.inference

    def _loop(self, name: str, work: tuple[Targets, Places]) -> Loop:
        prelude = None
        if self.plan.fused and name != "backward":
            prelude = places.prelude(self.plan, training=name == "training")
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


def run(loops: Iterable[tuple[Loop, Plan, Tape, BackTape | None]]) -> None:
    """Run a loop over its tape, forward or backward; or two at the same time."""
    given = list(loops)
    all_threads = team.max_threads()
    threads = max(1, all_threads // len(given))
    runs = [Arguments(*each, threads) for each in given]
    calls = [(each[0].entry, run.address) for each, run in zip(given, runs, strict=True)]
    most = max(run.share.threads for run in runs)
    if len(calls) == 1:
        team.run(*calls[0], most)
    else:
        one, other = calls
        team.run_both(one, other, min(2 * most, all_threads))


class Arguments:
    """The argument array of one run, and what must stay alive while it runs.

    threads: how many it may run on.
    """

    def __init__(
        self, loop: Loop, plan: Plan, tape: Tape, back: BackTape | None, threads: int
    ) -> None:
        self.keep: list[object] = []
        self.values: dict[str, int] = {}
        walk = tape.walk
        like = tape.given[0]
        self.share: Share = share(Load(walk, loop.kernel.weights), loop.target, threads)
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
        self.counter = start
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
            if weight.dim() < 2:
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


def _span(loop: Loop, walk: Walk, share: Share) -> int:
    """How many steps are entered at once: a few, so that what enters is still in the L2 cache
    when the loop comes to read it."""
    if not loop.spanned:
        return 1
    rows = -(-walk.batch // (1 if share.units else share.threads))
    return max(1, min(walk.steps, SPAN_ROWS // max(rows, 1)))
