"""The values of one row on one vector of units."""

from __future__ import annotations

from collections.abc import Mapping

from elman.backends.cpu.codegen.addresses import Addresses
from elman.backends.cpu.codegen.tile import splat
from elman.compiler.ir.nodes import Node
from elman.schedule.stages import STRUCTURE, Slot, Store, spread


class Values:
    """The values of one row on one vector of units, each computed once."""

    def __init__(self, kernel: Addresses, row: str, unit: str, mask: str | None) -> None:
        self.kernel, self.row, self.unit, self.mask = kernel, row, unit, mask
        self.acc = ""
        self.columns: Mapping[tuple[Node, int], int] = {}
        self.known: dict[tuple[Node, int], str] = {}
        self.rows: dict[Slot, str] = {}

    def get(self, node: Node, offset: int, size: int) -> str:
        """node[offset + unit ...] as a vector; the piece has ``size`` units in all."""
        key = node, offset if node.size > 1 else 0
        if key not in self.known:
            self.known[key] = self._make(node, offset, size)
        return self.known[key]

    def _make(self, node: Node, offset: int, size: int) -> str:
        kernel, ty = self.kernel, self.kernel.ty
        if (node, offset) in self.columns:
            at = kernel.code.gep(self.acc, self.columns[node, offset], ty.element)
            return kernel.code.load(ty, at, ty.bytes)
        if node in kernel.present:
            return self._load(kernel.lowered.places[node], offset)
        return self.inner(node, offset, size)

    def inner(self, node: Node, offset: int, size: int) -> str:
        """The value computed from its arguments."""
        kernel, ty = self.kernel, self.kernel.ty
        if node.op == "const":
            return ty.splat(node.attrs["value"])
        if node.op in STRUCTURE:
            [(arg, begin, length)] = spread(node, offset, size)
            return self.get(arg, begin, length)
        args = [self.get(arg, begin, length) for arg, begin, length in spread(node, offset, size)]
        return kernel.apply(node.op, *args)

    def _pointer(self, slot: Slot) -> str:
        if slot not in self.rows:
            self.rows[slot] = self.kernel._row(slot, self.row)
        return self.rows[slot]

    def _load(self, slot: Slot, offset: int) -> str:
        kernel, code, ty = self.kernel, self.kernel.code, self.kernel.ty
        pointer = self._pointer(slot)
        if slot.size == 1:
            return splat(code, ty, code.load(ty.element, pointer, ty.bytes))
        at = code.gep(code.gep(pointer, offset, ty.element), self.unit, ty.element)
        return kernel.fetch(at, self.mask)

    def store(self, store: Store, value: str) -> None:
        """Write a value to its slot; the gradient of the old state stops where it is cut."""
        kernel, code, ty = self.kernel, self.kernel.code, self.kernel.ty
        slot = store.slot
        at = code.gep(code.gep(self._pointer(slot), store.at, ty.element), self.unit, ty.element)
        if slot.kind == "d_old":
            flag = kernel._flag(self.row)
            blocked = code.op(f"icmp ne i8 {flag}, 0")
            with code.when(code.op(f"icmp eq i8 {flag}, 1")):
                own = code.gep(
                    code.gep(kernel._at(f"d_own {slot.name}", self.row, slot.size),
                             store.at, ty.element),
                    self.unit, ty.element,
                )  # fmt: skip
                kernel.put(kernel.apply("add", kernel.fetch(own, self.mask), value), own, self.mask)
            value = code.op(f"select i1 {blocked}, {ty} {ty.splat(0.0)}, {ty} {value}")
        kernel.put(value, at, self.mask)
