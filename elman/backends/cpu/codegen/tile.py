"""The inner product of every kernel: some rows times a block of columns, held in registers."""

from __future__ import annotations

from elman.backends.cpu.codegen.code import Code, Vector

#: Steps of the inner loop written out one after the other.
UNROLL = 4


def tallest(columns: int, registers: int) -> int:
    """How many rows a tile may have: as the registers allow beside one row of weights and one
    number of x."""
    most = (registers - columns - 2) // columns
    return min(max(most, 1), 8)


def emit_tile(code: Code, ty: Vector, height: int, columns: int) -> str:
    """A function: acc[m, c] (+)= sum over k of x[m][k] W[k, c].

        void tile(ptr rows, i64 k, i64 n, ptr W, ptr acc, i64 stride, i1 first)

    rows: ``height`` pointers to vectors, read from element k on. W: [n, columns] vectors.
    acc: ``height`` rows of ``columns`` vectors, ``stride`` elements apart; overwritten where
    first, else added to. Sums run over k in order, whatever the height: a row has the same bits
    in any tile.
    """
    name = f"tile_{height}x{columns}"
    head = (
        "ptr noalias %rows, i64 %k, i64 %n, ptr noalias %W, ptr noalias %acc, i64 %stride, "
        "i1 %first"
    )
    with code.function(f"internal void @{name}({head})"):
        x = [
            code.gep(code.load("ptr", code.gep("%rows", m, "ptr"), 8), "%k", ty.element)
            for m in range(height)
        ]
        places = [
            code.gep(
                code.gep("%acc", code.mul("%stride", m) if m else 0, ty.element),
                c * ty.lanes,
                ty.element,
            )
            for m in range(height)
            for c in range(columns)
        ]
        zero = ty.splat(0.0)
        sums = [
            code.op(f"select i1 %first, {ty} {zero}, {ty} {code.load(ty, p, ty.bytes)}")
            for p in places
        ]
        whole = code.op(f"and i64 %n, {-UNROLL}")
        with code.loop(0, whole, UNROLL, [(str(ty), s) for s in sums]) as loop:
            sums = loop.values
            for u in range(UNROLL):
                sums = _multiply(code, ty, x, code.add(loop.index, u), sums, columns)
            loop.next = sums
        with code.loop(whole, "%n", 1, [(str(ty), s) for s in loop.values]) as rest:
            rest.next = _multiply(code, ty, x, rest.index, rest.values, columns)
        for place, value in zip(places, rest.values, strict=True):
            code.store(ty, value, place, ty.bytes)
    return name


def _multiply(
    code: Code, ty: Vector, x: list[str], k: str, sums: list[str], columns: int
) -> list[str]:
    """One step of k: every sum plus x times weight."""
    at = code.gep("%W", code.mul(k, columns * ty.lanes), ty.element)
    weights = [
        code.load(ty, code.gep(at, c * ty.lanes, ty.element), ty.lanes * ty.bytes)
        for c in range(columns)
    ]
    found = []
    for m, row in enumerate(x):
        scalar = code.load(ty.element, code.gep(row, k, ty.element), ty.bytes)
        value = splat(code, ty, scalar)
        for c in range(columns):
            s = sums[m * columns + c]
            found.append(
                code.call(
                    str(ty),
                    f"llvm.fmuladd.{ty.suffix}",
                    (str(ty), value),
                    (str(ty), weights[c]),
                    (str(ty), s),
                )
            )
    return found


def splat(code: Code, ty: Vector, scalar: str) -> str:
    """A vector with one number in every lane."""
    one = code.op(f"insertelement {ty} poison, {ty.element} {scalar}, i32 0")
    return code.op(f"shufflevector {ty} {one}, {ty} poison, <{ty.lanes} x i32> zeroinitializer")
