"""The code of one loop: a lowered step, run over the rows of a walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from elman.backends.llvm.code import Code, Vector
from elman.backends.llvm.functions import emit
from elman.backends.llvm.lower import Group, Lowered, Map, Slot, Store, pieces, spread
from elman.backends.llvm.target import Target
from elman.backends.llvm.tile import emit_tile, splat, tallest
from elman.compiler.ir import REDUCE, Node

#: Rows that go through the units of a map together: their accumulators stay in the L1 cache.
ROWS = 64
#: Steps of an inner product between two loads of its accumulators, so that a block of weights
#: stays in the L2 cache while all rows pass.
DEPTH = 256

#: Turns that a thread waits for the others before it gives its core away, a power of two.
SPIN = 1024

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


class Kernel:
    """Writes one loop. After `write`, ``arguments`` names the numbers that the loop takes and
    ``packs`` the weights that it wants packed."""

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
        self.width_of: dict[int, int] = {}
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
        return list(dict.fromkeys((*self.lowered.places.values(), *stores)))

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

    # ------------------------------------------------------------ the loop

    def write(self) -> None:
        """Write the functions: ``name`` is the entry (ptr data, i64 thread, i64 threads)."""
        self._tiles()
        self._meet()
        self._run()
        self._entry()

    def _meet(self) -> None:
        """Wait until a counter has come so far; give the core away where that takes long."""
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

    def _tiles(self) -> None:
        for pack in self.packs:  # the same tiles serve the loop and what comes before it
            columns = len(pack.groups) * pack.width
            for height in range(1, tallest(columns, self.target.registers) + 1):
                if (height, columns) not in self.tiles:
                    self.tiles[height, columns] = emit_tile(self.code, self.ty, height, columns)

    def _entry(self) -> None:
        code = self.code
        with code.function(f"void @{self.name}(ptr %data, i64 %thread, i64 %threads)"):
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

    @contextmanager
    def _strided(self, start: str, stop: str, step: str) -> Iterator[str]:
        """``for i in range(start, stop, step)`` with a step known at run time."""
        code = self.code
        count = code.sub(code.add(code.sub(stop, start), step), 1)
        turns = code.smax(code.op(f"sdiv i64 {count}, {step}"), 0)
        with code.loop(0, turns) as loop:
            yield code.add(start, code.mul(loop.index, step))

    def _read(self, name: str, type: str = "i64") -> str:
        at = self.code.gep("%data", self.arguments.index(name), "i64")
        return self.code.load(type, at, 8)

    def _run(self) -> None:
        code = self.code
        head = "ptr %data, ptr %workspace, i64 %low, i64 %high, i64 %part, i64 %parts"
        with code.function(f"internal void @{self.name}_run({head})"):
            self.value = {
                name: self._read(name, "i64" if _is_number(name) else "ptr")
                for name in self.arguments
            }
            self.table_at = code.gep("%workspace", self.accumulators, "i8")
            self.several = code.compare("sgt", "%parts", 1)
            steps = self.value["steps"]
            with code.loop(0, steps, 1, [("i64", "0")]) as loop:
                index, met = loop.index, loop.values[0]
                if self.backward:
                    index = code.sub(code.sub(steps, 1), index)
                if self.prelude is not None:
                    met = self._enter(index, met)
                loop.next = [self._one(index, met)]

    def _one(self, index: str, met: str) -> str:
        """One step of the loop; returns the count of meetings."""
        self.lowered, self.present = self.loop, set(self.loop.leaves)
        self._step(index)
        for position, stage in enumerate(self.loop.stages):
            if position:
                met = self._barrier(met)
            for node in stage.prepare:
                self._prepare(node)
                self.present.add(node)
            for at in stage.maps.values():
                self._map(at, "%low", self.top)
            self.present |= self.loop.kept(position)
        return self._barrier(met)

    # ------------------------------------------------------------ what enters

    def _enter(self, index: str, met: str) -> str:
        """At the first step of a span, compute what enters all of its steps.

        The rows of several steps share each block of weights, and what enters is still in the
        cache when the loop reads it.
        """
        assert self.prelude is not None
        code, value = self.code, self.value
        turn = code.op(f"srem i64 {index}, {value['span']}")
        self.span_turn = turn
        before = code.block
        with code.when(code.compare("eq", turn, 0)):
            self.lowered, self.present = self.prelude, set(self.prelude.leaves)
            rows = self._rows_of_span(index)
            for stage in self.prelude.stages:
                for at in stage.maps.values():
                    self._map(at, "0", rows)
            inside = self._barrier(met)
            last = code.block
        return code.op(f"phi i64 [ {met}, %{before} ], [ {inside}, %{last} ]")

    def _rows_of_span(self, first: str) -> str:
        """List the rows of a span: which row of the inputs, and where what enters goes."""
        code, value = self.code, self.value
        end = code.smin(code.add(first, value["span"]), value["steps"])
        with code.loop(first, end, 1, [("i64", "0")]) as step:
            start = self._int(value["starts"], step.index)
            top = code.smin("%high", self._int(value["counts"], step.index))
            turn = code.mul(code.sub(step.index, first), value["batch"])
            with code.loop("%low", top, 1, [("i64", step.values[0])]) as rows:
                number, row = rows.values[0], code.add(start, rows.index)
                self._list(0, number, row)
                self._list(1, number, code.add(turn, rows.index))
                x = code.op(f"ptrtoint ptr {self._at('x', row, self._input.size)} to i64")
                self._list(2, number, x)
                rows.next = [code.add(number, 1)]
            step.next = [rows.values[0]]
        return step.values[0]

    @property
    def _input(self) -> Slot:
        assert self.prelude is not None
        return next(slot for slot in self.prelude.places.values() if slot.name == "x")

    def _list_start(self, number: int) -> str:
        """Where a list of the span's rows begins."""
        code, value = self.code, self.value
        whole = code.mul(value["batch"], value["span"])
        offset = code.add(code.mul(value["batch"], len(self.tables)), code.mul(whole, number))
        return code.gep(self.table_at, offset, "i64")

    def _list(self, number: int, at: str, value: str) -> None:
        self.code.store("i64", value, self.code.gep(self._list_start(number), at, "i64"), 8)

    def _barrier(self, met: str) -> str:
        """Wait until every part has come here; returns the count of meetings."""
        code = self.code
        following = code.add(met, "%parts")
        with code.when(self.several):
            counter = self.value["counter"]
            code.op(f"atomicrmw add ptr {counter}, i64 1 acq_rel")
            code.do(
                f"call void @{self.name}_meet(ptr {counter}, i64 {following}, "
                f"ptr {self.value['yield']})"
            )
        return following

    # ------------------------------------------------------------ a step

    def _step(self, index: str) -> None:
        """What all rows of a step have in common, and where each row's memory is."""
        code, value = self.code, self.value
        self.start = self._int(value["starts"], index)
        count = self._int(value["counts"], index)
        first = code.compare("eq", index, 0)
        before = code.smax(code.sub(index, 1), 0)
        had = self._int(value["counts"], before)
        self.before = self._int(value["starts"], before)
        self.had = code.op(f"select i1 {first}, i64 0, i64 {had}")
        self.top = code.smin("%high", count)
        turn = code.op(f"and i64 {index}, 1")
        self.here = code.mul(turn, value["batch"])
        self.there = code.sub(value["batch"], self.here)
        with code.loop("%low", self.top) as rows:
            for slot, number in self.tables.items():
                self._fill(slot, number, rows.index)

    def _int(self, pointer: str, index: str) -> str:
        return self.code.load("i64", self.code.gep(pointer, index, "i64"), 8)

    def _fill(self, slot: Slot, number: int, b: str) -> None:
        code = self.code
        if slot.kind == "old":
            pointer = self._old(slot, b)
        elif slot.kind == "d_old":
            left = self._at(f"carry {slot.name}", code.add(self.there, b), slot.size)
            given = self._at(f"d_given {slot.name}", b, slot.size)
            running = code.compare("slt", b, self.had)
            pointer = code.op(f"select i1 {running}, ptr {left}, ptr {given}")
        else:
            pointer = self._row(slot, b)
        at = code.gep(self._table_start(number), b, "ptr")
        code.store("ptr", pointer, at, 8)

    def _table_start(self, number: int) -> str:
        offset = self.code.mul(self.value["batch"], number)
        return self.code.gep(self.table_at, offset, "ptr")

    def _old(self, slot: Slot, b: str) -> str:
        """The state before row b: of the step before, as it was given, or the initial one."""
        code = self.code
        ring = code.compare("ne", self.value[f"ring {slot.name}"], 0)
        base = code.op(f"select i1 {ring}, i64 {self.there}, i64 {self.before}")
        before = self._at(f"states {slot.name}", code.add(base, b), slot.size)
        given = self._at(f"given {slot.name}", b, slot.size)
        running = code.compare("slt", b, self.had)
        pointer = code.op(f"select i1 {running}, ptr {before}, ptr {given}")
        cut = code.op(f"trunc i8 {self._flag(b)} to i1")
        own = self._at(f"own {slot.name}", b, slot.size)
        return code.op(f"select i1 {cut}, ptr {own}, ptr {pointer}")

    def _flag(self, b: str) -> str:
        at = self.code.gep(self.value["flags"], self.code.add(self.start, b), "i8")
        return self.code.load("i8", at, 1)

    def _at(self, name: str, row: str, size: int | str) -> str:
        return self.code.gep(self.value[name], self.code.mul(row, size), self.ty.element)

    def _row(self, slot: Slot, b: str) -> str:
        """Where a slot's numbers for row b of this step are."""
        code = self.code
        if slot in self.tables and slot.kind in ("old", "d_old"):
            return code.load("ptr", code.gep(self._table_start(self.tables[slot]), b, "ptr"), 8)
        if slot.kind == "span":
            if self.lowered is self.prelude:
                row = self._int(self._list_start(1), b)
            else:
                row = code.add(code.mul(self.span_turn, self.value["batch"]), b)
            return self._at(slot.name, row, slot.size)
        if slot.kind == "row" and self.lowered is self.prelude:
            return self._at(slot.name, self._int(self._list_start(0), b), slot.size)
        if slot.kind == "row":
            return self._at(slot.name, code.add(self.start, b), slot.size)
        if slot.kind == "dout":
            row = code.add(self.start, b)
            return self._at(slot.name, code.mul(row, self.value[f"stride {slot.name}"]), 1)
        if slot.kind == "new":
            ring = code.compare("ne", self.value[f"ring {slot.name}"], 0)
            base = code.op(f"select i1 {ring}, i64 {self.here}, i64 {self.start}")
            return self._at(f"states {slot.name}", code.add(base, b), slot.size)
        if slot.kind == "carry":
            return self._at(f"carry {slot.name}", code.add(self.here, b), slot.size)
        if slot.kind == "weight":
            return self.value[slot.name]
        return self._at(slot.name, b, slot.size)

    # ------------------------------------------------------------ maps

    def _map(self, at: Map, first: str, top: str) -> None:
        """A map over the rows first ... top."""
        code, ty = self.code, self.ty
        width = self._width(at)
        units = width * ty.lanes
        blocks = -(-at.size // units)
        low = code.op(f"sdiv i64 {code.mul('%part', blocks)}, %parts")
        high = code.op(f"sdiv i64 {code.mul(code.add('%part', 1), blocks)}, %parts")
        with code.loop(first, top, ROWS) as rows:
            end = code.smin(code.add(rows.index, ROWS), top)
            with code.loop(low, high) as block:
                column = 0
                for pack in self._calls[id(at)]:
                    self._product(at, pack, column, block.index, rows.index, end)
                    column += len(pack.groups) * width
                with code.loop(rows.index, end) as row:
                    local = code.sub(row.index, rows.index)
                    acc = code.gep("%workspace", code.mul(local, self._columns(at)), ty.element)
                    self._units(at, acc, row.index, code.mul(block.index, units))

    def _columns(self, at: Map) -> int:
        """Elements of a row of accumulators."""
        return len(at.groups) * self._width(at) * self.ty.lanes

    def _product(self, at: Map, pack: Pack, column: int, block: str, first: str, end: str) -> None:
        """The accumulators of one block of units, for rows first ... end."""
        code, ty = self.code, self.ty
        v = pack.groups[0].product.args[0]
        columns = len(pack.groups) * pack.width
        step = columns * ty.lanes
        weights = code.gep(self.value[pack.name], code.mul(block, v.size * step), ty.element)
        if self.lowered is self.prelude:
            table = self._list_start(2)
        else:
            table = self._table_start(self.tables[self.lowered.places[v]])
        acc = code.gep("%workspace", column * ty.lanes, ty.element)
        with code.loop(0, v.size, DEPTH) as depth:
            k = depth.index
            n = code.smin(code.sub(v.size, k), DEPTH)
            start = code.compare("eq", k, 0)
            here = code.gep(weights, code.mul(k, step), ty.element)
            self._tiles_over(columns, first, end, table, acc, at, (k, n, here, start))

    def _tiles_over(
        self, columns: int, first: str, end: str, table: str, acc: str, at: Map,
        inner: tuple[str, str, str, str],
    ) -> None:  # fmt: skip
        """The rows in as few tiles as can be, all of about one height."""
        code = self.code
        most = tallest(columns, self.target.registers)
        count = code.sub(end, first)
        tiles = code.op(f"sdiv i64 {code.add(count, most - 1)}, {most}")
        least = code.op(f"sdiv i64 {count}, {code.smax(tiles, 1)}")
        more = code.sub(count, code.mul(tiles, least))  # so many have one row more
        with code.loop(0, tiles) as tile:
            low = code.add(code.mul(tile.index, least), code.smin(tile.index, more))
            taller = code.op(f"zext i1 {code.compare('slt', tile.index, more)} to i64")
            self._tile(columns, code.add(least, taller), low, first, table, acc, at, inner)

    def _tile(
        self, columns: int, height: str, low: str, first: str, table: str, acc: str, at: Map,
        inner: tuple[str, str, str, str],
    ) -> None:  # fmt: skip
        code = self.code
        k, n, weights, start = inner
        stride = self._columns(at)
        rows = code.gep(table, code.add(first, low), "ptr")
        target = code.gep(acc, code.mul(low, stride), self.ty.element)
        head = (
            f"(ptr {rows}, i64 {k}, i64 {n}, ptr {weights}, ptr {target}, i64 {stride}, i1 {start})"
        )
        end = code.name("tiled")
        most = tallest(columns, self.target.registers)
        labels = [code.name(f"rows{i}_") for i in range(1, most + 1)]
        cases = " ".join(f"i64 {i}, label {label}" for i, label in enumerate(labels, 1))
        code.do(f"switch i64 {height}, label {end} [ {cases} ]")
        for i, label in enumerate(labels, 1):
            code.label(label)
            code.do(f"call void @{self.tiles[i, columns]}{head}")
            code.branch(end)
        code.label(end)

    def _units(self, at: Map, acc: str, row: str, unit: str) -> None:
        """The elementwise work of one row on one block of units."""
        code, lanes = self.code, self.ty.lanes
        rest = at.size % lanes
        width = self._width(at)
        left = code.sub(at.size, unit)
        whole = code.smin(code.op(f"sdiv i64 {left}, {lanes}"), width)
        with code.loop(0, whole) as vector:
            offset = code.mul(vector.index, lanes)
            self._body(
                at, code.gep(acc, offset, self.ty.element), row, code.add(unit, offset), None
            )
        if rest:
            last = code.compare("slt", whole, width)
            with code.when(last):
                offset = code.mul(whole, lanes)
                mask = self._mask(rest)
                at_unit = code.add(unit, offset)
                self._body(at, code.gep(acc, offset, self.ty.element), row, at_unit, mask)

    def _mask(self, rest: int) -> str:
        bits = ", ".join(f"i1 {'true' if i < rest else 'false'}" for i in range(self.ty.lanes))
        return f"<{bits}>"

    def _body(self, at: Map, acc: str, row: str, unit: str, mask: str | None) -> None:
        values = Values(self, row, unit, mask)
        values.acc = acc
        values.columns = {
            (g.product, g.offset): i * self._width(at) * self.ty.lanes
            for i, g in enumerate(at.groups)
        }
        made = [(store, values.get(store.node, store.offset, at.size)) for store in at.stores]
        for store, value in made:
            values.store(store, value)

    # ------------------------------------------------------------ values made whole

    def _prepare(self, node: Node) -> None:
        """A whole value for the rows of this part: every thread makes its own."""
        code = self.code
        slot = self.lowered.places[node]
        with code.loop("%low", self.top) as rows:
            target = self._row(slot, rows.index)
            if node.op in REDUCE:
                self._reduce(node, rows.index, target)
            elif node.size == 1:
                value = Values(self, rows.index, "0", None).inner(node, 0, 1)
                self._first(value, target)
            else:
                for begin, end in pieces(node, self.present):
                    self._stretch(node, begin, end, rows.index, target)

    def _first(self, value: str, target: str) -> None:
        scalar = self.code.op(f"extractelement {self.ty} {value}, i32 0")
        self.code.store(self.ty.element, scalar, target, self.ty.bytes)

    def _stretch(self, node: Node, begin: int, end: int, row: str, target: str) -> None:
        code, ty = self.code, self.ty
        for unit, mask in self._vectors(end - begin):
            value = Values(self, row, unit, mask).inner(node, begin, end - begin)
            at = code.gep(code.gep(target, begin, ty.element), unit, ty.element)
            self.put(value, at, mask)

    def _vectors(self, size: int) -> Iterator[tuple[str, str | None]]:
        """Loops over the vectors of a stretch: the code of the body is written for each."""
        code, lanes = self.code, self.ty.lanes
        whole = size // lanes * lanes
        if whole:
            with code.loop(0, whole, lanes) as vector:
                yield vector.index, None
        if size % lanes:
            yield str(whole), self._mask(size % lanes)

    def _reduce(self, node: Node, row: str, target: str) -> None:
        code, ty = self.code, self.ty
        inner = node.args[0]
        neutral = ty.splat(0.0) if node.op == "sum" else ty.splat(float("-inf"))
        join = "add" if node.op == "sum" else "maximum"
        total = neutral
        for begin, end in pieces(inner, self.present):
            size, lanes = end - begin, ty.lanes
            whole = size // lanes * lanes
            if whole:
                with code.loop(0, whole, lanes, [(str(ty), total)]) as vector:
                    value = Values(self, row, vector.index, None).get(inner, begin, size)
                    vector.next = [self.apply(join, vector.values[0], value)]
                total = vector.values[0]
            if size % lanes:
                mask = self._mask(size % lanes)
                value = Values(self, row, str(whole), mask).get(inner, begin, size)
                value = code.op(f"select {ty.bool} {mask}, {ty} {value}, {ty} {neutral}")
                total = self.apply(join, total, value)
        self._first(self._across(join, total), target)

    def _across(self, join: str, value: str) -> str:
        """All lanes joined, by halves."""
        code, ty = self.code, self.ty
        half = ty.lanes // 2
        while half:
            order = ", ".join(f"i32 {(i + half) % ty.lanes}" for i in range(ty.lanes))
            turned = code.op(
                f"shufflevector {ty} {value}, {ty} poison, <{ty.lanes} x i32> <{order}>"
            )
            value = self.apply(join, value, turned)
            half //= 2
        return value

    def apply(self, op: str, *args: str) -> str:
        return emit(self.code, self.ty, op, *args, features=self.target.flags)

    # ------------------------------------------------------------ memory

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


class Values:
    """The values of one row on one vector of units, each computed once."""

    def __init__(self, kernel: Kernel, row: str, unit: str, mask: str | None) -> None:
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
        if node.op in ("slice", "cat", "broadcast", "stop"):
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


def _is_number(argument: str) -> bool:
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
