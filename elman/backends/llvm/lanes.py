"""Arithmetic on the lanes of one vector type, written as calls: what the functions are built of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from elman.backends.llvm.code import Code, Vector

#: A value by its name, or a number that stands in every lane.
Value = str | float


@dataclass(frozen=True)
class Lanes:
    """Writes instructions on vectors of type ``ty`` into ``code``.

    features: as LLVM names them. An x86 processor that is known to lack "fma" gets a product and
    a sum instead, because there LLVM would call the C library for each lane.
    """

    code: Code
    ty: Vector
    features: frozenset[str] = frozenset()

    @cached_property
    def fused(self) -> bool:
        return "fma" in self.features or "sse2" not in self.features

    @cached_property
    def estimates(self) -> bool:
        """Whether the processor estimates 1/x to 14 bits in one instruction of this size."""
        return "avx512f" in self.features and self.ty == Vector("float", 16)

    @property
    def single(self) -> bool:
        return self.ty.element == "float"

    @property
    def mantissa(self) -> int:
        """How many bits of the fraction are stored."""
        return 23 if self.single else 52

    @property
    def bias(self) -> int:
        """The exponent field of 1.0."""
        return 127 if self.single else 1023

    @property
    def magic(self) -> float:
        """x + magic has the whole number nearest to x in its lowest bits, for |x| < magic / 3."""
        return 1.5 * 2.0**self.mantissa

    def as_double(self) -> Lanes:
        """The same number of lanes in float64."""
        return Lanes(self.code, Vector("double", self.ty.lanes), self.features)

    def pick(self, single: float, double: float) -> float:
        return single if self.single else double

    # -------------------------------------------------------------- numbers

    def text(self, value: Value) -> str:
        return value if isinstance(value, str) else self.ty.splat(value)

    def _binary(self, name: str, a: Value, b: Value) -> str:
        return self.code.op(f"{name} {self.ty} {self.text(a)}, {self.text(b)}")

    def add(self, a: Value, b: Value) -> str:
        return self._binary("fadd", a, b)

    def sub(self, a: Value, b: Value) -> str:
        return self._binary("fsub", a, b)

    def mul(self, a: Value, b: Value) -> str:
        return self._binary("fmul", a, b)

    def div(self, a: Value, b: Value) -> str:
        return self._binary("fdiv", a, b)

    def neg(self, a: str) -> str:
        return self.code.op(f"fneg {self.ty} {a}")

    def fma(self, a: Value, b: Value, c: Value) -> str:
        """a b + c, rounded once where the processor can."""
        if not self.fused:
            return self.add(self.mul(a, b), c)
        return self.intrinsic("fma", a, b, c)

    def intrinsic(self, name: str, *args: Value) -> str:
        """Such as fma, fabs, sqrt, copysign."""
        vector = str(self.ty)
        typed = [(vector, self.text(arg)) for arg in args]
        return self.code.call(vector, f"llvm.{name}.{self.ty.suffix}", *typed)

    def abs(self, a: str) -> str:
        return self.intrinsic("fabs", a)

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """c[0] + c[1] x + c[2] x^2 + ..."""
        *rest, last = coefficients
        value: Value = last
        for c in reversed(rest):
            value = self.fma(value, x, c)
        return self.text(value)

    # -------------------------------------------------------------- truth

    def compare(self, predicate: str, a: Value, b: Value) -> str:
        return self.code.op(f"fcmp {predicate} {self.ty} {self.text(a)}, {self.text(b)}")

    def select(self, condition: str, a: Value, b: Value) -> str:
        chosen = f"{self.ty} {self.text(a)}, {self.ty} {self.text(b)}"
        return self.code.op(f"select {self.ty.bool} {condition}, {chosen}")

    def at_most(self, x: str, bound: float) -> str:
        """The smaller of both; NaN stays."""
        return self.select(self.compare("ogt", x, bound), bound, x)

    def at_least(self, x: str, bound: float) -> str:
        """The greater of both; NaN stays."""
        return self.select(self.compare("olt", x, bound), bound, x)

    # -------------------------------------------------------------- bits

    def bits(self, a: Value) -> str:
        return self.code.op(f"bitcast {self.ty} {self.text(a)} to {self.ty.int}")

    def from_bits(self, a: str) -> str:
        return self.code.op(f"bitcast {self.ty.int} {a} to {self.ty}")

    def whole(self, name: str, a: str, b: str | int) -> str:
        """An instruction on the whole numbers of the same width, as "shl"."""
        other = self.ty.splat_int(b) if isinstance(b, int) else b
        return self.code.op(f"{name} {self.ty.int} {a}, {other}")

    def power_of_two(self, shifted: str) -> str:
        """2^n of shifted = n + magic + bias: n goes from the lowest bits to the exponent."""
        return self.from_bits(self.whole("shl", self.bits(shifted), self.mantissa))
