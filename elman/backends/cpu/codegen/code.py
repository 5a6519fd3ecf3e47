"""Text of LLVM IR, written a line at a time."""

from __future__ import annotations

import builtins
import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Vector:
    """A vector type: ``element`` is "float" or "double", ``lanes`` how many there are."""

    element: str
    lanes: int

    @property
    def bits(self) -> int:
        return 32 if self.element == "float" else 64

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def suffix(self) -> str:
        """As in llvm.fma.v16f32."""
        return f"v{self.lanes}f{self.bits}"

    @property
    def int(self) -> str:
        """The vector of whole numbers of the same width."""
        return f"<{self.lanes} x i{self.bits}>"

    @property
    def bool(self) -> str:
        return f"<{self.lanes} x i1>"

    def __str__(self) -> str:
        return f"<{self.lanes} x {self.element}>"

    def splat(self, value: float) -> str:
        """A constant with this value in every lane."""
        return f"splat ({self.element} {literal(value, self.element)})"

    def splat_int(self, value: builtins.int) -> str:
        return f"splat (i{self.bits} {value})"


def literal(value: float, element: str) -> str:
    """A number exactly as LLVM reads it: any float64, or the float32 nearest to it, which beyond
    float32's range is infinite."""
    if element == "float":
        value = ctypes.c_float(value).value
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Code:
    """Functions in the text form of LLVM IR. Values are their names, as "%12"."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.declared: set[str] = set()
        self.lines: list[str] = []
        self._count = 0
        self._block = "entry"

    # -------------------------------------------------------------- values

    def name(self, hint: str = "v") -> str:
        self._count += 1
        return f"%{hint}{self._count}"

    def op(self, text: str) -> str:
        """Write ``%new = text``; returns %new."""
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write an instruction without a value."""
        self.lines.append(f"  {text}")

    def call(self, result: str, function: str, *arguments: tuple[str, str]) -> str:
        """Call a function of LLVM's or of another module, given as (type, value) pairs.

        It is declared once. Returns the value, or "" where ``result`` is "void".
        """
        types = ", ".join(t for t, _ in arguments)
        self.declared.add(f"declare {result} @{function}({types})")
        text = f"call {result} @{function}({', '.join(f'{t} {v}' for t, v in arguments)})"
        if result == "void":
            self.do(text)
            return ""
        return self.op(text)

    # -------------------------------------------------------------- memory

    def gep(self, pointer: str, index: str | int, element: str = "float") -> str:
        """The address of pointer[index]."""
        if index in (0, "0"):
            return pointer
        return self.op(f"getelementptr inbounds {element}, ptr {pointer}, i64 {index}")

    def load(self, type: str | Vector, pointer: str, align: int = 4) -> str:
        return self.op(f"load {type}, ptr {pointer}, align {align}")

    def store(self, type: str | Vector, value: str, pointer: str, align: int = 4) -> None:
        self.do(f"store {type} {value}, ptr {pointer}, align {align}")

    # -------------------------------------------------------------- whole numbers

    def add(self, a: str | int, b: str | int) -> str:
        return str(a) if b in (0, "0") else self.op(f"add nsw i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        return str(a) if b in (0, "0") else self.op(f"sub nsw i64 {a}, {b}")

    def mul(self, a: str | int, b: str | int) -> str:
        return str(a) if b in (1, "1") else self.op(f"mul nsw i64 {a}, {b}")

    def smin(self, a: str | int, b: str | int) -> str:
        return self.call("i64", "llvm.smin.i64", ("i64", str(a)), ("i64", str(b)))

    def smax(self, a: str | int, b: str | int) -> str:
        return self.call("i64", "llvm.smax.i64", ("i64", str(a)), ("i64", str(b)))

    def compare(self, predicate: str, a: str | int, b: str | int) -> str:
        return self.op(f"icmp {predicate} i64 {a}, {b}")

    # -------------------------------------------------------------- control

    def label(self, name: str) -> None:
        self.lines.append(f"{name.lstrip('%')}:")
        self._block = name.lstrip("%")

    @property
    def block(self) -> str:
        """The label of the block being written."""
        return self._block

    def branch(self, target: str) -> None:
        self.do(f"br label {target}")

    def branch_if(self, condition: str, yes: str, no: str) -> None:
        self.do(f"br i1 {condition}, label {yes}, label {no}")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Code that runs where the condition (i1) holds."""
        yes, end = self.name("then"), self.name("end")
        self.branch_if(condition, yes, end)
        self.label(yes)
        yield
        self.branch(end)
        self.label(end)

    @contextmanager
    def loop(
        self,
        start: str | int,
        stop: str | int,
        step: int = 1,
        carry: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Loop]:
        """``for i in range(start, stop, step)``: yields the loop, whose ``index`` is i.

        carry: (type, first value) of what goes from one turn to the next: read
        ``loop.values`` in the body, set ``loop.next`` there to the new values, and read
        ``loop.results`` after the loop.
        """
        before, head = self.block, self.name("head")
        body, end = self.name("body"), self.name("end")
        self.branch(head)
        self.label(head)
        at = len(self.lines)
        self.lines.append("")  # the phis, written at the end when all is known
        index = self.name("i")
        values = [self.name("c") for _ in carry]
        loop = Loop(index, values, list(values))
        inside = self.op(f"icmp slt i64 {index}, {stop}")
        self.branch_if(inside, body, end)
        self.label(body)
        yield loop
        following = self.add(index, step)
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{self.block} ]"]
        for (type, first), value, new in zip(carry, values, loop.next, strict=True):
            phis.append(f"  {value} = phi {type} [ {first}, %{before} ], [ {new}, %{self.block} ]")
        self.lines[at] = "\n".join(phis)
        self.branch(head)
        self.label(end)
        loop.results = values

    # -------------------------------------------------------------- functions

    @contextmanager
    def function(self, header: str, attributes: str = "#0", result: str = "void") -> Iterator[None]:
        """A function: header as ``internal void @tile(ptr noalias %a, i64 %n)``."""
        outer = self.lines, self._block
        self.lines, self._block = [f"define {header} {attributes} {{", "entry:"], "entry"
        yield
        if result == "void":
            self.do("ret void")
        self.lines.append("}")
        self.functions.append("\n".join(self.lines))
        self.lines, self._block = outer

    def module(self, attributes: Sequence[str] = ()) -> str:
        """The text of the module."""
        quoted = " ".join(["nounwind", *attributes])
        parts = [*sorted(self.declared), *self.functions, f"attributes #0 = {{ {quoted} }}"]
        return "\n\n".join(parts) + "\n"


@dataclass
class Loop:
    """A loop being written."""

    index: str
    values: list[str]
    next: list[str]
    results: list[str] | None = None
