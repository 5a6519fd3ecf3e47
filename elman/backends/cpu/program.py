"""The kernels of a plan, and the arguments that they are run with."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elman.backends import memory
from elman.backends.base import BackwardBuffers, ForwardBuffers
from elman.backends.cpu.codegen import denormals
from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.codegen.kernel import Kernel
from elman.backends.cpu.jit.library import load
from elman.backends.cpu.jit.once import making
from elman.backends.cpu.jit.target import Target
from elman.backends.cpu.memory.packing import Packer
from elman.backends.cpu.threads import openmp
from elman.backends.cpu.threads.partition import Partition, Workload, partition
from elman.backends.operands import address
from elman.backends.ragged import RaggedLayout
from elman.compiler.ir.nodes import Node
from elman.compiler.plan import Plan
from elman.schedule import slots
from elman.schedule.slots import Places, Targets
from elman.schedule.stages import lower

#: Rows that enter at once, for each thread: enough that they share the weights they meet.
SPAN_ROWS = 64

#: For how many layouts a loop keeps its room: as many batches that come in turns, or threads that
#: call at once.
KEPT = 2


@dataclass
class Program:
    """The kernels of a plan for one type of numbers and one processor."""

    plan: Plan
    element: str
    target: Target

    _loops: dict[str, Loop] = field(default_factory=dict, repr=False)

    @property
    def inference(self) -> Loop:
        return self._loop("inference")

    @property
    def training(self) -> Loop:
        return self._loop("training")

    @property
    def backward(self) -> Loop:
        return self._loop("backward")

    def forward(self, training: bool) -> Loop:
        return self.training if training else self.inference

    def _loop(self, name: str) -> Loop:
        """The loop of this name, compiled when it is first run."""
        if name not in self._loops:
            with making:
                if name not in self._loops:
                    self._loops[name] = self._made(name)
        return self._loops[name]

    def _made(self, name: str) -> Loop:
        plan, prelude, training = self.plan, None, name == "training"
        if plan.fused and name != "backward":
            prelude = slots.prelude(plan, training)
        work = slots.backward(plan) if name == "backward" else slots.forward(plan, training)
        mode = denormals.mode(plan, work if name == "backward" else None)
        return Loop(name, work, prelude, plan.prepared, mode, self.element, self.target)


class Loop:
    """One compiled loop."""

    def __init__(
        self,
        name: str,
        work: tuple[Targets, Places],
        prelude: tuple[Targets, Places] | None,
        prepared: Sequence[Node],
        mode: int,
        element: str,
        target: Target,
    ) -> None:
        code, ty = Code(), Vector(element, target.lanes(element))
        self.dtype = torch.float32 if element == "float" else torch.float64
        self.lowered = lower(*work)
        before = None if prelude is None else lower(*prelude)
        backward = name == "backward"
        self.kernel = Kernel(code, name, self.lowered, ty, target, backward, before)
        self.kernel.write(mode)
        self.spanned = () if prelude is None else tuple(slot for _, slot in prelude[0])
        width = "512" if ty.lanes * ty.bits == 512 else "256"
        self.source = code.module([f'"prefer-vector-width"="{width}"'])
        self.library = load(self.source, name)
        self.entry = self.library.address(name)
        self.packer = Packer(self.kernel.layout.packs, ty, prepared)
        self.target = target
        self.scratch = list(dict.fromkeys(self.lowered.scratch))
        #: Where each argument stands.
        self.places = {name: place for place, name in enumerate(self.kernel.layout.arguments)}
        #: Those of the last runs, for a run over the same layout.
        self.frames: deque[Frame] = deque(maxlen=KEPT)

    def frame(self, layout: RaggedLayout, like: Tensor, threads: int) -> Frame:
        """What a run over this layout takes; nobody else has it now."""
        for _ in range(KEPT):
            try:
                frame = self.frames.popleft()
            except IndexError:
                break
            if frame.layout is layout and frame.threads == threads:
                return frame
            self.frames.append(frame)
        return Frame(self, layout, like, threads)


def run(loops: Iterable[tuple[Loop, Plan, ForwardBuffers, BackwardBuffers | None]]) -> None:
    """Run a loop over its buffers, forward or backward; or two at the same time."""
    given = list(loops)
    all_threads = openmp.max_threads()
    threads = max(1, all_threads // len(given))
    runs = [Arguments(*each, threads) for each in given]
    calls = [(each[0].entry, run.address) for each, run in zip(given, runs, strict=True)]
    most = max(run.partition.threads for run in runs)
    if len(calls) == 1:
        openmp.run(*calls[0], most)
    else:
        one, other = calls
        openmp.run_both(one, other, min(2 * most, all_threads))
    for (loop, *_), done in zip(given, runs, strict=True):
        loop.frames.append(done.frame)


class Frame:
    """The argument array of runs over one layout, and room to work in: what is the same from one
    run to the next. It serves one run at a time.

    threads: how many they may run on.
    """

    def __init__(self, loop: Loop, layout: RaggedLayout, like: Tensor, threads: int) -> None:
        self.layout, self.threads = layout, threads
        self.partition = partition(
            Workload(layout, loop.kernel.layout.weight_bytes), loop.target, threads
        )
        self.array = (ctypes.c_int64 * len(loop.places))()
        span = _span(loop, layout, self.partition)
        workspace = loop.kernel.layout.workspace(layout.batch, span)
        size = workspace * self.partition.threads + 128
        room = torch.empty(size, dtype=torch.uint8, device="cpu")
        bounds = (ctypes.c_int64 * len(self.partition.bounds))(*self.partition.bounds)
        self.counter = -(-room.data_ptr() // 64) * 64  # in a cache line of its own
        self.room: dict[str, Tensor] = {
            slot.name: like.new_empty(layout.batch, slot.size) for slot in loop.scratch
        } | {
            slot.name: like.new_empty(span * layout.batch, slot.size)
            for slot in loop.spanned
            if slot.kind == "span"
        }
        # The layout may be given other flags by another thread that asks for them at the same time.
        flags = layout.row_flags
        self._keep = room, bounds, flags
        values = {
            "steps": layout.steps,
            "batch": layout.batch,
            "shared": int(self.partition.units),
            "chunks": len(self.partition.bounds) - 1,
            "bounds": ctypes.addressof(bounds),
            "starts": address("starts", layout.starts, torch.int64, layout.steps),
            "counts": address("counts", layout.counts, torch.int64, layout.steps),
            "flags": address("flags", flags, torch.uint8, layout.rows),
            "counter": self.counter,
            "workspace": self.counter + 64,
            "stride": workspace,
            "span": span,
            "yield": openmp.yield_address(),
        }
        values |= {name: tensor.data_ptr() for name, tensor in self.room.items()}
        for name, value in values.items():
            self.array[loop.places[name]] = value


class Arguments:
    """The arguments of one run, and what must stay alive while it runs.

    threads: how many it may run on.
    """

    def __init__(
        self,
        loop: Loop,
        plan: Plan,
        buffers: ForwardBuffers,
        back: BackwardBuffers | None,
        threads: int,
    ) -> None:
        self.keep: list[object] = []
        self.frame = loop.frame(buffers.layout, buffers.initial_state[0], threads)
        self.partition, self.array = self.frame.partition, self.frame.array
        self.address = ctypes.addressof(self.array)
        self._places, self.dtype = loop.places, loop.dtype
        ctypes.memset(self.frame.counter, 0, 8)
        for i, slot in enumerate(loop.spanned):
            if slot.kind == "row":  # for all steps: the backward loop reads it
                buffers.entering[i] = memory.empty(
                    buffers.initial_state[0], buffers.layout.rows, slot.size
                )
        self._inputs(plan, buffers)
        for (name, count), packed in loop.packer.pack(plan, buffers.weights):
            self.place(name, packed, count)
        for i, (node, buffer) in enumerate(_saved(plan, buffers)):
            self.place(f"saved{i}", buffer, node.size * buffers.layout.rows)
        if back is not None:
            self._backward(plan, buffers, back)

    def place(self, name: str, tensor: Tensor, count: int) -> None:
        """A tensor of so many numbers for an argument, if the loop takes it."""
        at = self._places.get(name)
        if at is not None:
            self.keep.append(tensor)
            self.array[at] = address(name, tensor, self.dtype, count)

    def number(self, name: str, value: int) -> None:
        at = self._places.get(name)
        if at is not None:
            self.array[at] = value

    def _inputs(self, plan: Plan, buffers: ForwardBuffers) -> None:
        layout = buffers.layout
        for i, (node, rows) in enumerate(zip(plan.rows, buffers.entering, strict=True)):
            if rows is not None:
                self.place(f"in{i}", rows, node.size * layout.rows)
        if plan.fused:
            self.place("x", buffers.inputs[0], plan.step.x.size * layout.rows)
        for i, (node, weight) in enumerate(zip(plan.prepared, buffers.weights, strict=True)):
            if weight.dim() < 2:
                self.place(f"weight{i}", weight.contiguous(), node.size)
        if buffers.state_mask is not None and plan.step.mask is not None:
            self.place("mask", buffers.state_mask.contiguous(), plan.step.mask.size * layout.batch)
        for i, state in enumerate(plan.states):
            name, size = state.attrs["name"], state.size
            count = 2 * layout.batch if buffers.double_buffered[i] else layout.rows
            self.place(f"states {name}", buffers.states[i], count * size)
            self.number(f"double {name}", int(buffers.double_buffered[i]))
            self.place(
                f"initial {name}", buffers.initial_state[i].contiguous(), layout.batch * size
            )
            if buffers.reset_state:
                self.place(
                    f"reset {name}", buffers.reset_state[i].contiguous(), layout.batch * size
                )
            elif (given := self._places.get(f"initial {name}")) is not None:
                # Without cuts the loop picks it for no row.
                self.number(f"reset {name}", self.array[given])

    def _backward(self, plan: Plan, buffers: ForwardBuffers, back: BackwardBuffers) -> None:
        layout = buffers.layout
        for i, (node, buffer) in enumerate(zip(plan.backward.stored, back.stored, strict=True)):
            self.place(f"stored{i}", buffer, node.size * layout.rows)
        for i, state in enumerate(plan.states):
            name, d_last, d_out = state.attrs["name"], back.d_last_state[i], back.d_states[i]
            count = layout.batch * state.size
            self.place(f"carry {name}", torch.cat([d_last, d_last]), 2 * count)
            self.place(f"d_initial {name}", d_last, count)
            if layout.flags is not None:
                wanted = back.d_reset_state
                own = d_last.new_zeros(d_last.shape) if wanted is None else wanted[i]
                self.place(f"d_reset {name}", own, count)
            rows = d_last.new_zeros(1, d_last.shape[1]) if d_out is None else d_out
            self.place(f"out {name}", rows, state.size * (1 if d_out is None else layout.rows))
            self.number(f"stride out {name}", 0 if d_out is None else d_last.shape[1])


def _saved(plan: Plan, buffers: ForwardBuffers) -> Iterable[tuple[Node, Tensor]]:
    return zip(plan.saved if buffers.training else (), buffers.saved, strict=True)


def _span(loop: Loop, layout: RaggedLayout, partition: Partition) -> int:
    """How many steps are entered at once: a few, so that what enters is still in the L2 cache
    when the loop comes to read it."""
    if not loop.spanned:
        return 1
    rows = -(-layout.batch // (1 if partition.units else partition.threads))
    return max(1, min(layout.steps, SPAN_ROWS // max(rows, 1)))
