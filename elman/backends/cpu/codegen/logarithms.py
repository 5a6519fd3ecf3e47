"""log, log1p and pow.

All take a positive number apart as 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), and use
log(1 + f) = 2 artanh(s) with s = f / (2 + f).
"""

from __future__ import annotations

import math
import struct

from elman.backends.cpu.codegen import exponentials
from elman.backends.cpu.codegen.lanes import Lanes

# (2 artanh(s) / s - 2) / s^2 in powers of s^2, |s| <= 0.1724: gives log(1 + f) within 1e-11 and
# 2e-20 of its value
_ARTANH_SINGLE = (0.6666666269302368, 0.40000343322753906, 0.2853679358959198, 0.23593248426914215)
_ARTANH_DOUBLE = (
    0.6666666666666666,
    0.4000000000000636,
    0.2857142856902504,
    0.22222222658328863,
    0.18181774610973445,
    0.15387141107868918,
    0.13248909413951035,
    0.13262848841409652,
)
# The same without its first term, 2 / 3, which stands in two parts.
_TWO_THIRDS = 0.6666666666666666, 3.700743415417188e-17
_ARTANH_TAIL = (
    0.3999999999999998,
    0.285714285714431,
    0.22222222217886922,
    0.1818181883926659,
    0.15384558382502542,
    0.1333627727213003,
    0.1167534349562256,
    0.11986600236982858,
)


def log(m: Lanes, x: str) -> str:
    """Write log(x)."""
    k, f = _split(m, x)
    return _where_defined(m, x, _log_of_parts(m, k, f))


def log1p(m: Lanes, x: str) -> str:
    """Write log(1 + x)."""
    u = m.add(x, 1.0)
    # What the sum has rounded off, exactly.
    back = m.sub(u, 1.0)
    lost = m.add(m.sub(x, back), m.sub(1.0, m.sub(u, back)))
    k, f = _split(m, u, subnormal=False)
    near = m.compare("oeq", k, 0.0)
    f = m.select(near, x, f)
    correction = m.select(near, 0.0, m.div(lost, u))
    value = _where_defined(m, u, _log_of_parts(m, k, f, correction))
    return m.intrinsic("copysign", value, x)


def _split(m: Lanes, x: str, subnormal: bool = True) -> tuple[str, str]:
    """(k, f): x = 2^k (1 + f), for positive finite x."""
    extra = m.mantissa + 2
    if subnormal:
        tiny = m.compare("olt", x, 2.0 ** (1 - m.bias))
        x = m.select(tiny, m.mul(x, 2.0**extra), x)
    one, low = _bits_of(m, 1.0), _bits_of(m, math.sqrt(0.5))
    bits = m.whole("add", m.bits(x), one - low)
    exponent = m.whole("lshr", bits, m.mantissa)
    fraction = m.whole("add", m.whole("and", bits, 2**m.mantissa - 1), low)
    # The exponent in the lowest bits of 2^mantissa is the sum of both.
    base = 2.0**m.mantissa
    k = m.sub(m.from_bits(m.whole("or", exponent, _bits_of(m, base))), base + m.bias)
    if subnormal:
        k = m.select(tiny, m.sub(k, float(extra)), k)
    return k, m.sub(m.from_bits(fraction), 1.0)


def _bits_of(m: Lanes, value: float) -> int:
    """The bits of a number as a whole number."""
    number, whole = ("<f", "<i") if m.single else ("<d", "<q")
    return int(struct.unpack(whole, struct.pack(number, value))[0])


def _log_of_parts(m: Lanes, k: str, f: str, correction: str | None = None) -> str:
    """k ln 2 + log(1 + f) + correction, the great terms last."""
    s = m.div(f, m.add(f, 2.0))
    z = m.mul(s, s)
    tail = m.mul(z, m.polynomial(z, _ARTANH_SINGLE if m.single else _ARTANH_DOUBLE))
    half = m.mul(m.mul(f, 0.5), f)
    high, low = exponentials.ln2(m)
    small = m.mul(k, low)
    if correction is not None:
        small = m.add(small, correction)
    small = m.fma(s, m.add(half, tail), small)
    return m.fma(k, high, m.sub(f, m.sub(half, small)))


def _where_defined(m: Lanes, x: str, value: str) -> str:
    """The logarithm ``value`` of x with what it is at inf, 0, below 0 and at NaN."""
    value = m.select(m.compare("oeq", x, math.inf), math.inf, value)
    undefined = m.select(m.compare("oeq", x, 0.0), -math.inf, math.nan)
    return m.select(m.compare("ogt", x, 0.0), value, undefined)


def pow(m: Lanes, x: str, y: str) -> str:
    """Write x^y, with every special case of the C function."""
    if m.single:
        wide = m.as_double()
        return m.narrow(_pow(wide, m.widen(x), m.widen(y), exact=False))
    return _pow(m, x, y, exact=True)


def _pow(m: Lanes, x: str, y: str, exact: bool) -> str:
    size = m.abs(x)
    k, f = _split(m, size)
    parts = _log_in_two_parts if exact else _log_in_one_part
    high, low = parts(m, k, f)
    high = m.select(m.compare("oeq", size, 0.0), -math.inf, high)
    high = m.select(m.compare("une", m.sub(size, size), 0.0), size, high)  # inf and NaN
    product, rest = m.exact_product(y, high)
    rest = m.fma(y, low, rest)
    # Beyond the range of exp, and for y near the greatest number, the rest may be no number.
    usable = m.both(m.compare("olt", m.abs(product), 800.0), m.compare("ord", rest, rest))
    rest = m.select(usable, rest, 0.0)
    return _with_sign(m, x, y, size, exponentials.exp(m, product, rest))


def _log_in_one_part(m: Lanes, k: str, f: str) -> tuple[str, str]:
    return _log_of_parts(m, k, f), m.splat(0.0)


def _log_in_two_parts(m: Lanes, k: str, f: str) -> tuple[str, str]:
    """k ln 2 + log(1 + f) to about 65 bits: for y = 700 / log(x) the product needs them."""
    s, s_low = _quotient_in_two_parts(m, f)
    z, z_low = m.exact_product(s, s)
    z_low = m.fma(m.mul(s, 2.0), s_low, z_low)
    tail = m.mul(z, m.polynomial(z, _ARTANH_TAIL))
    factor, factor_low = m.exact_sum(m.splat(_TWO_THIRDS[0]), tail)
    factor_low = m.add(factor_low, _TWO_THIRDS[1])
    # q = s^3 factor
    q, q_low = m.exact_product(z, factor)
    q_low = m.add(q_low, m.fma(z, factor_low, m.mul(z_low, factor)))
    cubed, cubed_low = m.exact_product(q, s)
    cubed_low = m.add(cubed_low, m.fma(q_low, s, m.mul(q, s_low)))
    ln2_high, ln2_low = exponentials.ln2(m)
    total, lost = m.exact_sum(m.mul(k, ln2_high), m.mul(s, 2.0))
    total, lost_too = m.exact_sum(total, cubed)
    low = m.add(m.fma(s_low, 2.0, cubed_low), m.add(lost, lost_too))
    low = m.fma(k, ln2_low, low)
    high = m.add(total, low)
    return high, m.sub(low, m.sub(high, total))


def _quotient_in_two_parts(m: Lanes, f: str) -> tuple[str, str]:
    """f / (2 + f)."""
    below, below_low = m.exact_sum(m.splat(2.0), f)
    s = m.div(f, below)
    product, product_low = m.exact_product(s, below)
    rest = m.sub(m.sub(m.sub(f, product), product_low), m.mul(s, below_low))
    return s, m.div(rest, below)


def _with_sign(m: Lanes, x: str, y: str, size: str, value: str) -> str:
    """x^y from |x|^y."""
    steps = m.abs(y)
    whole = _is_whole(m, steps)
    odd = m.both(whole, m.opposite(_is_whole(m, m.mul(steps, 0.5))))
    signed = m.intrinsic("copysign", value, x)
    value = m.select(odd, signed, value)
    # No number: a finite negative x and a y between whole numbers.
    negative = m.both(m.compare("olt", x, 0.0), m.compare("olt", size, math.inf))
    unreal = m.both(m.both(negative, m.opposite(whole)), m.compare("ord", y, y))
    value = m.select(unreal, math.nan, value)
    endless = m.both(m.compare("oeq", size, 1.0), m.compare("oeq", steps, math.inf))
    value = m.select(endless, 1.0, value)
    value = m.select(m.compare("oeq", x, 1.0), 1.0, value)
    return m.select(m.compare("oeq", y, 0.0), 1.0, value)


def _is_whole(m: Lanes, size: str) -> str:
    """Whether a number that is not negative is a whole one; all great ones are."""
    base = 2.0**m.mantissa
    rounded = m.sub(m.add(size, base), base)
    great = m.compare("oge", size, base)
    return m.either(great, m.compare("oeq", rounded, size))
