"""Where a row's numbers are, in the step that is being written."""

from __future__ import annotations

from elman.backends.cpu.codegen.code import Code
from elman.backends.cpu.codegen.functions import emit
from elman.backends.cpu.codegen.layout import KernelLayout
from elman.backends.cpu.jit.target import Target
from elman.compiler.ir.nodes import Node
from elman.schedule.stages import Slot


class Addresses:
    """Addresses of rows, and how vectors come from there and go there.

    lowered: the step that is being written. present: the values that memory holds where the code
    being written runs. value: the arguments, by name; table_at: where the tables of row pointers
    begin; span_turn: which step of its span a step is. The other attributes are set by `begin`.
    """

    def __init__(self, code: Code, layout: KernelLayout, target: Target) -> None:
        self.code, self.layout, self.ty, self.target = code, layout, layout.ty, target
        self.lowered = layout.loop
        self.present: set[Node] = set()
        self.value: dict[str, str] = {}
        self.table_at = self.span_turn = ""
        self.start = self.before = self.had = self.top = self.here = self.there = ""

    @property
    def in_prelude(self) -> bool:
        """Whether what is being written comes before the steps."""
        return self.lowered is self.layout.prelude

    def begin(self, index: str) -> None:
        """What all rows of a step have in common, and where each row's memory is."""
        code, value = self.code, self.value
        self.start = self.integer(value["starts"], index)
        count = self.integer(value["counts"], index)
        first = code.compare("eq", index, 0)
        before = code.smax(code.sub(index, 1), 0)
        had = self.integer(value["counts"], before)
        self.before = self.integer(value["starts"], before)
        self.had = code.op(f"select i1 {first}, i64 0, i64 {had}")
        self.top = code.smin("%high", count)
        turn = code.op(f"and i64 {index}, 1")
        self.here = code.mul(turn, value["batch"])
        self.there = code.sub(value["batch"], self.here)
        with code.loop("%low", self.top) as rows:
            for slot, number in self.layout.tables.items():
                self._fill(slot, number, rows.index)

    def integer(self, pointer: str, index: str) -> str:
        return self.code.load("i64", self.code.gep(pointer, index, "i64"), 8)

    def _fill(self, slot: Slot, number: int, b: str) -> None:
        code = self.code
        if slot.kind == "old":
            pointer = self._old(slot, b)
        elif slot.kind == "d_old":
            left = self.at(f"carry {slot.name}", code.add(self.there, b), slot.size)
            given = self.at(f"d_initial {slot.name}", b, slot.size)
            running = code.compare("slt", b, self.had)
            pointer = code.op(f"select i1 {running}, ptr {left}, ptr {given}")
        else:
            pointer = self.row(slot, b)
        at = code.gep(self.table_start(number), b, "ptr")
        code.store("ptr", pointer, at, 8)

    def table_start(self, number: int) -> str:
        offset = self.code.mul(self.value["batch"], number)
        return self.code.gep(self.table_at, offset, "ptr")

    def _old(self, slot: Slot, b: str) -> str:
        """The state before row b: of the step before, as it was given, or the initial one."""
        code = self.code
        ring = code.compare("ne", self.value[f"double {slot.name}"], 0)
        base = code.op(f"select i1 {ring}, i64 {self.there}, i64 {self.before}")
        before = self.at(f"states {slot.name}", code.add(base, b), slot.size)
        given = self.at(f"initial {slot.name}", b, slot.size)
        running = code.compare("slt", b, self.had)
        pointer = code.op(f"select i1 {running}, ptr {before}, ptr {given}")
        cut = code.op(f"trunc i8 {self.flag(b)} to i1")
        own = self.at(f"reset {slot.name}", b, slot.size)
        return code.op(f"select i1 {cut}, ptr {own}, ptr {pointer}")

    def flag(self, b: str) -> str:
        at = self.code.gep(self.value["flags"], self.code.add(self.start, b), "i8")
        return self.code.load("i8", at, 1)

    def at(self, name: str, row: str, size: int | str) -> str:
        return self.code.gep(self.value[name], self.code.mul(row, size), self.ty.element)

    def row(self, slot: Slot, b: str) -> str:
        """Where a slot's numbers for row b of this step are."""
        code = self.code
        if slot in self.layout.tables and slot.kind in ("old", "d_old"):
            return code.load(
                "ptr", code.gep(self.table_start(self.layout.tables[slot]), b, "ptr"), 8
            )
        if slot.kind == "span":
            if self.in_prelude:
                row = self.integer(self.list_start(1), b)
            else:
                row = code.add(code.mul(self.span_turn, self.value["batch"]), b)
            return self.at(slot.name, row, slot.size)
        if slot.kind == "row" and self.in_prelude:
            return self.at(slot.name, self.integer(self.list_start(0), b), slot.size)
        if slot.kind == "row":
            return self.at(slot.name, code.add(self.start, b), slot.size)
        if slot.kind == "dout":
            row = code.add(self.start, b)
            return self.at(slot.name, code.mul(row, self.value[f"stride {slot.name}"]), 1)
        if slot.kind == "new":
            ring = code.compare("ne", self.value[f"double {slot.name}"], 0)
            base = code.op(f"select i1 {ring}, i64 {self.here}, i64 {self.start}")
            return self.at(f"states {slot.name}", code.add(base, b), slot.size)
        if slot.kind == "carry":
            return self.at(f"carry {slot.name}", code.add(self.here, b), slot.size)
        if slot.kind == "weight":
            return self.value[slot.name]
        return self.at(slot.name, b, slot.size)

    def list_start(self, number: int) -> str:
        """Where a list of the span's rows begins."""
        code, value = self.code, self.value
        whole = code.mul(value["batch"], value["span"])
        offset = code.add(
            code.mul(value["batch"], len(self.layout.tables)), code.mul(whole, number)
        )
        return code.gep(self.table_at, offset, "i64")

    def add_to_list(self, number: int, at: str, value: str) -> None:
        self.code.store("i64", value, self.code.gep(self.list_start(number), at, "i64"), 8)

    def fetch(self, pointer: str, mask: str | None) -> str:
        code, ty = self.code, self.ty
        if mask is None:
            return code.load(ty, pointer, ty.bytes)
        return code.call(
            str(ty), f"llvm.masked.load.{ty.suffix}.p0",
            ("ptr", f"align {ty.bytes} {pointer}"), (ty.bool, mask), (str(ty), ty.splat(1.0)),
        )  # fmt: skip

    def put(self, value: str, pointer: str, mask: str | None) -> None:
        code, ty = self.code, self.ty
        if mask is None:
            code.store(ty, value, pointer, ty.bytes)
        else:
            code.call(
                "void", f"llvm.masked.store.{ty.suffix}.p0",
                (str(ty), value), ("ptr", f"align {ty.bytes} {pointer}"), (ty.bool, mask),
            )  # fmt: skip

    def apply(self, op: str, *args: str) -> str:
        return emit(self.code, self.ty, op, *args, features=self.target.flags)
