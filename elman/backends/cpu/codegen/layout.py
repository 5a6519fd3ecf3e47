"""What a loop needs: arguments, packed weights, tables of row pointers, room to work in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from elman.backends.cpu.codegen.code import Vector
from elman.compiler.ir.nodes import Node
from elman.schedule.stages import Group, Lowered, Map, Slot

#: Rows that go through the units of a map together: their accumulators stay in the L1 cache.
ROWS = 64
#: Vectors of columns that a tile has at most.
COLUMNS = 4

#: What the kernel reads before anything else; then the pointers of each slot (`_pointers`).
HEADER = (
    "steps", "batch", "shared", "chunks", "bounds", "starts", "counts", "flags", "counter",
    "workspace", "stride", "span", "yield",
)  # fmt: skip


@dataclass(frozen=True)
class Pack:
    """Weights in the order in which a tile reads them: [blocks][K][columns][lanes].

    groups: the rows of the products' matrices, in the order of the columns; each is ``width``
    vectors wide.
    """

    name: str
    groups: tuple[Group, ...]
    width: int
    size: int


class KernelLayout:
    """What one loop is given, worked out from its lowered step before any code is written.

    arguments: the names of the numbers and addresses that it takes, in order.
    packs: the weights that it wants packed. calls: of each map, by its id, those that it reads.
    tables: the slots whose rows are found through a table of pointers.
    prelude: what is computed for the inputs of several steps at once, before these; or nothing.
    """

    def __init__(self, loop: Lowered, prelude: Lowered | None, ty: Vector) -> None:
        self.loop, self.prelude, self.ty = loop, prelude, ty
        self.arguments = list(HEADER)
        self.packs: list[Pack] = []
        self.tables: dict[Slot, int] = {}
        self.calls: dict[int, list[Pack]] = {}
        for lowered in self._both():
            self._plan(lowered)

    def _plan(self, lowered: Lowered) -> None:
        """Number the arguments, the packs and the tables of row pointers."""
        for slot in _slots(lowered):
            for name in _pointers(slot):
                self._argument(name)
            if slot.kind in ("old", "d_old"):
                self._table(slot)
        for at in lowered.maps:
            packs = [self._pack(at, groups) for groups in self._parts(at)]
            self.calls[id(at)] = packs
            if lowered is self.loop:
                for pack in packs:
                    self._table(lowered.places[pack.groups[0].product.args[0]])

    def _both(self) -> list[Lowered]:
        return [self.loop] if self.prelude is None else [self.loop, self.prelude]

    def _argument(self, name: str) -> None:
        if name not in self.arguments:
            self.arguments.append(name)

    def _table(self, slot: Slot) -> None:
        self.tables.setdefault(slot, len(self.tables))

    def width(self, at: Map) -> int:
        """How many vectors of units a block of this map has."""
        most = COLUMNS // max(1, len(at.groups))
        return max(1, min(most, -(-at.size // self.ty.lanes)))

    def columns(self, at: Map) -> int:
        """Elements of a row of accumulators."""
        return len(at.groups) * self.width(at) * self.ty.lanes

    def _parts(self, at: Map) -> Iterator[tuple[Group, ...]]:
        """The groups of a map that one tile computes: those that multiply the same vector."""
        by_operand: dict[Node, list[Group]] = {}
        for group in at.groups:
            by_operand.setdefault(group.product.args[0], []).append(group)
        at.groups = [group for groups in by_operand.values() for group in groups]
        most = max(1, COLUMNS // self.width(at))
        for groups in by_operand.values():
            count = -(-len(groups) // most)
            size = -(-len(groups) // count)
            for i in range(0, len(groups), size):
                yield tuple(groups[i : i + size])

    def _pack(self, at: Map, groups: tuple[Group, ...]) -> Pack:
        pack = Pack(f"pack{len(self.packs)}", groups, self.width(at), at.size)
        self.packs.append(pack)
        self._argument(pack.name)
        return pack

    def workspace(self, batch: int, span: int) -> int:
        """Bytes of memory that each thread wants for itself, a multiple of 64: accumulators, the
        tables of row pointers, and those of the rows that enter ``span`` steps."""
        tables = (len(self.tables) * batch + 3 * batch * span) * 8
        return self.accumulator_bytes + -(-tables // 64) * 64

    @cached_property
    def accumulator_bytes(self) -> int:
        """Bytes of the accumulators, which stand first in the workspace."""
        maps = [at for lowered in self._both() for at in lowered.maps]
        widest = max((self.columns(at) for at in maps), default=0)
        return ROWS * widest * self.ty.bytes

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of weights that each step of the loop reads."""
        parts = (pack for at in self.loop.maps for pack in self.calls[id(at)])
        return sum(
            len(p.groups) * p.size * p.groups[0].product.args[0].size * self.ty.bytes for p in parts
        )


def _slots(lowered: Lowered) -> list[Slot]:
    """The slots of a step, in order."""
    stores = (store.slot for at in lowered.maps for store in at.stores)
    # A matrix is read packed, and nowhere else.
    reads = (slot for node, slot in lowered.places.items() if len(node.shape) < 2)
    return list(dict.fromkeys((*reads, *stores)))


def is_number(argument: str) -> bool:
    """Whether an argument is a number, not a place in memory."""
    numbers = ("steps", "batch", "shared", "chunks", "stride", "span")
    return argument in numbers or argument.startswith(("double ", "stride "))


def _pointers(slot: Slot) -> Sequence[str]:
    """The arguments that say where a slot is."""
    name = slot.name
    if slot.kind == "old":
        return (f"states {name}", f"double {name}", f"initial {name}", f"reset {name}")
    if slot.kind == "new":
        return (f"states {name}", f"double {name}")
    if slot.kind == "carry":
        return (f"carry {name}",)
    if slot.kind == "d_old":
        return (f"carry {name}", f"d_initial {name}", f"d_reset {name}")
    if slot.kind == "dout":
        return (name, f"stride {name}")
    return (name,)
