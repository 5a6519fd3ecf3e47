"""The work of one stage: products into accumulators, then everything elementwise from there."""

from __future__ import annotations

from collections.abc import Iterator

from elman.backends.cpu.codegen.addresses import Addresses
from elman.backends.cpu.codegen.layout import ROWS, Pack
from elman.backends.cpu.codegen.tile import emit_tile, tallest
from elman.backends.cpu.codegen.values import Values
from elman.compiler.ir.nodes import REDUCE, Node
from elman.schedule.stages import Map, pieces

#: Steps of an inner product between two loads of its accumulators, so that a block of weights
#: stays in the L2 cache while all rows pass.
DEPTH = 256


class StageWriter:
    """Writes the maps of a step, and the values that are made whole before them.

    tiles: the names of the functions of inner products, by rows and columns.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses, self.layout = addresses, addresses.layout
        self.code, self.ty, self.target = addresses.code, addresses.ty, addresses.target
        self.tiles: dict[tuple[int, int], str] = {}

    def write_tiles(self) -> None:
        """The functions of inner products that the maps call."""
        for pack in self.layout.packs:  # the same tiles serve the loop and what comes before it
            columns = len(pack.groups) * pack.width
            for height in range(1, tallest(columns, self.target.registers) + 1):
                if (height, columns) not in self.tiles:
                    self.tiles[height, columns] = emit_tile(self.code, self.ty, height, columns)

    def map(self, at: Map, first: str, top: str) -> None:
        """A map over the rows first ... top."""
        code, ty = self.code, self.ty
        width = self.layout.width(at)
        units = width * ty.lanes
        blocks = -(-at.size // units)
        low = code.op(f"sdiv i64 {code.mul('%part', blocks)}, %parts")
        high = code.op(f"sdiv i64 {code.mul(code.add('%part', 1), blocks)}, %parts")
        with code.loop(first, top, ROWS) as rows:
            end = code.smin(code.add(rows.index, ROWS), top)
            with code.loop(low, high) as block:
                column = 0
                for pack in self.layout.calls[id(at)]:
                    self._product(at, pack, column, block.index, rows.index, end)
                    column += len(pack.groups) * width
                with code.loop(rows.index, end) as row:
                    local = code.sub(row.index, rows.index)
                    acc = code.gep(
                        "%workspace", code.mul(local, self.layout.columns(at)), ty.element
                    )
                    self._units(at, acc, row.index, code.mul(block.index, units))

    def _product(self, at: Map, pack: Pack, column: int, block: str, first: str, end: str) -> None:
        """The accumulators of one block of units, for rows first ... end."""
        code, ty = self.code, self.ty
        v = pack.groups[0].product.args[0]
        columns = len(pack.groups) * pack.width
        step = columns * ty.lanes
        weights = code.gep(
            self.addresses.value[pack.name], code.mul(block, v.size * step), ty.element
        )
        if self.addresses.in_prelude:
            table = self.addresses.list_start(2)
        else:
            table = self.addresses.table_start(self.layout.tables[self.addresses.lowered.places[v]])
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
        stride = self.layout.columns(at)
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
        width = self.layout.width(at)
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
        values = Values(self.addresses, row, unit, mask)
        values.acc = acc
        values.columns = {
            (g.product, g.offset): i * self.layout.width(at) * self.ty.lanes
            for i, g in enumerate(at.groups)
        }
        made = [(store, values.get(store.node, store.offset, at.size)) for store in at.stores]
        for store, value in made:
            values.store(store, value)

    # ------------------------------------------------------------ values made whole

    def prepare(self, node: Node) -> None:
        """A whole value for the rows of this part: every thread makes its own."""
        code = self.code
        slot = self.addresses.lowered.places[node]
        with code.loop("%low", self.addresses.top) as rows:
            target = self.addresses.row(slot, rows.index)
            if node.op in REDUCE:
                self._reduce(node, rows.index, target)
            elif node.size == 1:
                value = Values(self.addresses, rows.index, "0", None).inner(node, 0, 1)
                self._first(value, target)
            else:
                for begin, end in pieces(node, self.addresses.present):
                    self._stretch(node, begin, end, rows.index, target)

    def _first(self, value: str, target: str) -> None:
        scalar = self.code.op(f"extractelement {self.ty} {value}, i32 0")
        self.code.store(self.ty.element, scalar, target, self.ty.bytes)

    def _stretch(self, node: Node, begin: int, end: int, row: str, target: str) -> None:
        code, ty = self.code, self.ty
        for unit, mask in self._vectors(end - begin):
            value = Values(self.addresses, row, unit, mask).inner(node, begin, end - begin)
            at = code.gep(code.gep(target, begin, ty.element), unit, ty.element)
            self.addresses.put(value, at, mask)

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
        for begin, end in pieces(inner, self.addresses.present):
            size, lanes = end - begin, ty.lanes
            whole = size // lanes * lanes
            if whole:
                with code.loop(0, whole, lanes, [(str(ty), total)]) as vector:
                    value = Values(self.addresses, row, vector.index, None).get(inner, begin, size)
                    vector.next = [self.addresses.apply(join, vector.values[0], value)]
                total = vector.values[0]
            if size % lanes:
                mask = self._mask(size % lanes)
                value = Values(self.addresses, row, str(whole), mask).get(inner, begin, size)
                value = code.op(f"select {ty.bool} {mask}, {ty} {value}, {ty} {neutral}")
                total = self.addresses.apply(join, total, value)
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
            value = self.addresses.apply(join, value, turned)
            half //= 2
        return value
