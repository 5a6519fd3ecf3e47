"""The values of one row on one vector of units."""

from __future__ import annotations

from collections.abc import Mapping

from elman.backends.cpu.codegen.addresses import Addresses
from elman.backends.cpu.codegen.tile import splat
from elman.compiler.ir.nodes import Node
from elman.schedule.stages import STRUCTURE, Slot, Store, spread


class Values:
    """The values of one row on one vector of units, each computed once."""

    def __init__(self, addresses: Addresses, row: str, unit: str, mask: str | None) -> None:
        self.addresses, self.row, self.unit, self.mask = addresses, row, unit, mask
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
        addresses, ty = self.addresses, self.addresses.ty
        if (node, offset) in self.columns:
            at = addresses.code.gep(self.acc, self.columns[node, offset], ty.element)
            return addresses.code.load(ty, at, ty.bytes)
        if node in addresses.present:
            return self._load(addresses.lowered.places[node], offset)
        return self.inner(node, offset, size)

    def inner(self, node: Node, offset: int, size: int) -> str:
        """The value computed from its arguments."""
        addresses, ty = self.addresses, self.addresses.ty
        if node.op == "const":
            return ty.splat(node.attrs["value"])
        if node.op in STRUCTURE:
            [(arg, begin, length)] = spread(node, offset, size)
            return self.get(arg, begin, length)
        args = [self.get(arg, begin, length) for arg, begin, length in spread(node, offset, size)]
        return addresses.apply(node.op, *args)

    def _pointer(self, slot: Slot) -> str:
        if slot not in self.rows:
            self.rows[slot] = self.addresses.row(slot, self.row)
        return self.rows[slot]

    def _load(self, slot: Slot, offset: int) -> str:
        addresses, code, ty = self.addresses, self.addresses.code, self.addresses.ty
        pointer = self._pointer(slot)
        if slot.size == 1:
            return splat(code, ty, code.load(ty.element, pointer, ty.bytes))
        at = code.gep(code.gep(pointer, offset, ty.element), self.unit, ty.element)
        return addresses.fetch(at, self.mask)

    def store(self, store: Store, value: str) -> None:
        """Write a value to its slot; the gradient of the old state stops where it is cut."""
        addresses, code, ty = self.addresses, self.addresses.code, self.addresses.ty
        slot = store.slot
        at = code.gep(code.gep(self._pointer(slot), store.at, ty.element), self.unit, ty.element)
        if slot.kind == "d_old":
            flag = addresses.flag(self.row)
            blocked = code.op(f"icmp ne i8 {flag}, 0")
            with code.when(code.op(f"icmp eq i8 {flag}, 1")):
                own = code.gep(
                    code.gep(addresses.at(f"d_reset {slot.name}", self.row, slot.size),
                             store.at, ty.element),
                    self.unit, ty.element,
                )  # fmt: skip
                addresses.put(
                    addresses.apply("add", addresses.fetch(own, self.mask), value), own, self.mask
                )
            value = code.op(f"select i1 {blocked}, {ty} {ty.splat(0.0)}, {ty} {value}")
        addresses.put(value, at, self.mask)
