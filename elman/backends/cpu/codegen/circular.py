"""sin and cos, computed in float64 for both types.

x = n pi / 2 + r with |r| <= pi / 4. From 1e6 on n and r come from an exact product with 2 / pi of
1280 bits, a lane at a time: a branch around it is all that usual arguments pay.
"""

from __future__ import annotations

import math

from elman.backends.cpu.codegen.code import Code
from elman.backends.cpu.codegen.lanes import Lanes

_LIMIT = 1e6
# pi / 2 in three parts: n times the first and n times the second are exact for n < 2^20.
_HALF_PI = 1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21
# (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4 in powers of r^2
_SIN = (
    -0.1666666666666663,
    0.008333333333321445,
    -0.00019841269828971733,
    2.755731338533509e-06,
    -2.5050707966707598e-08,
    1.5893782563947676e-10,
)
_COS = (
    0.041666666666666595,
    -0.0013888888888872728,
    2.4801587288560673e-05,
    -2.755731407370041e-07,
    2.0875683928285132e-09,
    -1.1357543337966056e-11,
)
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af4361d",
    16,
)


def sin(m: Lanes, x: str) -> str:
    """Write sin(x)."""
    return _in_double(m, x, 0)


def cos(m: Lanes, x: str) -> str:
    """Write cos(x)."""
    return _in_double(m, x, 1)


def _in_double(m: Lanes, x: str, quarter: int) -> str:
    if m.single:
        return m.narrow(_sine(m.as_double(), m.widen(x), quarter))
    return _sine(m, x, quarter)


def _sine(m: Lanes, x: str, quarter: int) -> str:
    """sin(x + quarter pi / 2)."""
    n, r = _reduce(m, x)
    square = m.mul(r, r)
    sine = m.fma(m.mul(r, square), m.polynomial(square, _SIN), r)
    tail = m.fma(m.mul(square, square), m.polynomial(square, _COS), m.mul(square, -0.5))
    cosine = m.add(tail, 1.0)
    turns = m.bits(m.add(n, m.magic + quarter))
    odd = m.code.op(f"trunc {m.ty.int} {turns} to {m.ty.bool}")
    value = m.bits(m.select(odd, cosine, sine))
    sign = m.whole("shl", m.whole("and", turns, 2), m.ty.bits - 2)
    value = m.from_bits(m.whole("xor", value, sign))
    return value if quarter else m.select(m.compare("oeq", x, 0.0), x, value)


def _reduce(m: Lanes, x: str) -> tuple[str, str]:
    """(n, r): x = n pi / 2 + r; n modulo 4 where it is great."""
    code = m.code
    n = m.sub(m.fma(x, 2 / math.pi, m.magic), m.magic)
    r = x
    for part in _HALF_PI:
        r = m.fma(n, -part, r)
    size = m.abs(x)
    great = m.both(m.compare("oge", size, _LIMIT), m.compare("olt", size, math.inf))
    reduction = f"llvm.vector.reduce.or.v{m.ty.lanes}i1"
    usual, huge, end = code.block, code.name("huge"), code.name("reduced")
    code.branch_if(code.call("i1", reduction, (m.ty.bool, great)), huge, end)
    code.label(huge)
    slow_n, slow_r = _reduce_each(m, x, great, n, r)
    last = code.block
    code.branch(end)
    code.label(end)
    return (
        code.op(f"phi {m.ty} [ {n}, %{usual} ], [ {slow_n}, %{last} ]"),
        code.op(f"phi {m.ty} [ {r}, %{usual} ], [ {slow_r}, %{last} ]"),
    )


def _reduce_each(m: Lanes, x: str, great: str, n: str, r: str) -> tuple[str, str]:
    """n and r with those of the great lanes put right."""
    code = m.code
    _define_reduction(code)
    vector = str(m.ty)
    with code.loop(0, m.ty.lanes, carry=[(vector, n), (vector, r)]) as loop:
        lane = code.op(f"extractelement {vector} {x}, i64 {loop.index}")
        both = code.op(f"call <2 x double> @elman_reduce(double {lane})")
        for at, old in enumerate(loop.values):
            value = code.op(f"extractelement <2 x double> {both}, i64 {at}")
            new = code.op(f"insertelement {vector} {old}, double {value}, i64 {loop.index}")
            loop.next[at] = new
    slow_n, slow_r = loop.results or loop.values
    return m.select(great, slow_n, n), m.select(great, slow_r, r)


def _define_reduction(code: Code) -> None:
    """<2 x double> @elman_reduce(double x) -> (n, r) with n modulo 4, for finite |x| >= 1e6."""
    if _REDUCTION not in code.functions:
        code.functions.append(_REDUCTION)
        code.declared.add("declare i128 @llvm.ctlz.i128(i128, i1)")


# x = m 2^(e - 1075). %product is |x| 2 / pi modulo 4 in units of 2^-190; %rest its distance from
# the nearest whole number in units of 2^-128, of which 63 bits from the first set one on count.
_REDUCTION = f"""define internal <2 x double> @elman_reduce(double %x) noinline nounwind {{
  %bits = bitcast double %x to i64
  %exponent.0 = lshr i64 %bits, 52
  %exponent = and i64 %exponent.0, 2047
  %fraction = and i64 %bits, {2**52 - 1}
  %m = or i64 %fraction, {2**52}
  %shift.0 = sub i64 2165, %exponent
  %shift = zext i64 %shift.0 to i1280
  %shifted = lshr i1280 {_TWO_OVER_PI}, %shift
  %window = trunc i1280 %shifted to i192
  %m.wide = zext i64 %m to i192
  %product = mul i192 %window, %m.wide
  %rounded = add i192 %product, {2**189}
  %quarter.wide = lshr i192 %rounded, 190
  %quarter = trunc i192 %quarter.wide to i64
  %rest.wide = shl i192 %product, 2
  %rest.high = lshr i192 %rest.wide, 64
  %rest = trunc i192 %rest.high to i128
  %sign = ashr i128 %rest, 127
  %flipped = xor i128 %rest, %sign
  %size = sub i128 %flipped, %sign
  %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
  %normal = shl i128 %size, %zeros
  %top.wide = lshr i128 %normal, 65
  %top = trunc i128 %top.wide to i64
  %top.double = sitofp i64 %top to double
  %zeros.short = trunc i128 %zeros to i64
  %power.exponent = sub i64 960, %zeros.short
  %power.bits = shl i64 %power.exponent, 52
  %power = bitcast i64 %power.bits to double
  %turns = fmul double %top.double, %power
  %r.size = fmul double %turns, {math.pi / 2!r}
  %negative = trunc i128 %sign to i1
  %r.minus = fneg double %r.size
  %r.positive = select i1 %negative, double %r.minus, double %r.size
  %n.positive = sitofp i64 %quarter to double
  %r.opposite = fneg double %r.positive
  %n.opposite = fneg double %n.positive
  %below = icmp slt i64 %bits, 0
  %r = select i1 %below, double %r.opposite, double %r.positive
  %n = select i1 %below, double %n.opposite, double %n.positive
  %pair = insertelement <2 x double> poison, double %n, i64 0
  %both = insertelement <2 x double> %pair, double %r, i64 1
  ret <2 x double> %both
}}"""
