"""exp and what is made of it: expm1, sigmoid, tanh, erf.

All reduce x to x = n ln 2 + r with a whole number n and |r| <= ln 2 / 2. Polynomials are minimax
fits of the functions named beside them.
"""

from __future__ import annotations

from elman.backends.llvm.lanes import Lanes, Value

LOG2_E = 1.4426950408889634
# ln 2 in two parts: n * high is exact for every exponent n of the type.
_LN2_SINGLE = 0.69140625, 0.0017409305599453094
_LN2_DOUBLE = 0.6931471804855391, 7.440617110012397e-11

# (e^r - 1 - r) / r^2: within 1.4e-8 and 2.8e-19 of e^r - 1
_EXPM1_SINGLE = (
    0.5,
    0.16666540503501892,
    0.04166627675294876,
    0.008366893976926804,
    0.0013946956023573875,
)
_EXPM1_DOUBLE = (
    0.5,
    0.16666666666666677,
    0.041666666666666706,
    0.008333333333321181,
    0.0013888888888866015,
    0.00019841269887419408,
    2.4801587362226712e-05,
    2.7557242768723682e-06,
    2.7557241303339405e-07,
    2.51095824714082e-08,
    2.092489990571622e-09,
)
# e^-r: within 2e-9
_EXP_NEGATIVE_SINGLE = (
    1.0,
    -1.0,
    0.49999991059303284,
    -0.16666415333747864,
    0.041668254882097244,
    -0.008375229313969612,
    0.001383639289997518,
)
# tanh(x) / x = P(x^2) / Q(x^2) for |x| <= 9: within 2.2e-8
_TANH_P = (1.0, 0.1338271445, 0.003497489559, 2.06363267e-05, 1.338494108e-08)
_TANH_Q = (1.0, 0.467160357, 0.02588448331, 0.0003288568671, 7.790526135e-07)


def ln2(m: Lanes) -> tuple[float, float]:
    """ln 2 as a sum of two numbers of the type."""
    return _LN2_SINGLE if m.single else _LN2_DOUBLE


def _reduce(m: Lanes, x: str, scale: float = 1.0) -> tuple[str, str]:
    """(n, r): scale x = n ln 2 + r, n a whole number."""
    n = m.sub(m.fma(x, scale * LOG2_E, m.magic), m.magic)
    high, low = ln2(m)
    scaled = x if scale == 1.0 else m.mul(x, scale)
    return n, m.fma(n, -low, m.fma(n, -high, scaled))


def _expm1_of_rest(m: Lanes, r: str) -> str:
    """e^r - 1 for the small r of a reduction."""
    tail = m.polynomial(r, _EXPM1_SINGLE if m.single else _EXPM1_DOUBLE)
    return m.fma(m.mul(r, r), tail, r)


def _scale(m: Lanes, x: str, n: str) -> str:
    """x 2^n in two steps, so that subnormal results and overflow come out right."""
    lower = m.fma(n, 0.5, m.magic)
    half = m.sub(lower, m.magic)
    offset = m.magic + m.bias
    first = m.power_of_two(m.add(half, offset))
    second = m.power_of_two(m.add(m.sub(n, half), offset))
    return m.mul(m.mul(x, first), second)


def exp(m: Lanes, x: str) -> str:
    """Write e^x; subnormal results are right."""
    x = m.at_least(m.at_most(x, m.pick(89.0, 710.0)), m.pick(-104.0, -746.0))
    n, r = _reduce(m, x)
    return _scale(m, m.add(_expm1_of_rest(m, r), 1.0), n)


def expm1(m: Lanes, x: str) -> str:
    """Write e^x - 1."""
    bounded = m.at_least(m.at_most(x, m.pick(89.0, 710.0)), m.pick(-20.0, -40.0))
    n, r = _reduce(m, bounded)
    # Half of it, because 2^n itself may be too great where the result is not.
    power = m.power_of_two(m.add(n, m.magic + m.bias - 1))
    value = m.fma(power, _expm1_of_rest(m, r), m.sub(power, 0.5))
    return m.intrinsic("copysign", m.add(value, value), x)


def sigmoid(m: Lanes, x: str) -> str:
    """Write 1 / (1 + e^-x), as c / (c + c e^-x): with a small c nothing overflows."""
    return _sigmoid_single(m, x) if m.single else _sigmoid_double(m, x)


def _sigmoid_single(m: Lanes, x: str) -> str:
    shift = 30
    x = m.at_least(m.at_most(x, 18.0), -104.0)
    offset = m.magic + m.bias - shift
    shifted = m.fma(x, -LOG2_E, offset)
    n = m.sub(shifted, offset)
    high, low = ln2(m)
    r = m.fma(n, low, m.fma(n, high, x))
    small = 2.0**-shift
    power = m.power_of_two(shifted)
    total = m.fma(m.polynomial(r, _EXP_NEGATIVE_SINGLE), power, small)
    return quotient(m, small, total)


def _sigmoid_double(m: Lanes, x: str) -> str:
    shift = 60
    n, r = _reduce(m, m.at_least(m.at_most(x, 40.0), -746.0), -1.0)
    power = m.power_of_two(m.add(n, m.magic + m.bias - shift))
    small = 2.0**-shift
    total = m.fma(m.add(_expm1_of_rest(m, r), 1.0), power, small)
    return m.div(small, total)


def tanh(m: Lanes, x: str) -> str:
    """Write tanh(x)."""
    if not m.single:
        return _tanh_double(m, x)
    x = m.at_least(m.at_most(x, 9.0), -9.0)
    square = m.mul(x, x)
    above = m.mul(x, m.polynomial(square, _TANH_P))
    return quotient(m, above, m.polynomial(square, _TANH_Q))


def _tanh_double(m: Lanes, x: str) -> str:
    """-t / (t + 2) with t = e^(-2 |x|) - 1."""
    n, r = _reduce(m, m.at_most(m.abs(x), 20.0), -2.0)
    power = m.power_of_two(m.add(n, m.magic + m.bias))
    t = m.fma(power, _expm1_of_rest(m, r), m.sub(power, 1.0))
    return m.intrinsic("copysign", m.div(t, m.add(t, 2.0)), x)


def quotient(m: Lanes, above: Value, below: str) -> str:
    """Write above / below."""
    return m.div(above, below)
