"""Arithmetic on the lanes of one vector type, written as calls: what the functions are built of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from elman.backends.cpu.codegen.code import Code, Vector

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

    @property
    def estimates(self) -> bool:
        """Whether estimating 1/x and improving it beats dividing.

        It does on Intel, whose divider takes 16 cycles for 16 lanes; AMD, known by "sse4a",
        divides them in 10 beside other work.
        """
        return (
            self.ty == Vector("float", 16)
            and "avx512f" in self.features
            and "sse4a" not in self.features
        )

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

    def pick(self, single: float, double: float) -> float:
        return single if self.single else double

    # -------------------------------------------------------------- numbers

    def splat(self, value: float) -> str:
        return self.ty.splat(value)

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

    def quotient(self, a: Value, b: str) -> str:
        """a / b, of which the last bit may be wrong; 1 / b must not be subnormal."""
        if not self.estimates:
            return self.div(a, b)
        vector = str(self.ty)
        estimate = self.code.call(
            vector,
            "llvm.x86.avx512.rcp14.ps.512",
            (vector, b),
            (vector, "zeroinitializer"),
            ("i16", "-1"),
        )
        first = self.mul(a, estimate)
        return self.fma(self.fma(self.neg(b), first, a), estimate, first)

    def abs(self, a: str) -> str:
        return self.intrinsic("fabs", a)

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """c[0] + c[1] x + c[2] x^2 + ..."""
        *rest, last = coefficients
        value: Value = last
        for c in reversed(rest):
            value = self.fma(value, x, c)
        return self.text(value)

    def exact_sum(self, a: str, b: str) -> tuple[str, str]:
        """The sum and what it has rounded off, of finite numbers."""
        total = self.add(a, b)
        part = self.sub(total, a)
        return total, self.add(self.sub(a, self.sub(total, part)), self.sub(b, part))

    def exact_product(self, a: str, b: str) -> tuple[str, str]:
        """The product and what it has rounded off, of numbers of moderate size."""
        product = self.mul(a, b)
        if self.fused:
            return product, self.fma(a, b, self.neg(product))
        (a_high, a_low), (b_high, b_low) = self._halves(a), self._halves(b)
        rest = self.sub(self.mul(a_high, b_high), product)
        rest = self.add(self.add(rest, self.mul(a_high, b_low)), self.mul(a_low, b_high))
        return product, self.add(rest, self.mul(a_low, b_low))

    def _halves(self, a: str) -> tuple[str, str]:
        """a as a sum of two numbers with half as many bits."""
        stretched = self.mul(a, 2.0 ** (self.mantissa // 2 + 1) + 1)
        high = self.sub(stretched, self.sub(stretched, a))
        return high, self.sub(a, high)

    # -------------------------------------------------------------- the other width

    def as_double(self) -> Lanes:
        """The same number of lanes in float64."""
        return Lanes(self.code, Vector("double", self.ty.lanes), self.features)

    def widen(self, a: str) -> str:
        """A float32 value in float64."""
        return self.code.op(f"fpext {self.ty} {a} to {self.as_double().ty}")

    def narrow(self, a: str) -> str:
        """A float64 value in float32."""
        return self.code.op(f"fptrunc {self.as_double().ty} {a} to {self.ty}")

    # -------------------------------------------------------------- truth

    def compare(self, predicate: str, a: Value, b: Value) -> str:
        return self.code.op(f"fcmp {predicate} {self.ty} {self.text(a)}, {self.text(b)}")

    def select(self, condition: str, a: Value, b: Value) -> str:
        chosen = f"{self.ty} {self.text(a)}, {self.ty} {self.text(b)}"
        return self.code.op(f"select {self.ty.bool} {condition}, {chosen}")

    def both(self, a: str, b: str) -> str:
        return self.code.op(f"and {self.ty.bool} {a}, {b}")

    def either(self, a: str, b: str) -> str:
        return self.code.op(f"or {self.ty.bool} {a}, {b}")

    def opposite(self, a: str) -> str:
        return self.code.op(f"xor {self.ty.bool} {a}, splat (i1 true)")

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
