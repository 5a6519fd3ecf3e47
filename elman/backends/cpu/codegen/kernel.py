"""The code of one loop: a lowered step, run over the rows of a ragged layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from elman.backends.cpu.codegen.addresses import Addresses
from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.codegen.denormals import Control
from elman.backends.cpu.codegen.layout import KernelLayout, is_number
from elman.backends.cpu.codegen.stage import StageWriter
from elman.backends.cpu.jit.target import Target
from elman.schedule.stages import Lowered, Slot

#: Turns that a thread waits for the others before it gives its core away, a power of two.
SPIN = 1024


class Kernel:
    """Writes one loop: `write` once, then read ``code``.

    layout: what the loop is given. addresses: where a row's numbers are. stages: the work of a
    step.
    """

    def __init__(
        self,
        code: Code,
        name: str,
        loop: Lowered,
        ty: Vector,
        target: Target,
        backward: bool = False,
        prelude: Lowered | None = None,
    ) -> None:
        self.code, self.name, self.loop, self.prelude = code, name, loop, prelude
        self.target, self.backward = target, backward
        self.layout = KernelLayout(loop, prelude, ty)
        self.addresses = Addresses(code, self.layout, target)
        self.stages = StageWriter(self.addresses)
        #: The name of the i1 that says whether several threads share the rows.
        self.several = ""

    def write(self, mode: int) -> None:
        """Write the functions: ``name`` is the entry (ptr data, i64 thread, i64 threads).

        mode: what it takes for 0 (`denormals.mode`), whichever thread runs it.
        """
        self.stages.write_tiles()
        self._meet()
        self._run()
        self._entry(Control(self.code, self.target, mode))

    def _meet(self) -> None:
        """Spin until the counter reaches ``wanted``; yield the core where that takes long."""
        code = self.code
        with code.function(
            f"internal void @{self.name}_meet(ptr %counter, i64 %wanted, ptr %yield)"
        ):
            spin, again, out = code.name("spin"), code.name("again"), code.name("met")
            code.branch(spin)
            code.label(spin)
            turns, more = code.name("turns"), code.name("more")
            code.do(f"{turns} = phi i64 [ 0, %entry ], [ {more}, {again} ]")
            now = code.op("load atomic i64, ptr %counter acquire, align 8")
            wait = code.name("wait")
            code.branch_if(code.compare("sge", now, "%wanted"), out, wait)
            code.label(wait)
            if "x86" in self.target.triple:
                code.call("void", "llvm.x86.sse2.pause")
            code.do(f"{more} = add i64 {turns}, 1")
            rest = code.op(f"and i64 {more}, {SPIN - 1}")
            tired = code.compare("eq", rest, 0)
            there = code.op("icmp ne ptr %yield, null")
            with code.when(code.op(f"and i1 {tired}, {there}")):
                code.op("call i32 %yield()")
            code.branch(again)
            code.label(again)
            code.branch(spin)
            code.label(out)

    def _entry(self, control: Control) -> None:
        code = self.code
        with code.function(f"void @{self.name}(ptr %data, i64 %thread, i64 %threads)"):
            control.begin()
            values = {name: self._read(name) for name in ("shared", "chunks", "batch", "stride")}
            workspace = self._read("workspace", "ptr")
            mine = code.gep(workspace, code.mul("%thread", values["stride"]), "i8")
            shared = code.compare("ne", values["shared"], 0)
            alone = code.compare("eq", values["shared"], 0)
            head = f"call void @{self.name}_run(ptr %data, ptr {mine}"
            with code.when(shared):
                code.do(f"{head}, i64 0, i64 {values['batch']}, i64 %thread, i64 %threads)")
            with code.when(alone):
                bounds = self._read("bounds", "ptr")
                with self._strided("%thread", values["chunks"], "%threads") as chunk:
                    low = code.load("i64", code.gep(bounds, chunk, "i64"), 8)
                    high = code.load("i64", code.gep(bounds, code.add(chunk, 1), "i64"), 8)
                    code.do(f"{head}, i64 {low}, i64 {high}, i64 0, i64 1)")
            control.end()

    @contextmanager
    def _strided(self, start: str, stop: str, step: str) -> Iterator[str]:
        """``for i in range(start, stop, step)`` with a step known at run time."""
        code = self.code
        count = code.sub(code.add(code.sub(stop, start), step), 1)
        turns = code.smax(code.op(f"sdiv i64 {count}, {step}"), 0)
        with code.loop(0, turns) as loop:
            yield code.add(start, code.mul(loop.index, step))

    def _read(self, name: str, kind: str = "i64") -> str:
        at = self.code.gep("%data", self.layout.arguments.index(name), "i64")
        return self.code.load(kind, at, 8)

    def _run(self) -> None:
        code = self.code
        head = "ptr %data, ptr %workspace, i64 %low, i64 %high, i64 %part, i64 %parts"
        with code.function(f"internal void @{self.name}_run({head})"):
            self.addresses.value = {
                name: self._read(name, "i64" if is_number(name) else "ptr")
                for name in self.layout.arguments
            }
            self.addresses.table_at = code.gep("%workspace", self.layout.accumulator_bytes, "i8")
            self.several = code.compare("sgt", "%parts", 1)
            steps = self.addresses.value["steps"]
            with code.loop(0, steps, 1, [("i64", "0")]) as loop:
                index, met = loop.index, loop.values[0]
                if self.backward:
                    index = code.sub(code.sub(steps, 1), index)
                if self.prelude is not None:
                    met = self._enter(index, met)
                loop.next = [self._one(index, met)]

    def _one(self, index: str, met: str) -> str:
        """One step of the loop; returns the count that the next barrier waits for."""
        addresses = self.addresses
        addresses.lowered, addresses.present = self.loop, set(self.loop.leaves)
        addresses.begin(index)
        for position, stage in enumerate(self.loop.stages):
            if position:
                met = self._barrier(met)
            for node in stage.prepare:
                self.stages.prepare(node)
                addresses.present.add(node)
            for at in stage.maps.values():
                self.stages.map(at, "%low", addresses.top)
            addresses.present |= self.loop.kept(position)
        return self._barrier(met)

    # ------------------------------------------------------------ what enters

    def _enter(self, index: str, met: str) -> str:
        """At the first step of a span, compute what enters all of its steps.

        The rows of several steps share each block of weights, and what enters is still in the
        cache when the loop reads it.
        """
        assert self.prelude is not None
        code, addresses = self.code, self.addresses
        value = addresses.value
        turn = code.op(f"srem i64 {index}, {value['span']}")
        addresses.span_turn = turn
        before = code.block
        with code.when(code.compare("eq", turn, 0)):
            addresses.lowered, addresses.present = self.prelude, set(self.prelude.leaves)
            rows = self._rows_of_span(index)
            for stage in self.prelude.stages:
                for at in stage.maps.values():
                    self.stages.map(at, "0", rows)
            inside = self._barrier(met)
            last = code.block
        return code.op(f"phi i64 [ {met}, %{before} ], [ {inside}, %{last} ]")

    def _rows_of_span(self, first: str) -> str:
        """List the rows of a span: which row of the inputs, and where what enters goes."""
        code, addresses = self.code, self.addresses
        value = addresses.value
        end = code.smin(code.add(first, value["span"]), value["steps"])
        with code.loop(first, end, 1, [("i64", "0")]) as step:
            start = addresses.integer(value["starts"], step.index)
            top = code.smin("%high", addresses.integer(value["counts"], step.index))
            turn = code.mul(code.sub(step.index, first), value["batch"])
            with code.loop("%low", top, 1, [("i64", step.values[0])]) as rows:
                number, row = rows.values[0], code.add(start, rows.index)
                addresses.add_to_list(0, number, row)
                addresses.add_to_list(1, number, code.add(turn, rows.index))
                x = code.op(f"ptrtoint ptr {addresses.at('x', row, self._input.size)} to i64")
                addresses.add_to_list(2, number, x)
                rows.next = [code.add(number, 1)]
            step.next = [rows.values[0]]
        return step.values[0]

    @property
    def _input(self) -> Slot:
        assert self.prelude is not None
        return next(slot for slot in self.prelude.places.values() if slot.name == "x")

    def _barrier(self, met: str) -> str:
        """A barrier of all parts; returns the count that the next one waits for."""
        code = self.code
        following = code.add(met, "%parts")
        with code.when(self.several):
            counter = self.addresses.value["counter"]
            code.op(f"atomicrmw add ptr {counter}, i64 1 acq_rel")
            code.do(
                f"call void @{self.name}_meet(ptr {counter}, i64 {following}, "
                f"ptr {self.addresses.value['yield']})"
            )
        return following
