"""What a loop needs: arguments, packed weights, tables of row pointers, room to work in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.jit.target import Target
from elman.compiler.ir.nodes import Node
from elman.schedule.stages import Group, Lowered, Map, Slot

#: Rows that go through the units of a map together: their accumulators stay in the L1 cache.
ROWS = 64

#: What the kernel reads before anything else; then one pointer, or three, for each slot.
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


class Layout:
    """``arguments`` names the numbers that a loop takes, ``packs`` the weights that it wants
    packed, in order."""

    def __init__(
        self,
        code: Code,
        name: str,
        lowered: Lowered,
        ty: Vector,
        target: Target,
        backward: bool = False,
        prelude: Lowered | None = None,
    ) -> None:
        self.code, self.name, self.loop, self.prelude = code, name, lowered, prelude
        self.ty, self.target, self.backward = ty, target, backward
        #: The step that is being written.
        self.lowered = lowered
        self.arguments = list(HEADER)
        self.packs: list[Pack] = []
        self.tiles: dict[tuple[int, int], str] = {}
        self.tables: dict[Slot, int] = {}
        self._calls: dict[int, list[Pack]] = {}
        #: The values that memory holds where the code being written runs.
        self.present: set[Node] = set()
        self._plan()

    # ------------------------------------------------------------ what is needed

    def _plan(self) -> None:
        """Number the arguments, the packs and the tables of row pointers."""
        for lowered in self._both():
            self.lowered = lowered
            for slot in self._slots():
                for name in _pointers(slot):
                    self._argument(name)
                if slot.kind in ("old", "d_old"):
                    self._table(slot)
            for at in lowered.maps:
                self._calls[id(at)] = [self._pack(at, groups) for groups in self._parts(at)]

    def _both(self) -> list[Lowered]:
        return [self.loop] if self.prelude is None else [self.loop, self.prelude]

    def _slots(self) -> list[Slot]:
        stores = (store.slot for at in self.lowered.maps for store in at.stores)
        # A matrix is read packed, and nowhere else.
        reads = (slot for node, slot in self.lowered.places.items() if len(node.shape) < 2)
        return list(dict.fromkeys((*reads, *stores)))

    def _argument(self, name: str) -> None:
        if name not in self.arguments:
            self.arguments.append(name)

    def _table(self, slot: Slot) -> int:
        return self.tables.setdefault(slot, len(self.tables))

    def _width(self, at: Map) -> int:
        """How many vectors of units a block of this map has."""
        most = 4 // max(1, len(at.groups))
        return max(1, min(most, -(-at.size // self.ty.lanes)))

    def _parts(self, at: Map) -> Iterator[tuple[Group, ...]]:
        """The groups of a map that one tile computes: those that multiply the same vector."""
        by_operand: dict[Node, list[Group]] = {}
        for group in at.groups:
            by_operand.setdefault(group.product.args[0], []).append(group)
        at.groups = [group for groups in by_operand.values() for group in groups]
        most = max(1, 4 // self._width(at))
        for groups in by_operand.values():
            count = -(-len(groups) // most)
            size = -(-len(groups) // count)
            for i in range(0, len(groups), size):
                yield tuple(groups[i : i + size])

    def _pack(self, at: Map, groups: tuple[Group, ...]) -> Pack:
        pack = Pack(f"pack{len(self.packs)}", groups, self._width(at), at.size)
        self.packs.append(pack)
        self._argument(pack.name)
        if self.lowered is self.loop:
            self._table(self.lowered.places[groups[0].product.args[0]])
        return pack

    def workspace(self, batch: int, span: int) -> int:
        """Bytes of memory that each thread wants for itself, a multiple of 64: accumulators, the
        tables of row pointers, and those of the rows that enter ``span`` steps."""
        tables = (len(self.tables) * batch + 3 * batch * span) * 8
        return self.accumulators + -(-tables // 64) * 64

    @cached_property
    def accumulators(self) -> int:
        """Bytes of the accumulators, which stand first in the workspace."""
        maps = [at for lowered in self._both() for at in lowered.maps]
        widest = max((len(at.groups) * self._width(at) for at in maps), default=0)
        return ROWS * widest * self.ty.lanes * self.ty.bytes

    @cached_property
    def weights(self) -> int:
        """Bytes of weights that each step of the loop reads."""
        parts = (pack for at in self.loop.maps for pack in self._calls[id(at)])
        return sum(
            len(p.groups) * p.size * p.groups[0].product.args[0].size * self.ty.bytes for p in parts
        )


def is_number(argument: str) -> bool:
    """Whether an argument is a number, not a place in memory."""
    numbers = ("steps", "batch", "shared", "chunks", "stride", "span")
    return argument in numbers or argument.startswith(("ring ", "stride "))


def _pointers(slot: Slot) -> Sequence[str]:
    """The arguments that say where a slot is."""
    name = slot.name
    if slot.kind == "old":
        return (f"states {name}", f"ring {name}", f"given {name}", f"own {name}")
    if slot.kind == "new":
        return (f"states {name}", f"ring {name}")
    if slot.kind == "carry":
        return (f"carry {name}",)
    if slot.kind == "d_old":
        return (f"carry {name}", f"d_given {name}", f"d_own {name}")
    if slot.kind == "dout":
        return (name, f"stride {name}")
    return (name,)
