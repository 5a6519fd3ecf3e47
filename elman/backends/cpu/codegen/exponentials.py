"""exp and what is made of it: expm1, sigmoid, tanh, erf.

All reduce x to x = n ln 2 + r with a whole number n and |r| <= ln 2 / 2. The polynomials are
minimax fits, in the order of rising powers.
"""

from __future__ import annotations

from elman.backends.cpu.codegen.lanes import Lanes

_LOG2_E = 1.4426950408889634
_LN2 = 0.6931471805599453
# ln 2 in two parts: n * high is exact for every exponent n of the type.
_LN2_SINGLE = 0.69140625, 0.0017409305599453094
_LN2_DOUBLE = 0.6931471804855391, 7.440617110012397e-11

# (e^r - 1 - r) / r^2: gives e^r - 1 within 1.4e-8 and 2.8e-19 of its value.
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
# e^-r within 2e-9 of its value
_EXP_NEGATIVE = (
    1.0,
    -1.0,
    0.49999991059303284,
    -0.16666415333747864,
    0.041668254882097244,
    -0.008375229313969612,
    0.001383639289997518,
)
# erf(x) / x - 1 in powers of x^2, |x| <= 0.95: within 6e-10 and 2.2e-18
_ERF_SINGLE = (
    0.12837916612625122,
    -0.37612631916999817,
    0.11283672600984573,
    -0.026858104392886162,
    0.005197801901928425,
    -0.0008105968590825796,
    8.21542416815646e-05,
)
_ERF_DOUBLE = (
    0.12837916709551256,
    -0.3761263890318368,
    0.1128379167095143,
    -0.026866170644362503,
    0.005223977617174301,
    -0.000854832649830926,
    0.00012055311804783341,
    -1.492508680223196e-05,
    1.6452068433517299e-06,
    -1.624668360649437e-07,
    1.3897369629504403e-08,
    -8.150810412965011e-10,
)
# -log(1 - erf(x)), 0.95 <= x <= 4.05 and 6: gives erf(x) within 2.8e-11 and 2e-20
_ERFC_SINGLE = (
    -0.0001834471768233925,
    1.1295568943023682,
    0.633262574672699,
    0.1083725169301033,
    -0.025178994983434677,
    0.004193621687591076,
    -0.0004391086695250124,
    2.149631836800836e-05,
)
_ERFC_DOUBLE = (
    -2.7266984279887807e-08,
    1.128379513844246,
    0.6366176861895361,
    0.10278050354642021,
    -0.01914958026638981,
    -0.00016672107948637502,
    0.0016296261727521105,
    -0.0005067505011223057,
    -5.8795253587531143e-05,
    0.00013480436641416909,
    -7.752710310859888e-05,
    2.9811593542388463e-05,
    -8.734567844415653e-06,
    2.0263313876379183e-06,
    -3.7544960439951313e-07,
    5.517181698351026e-08,
    -6.303835046548053e-09,
    5.406217583424788e-10,
    -3.27534822629724e-11,
    1.2497418829298204e-12,
    -2.257620074137234e-14,
)


def ln2(m: Lanes) -> tuple[float, float]:
    """ln 2 as the sum of two numbers, the first short enough to be multiplied exactly."""
    return _LN2_SINGLE if m.single else _LN2_DOUBLE


def _reduce(m: Lanes, x: str) -> tuple[str, str]:
    """(n, r): x = n ln 2 + r, n a whole number."""
    n = m.sub(m.fma(x, _LOG2_E, m.magic), m.magic)
    high, low = ln2(m)
    return n, m.fma(n, -low, m.fma(n, -high, x))


def _expm1_near_zero(m: Lanes, r: str) -> str:
    """e^r - 1 for the r of a reduction."""
    tail = m.polynomial(r, _EXPM1_SINGLE if m.single else _EXPM1_DOUBLE)
    return m.fma(m.mul(r, r), tail, r)


def _power_of_two(m: Lanes, n: str, less: int = 0) -> str:
    """2^(n - less), which must be a normal number."""
    return m.power_of_two(m.add(n, m.magic + m.bias - less))


def _scale(m: Lanes, x: str, n: str) -> str:
    """x 2^n in two steps, so that subnormal results and overflow come out right."""
    half = m.sub(m.fma(n, 0.5, m.magic), m.magic)
    return m.mul(m.mul(x, _power_of_two(m, half)), _power_of_two(m, m.sub(n, half)))


def exp(m: Lanes, x: str, low: str | None = None) -> str:
    """Write e^x, or e^(x + low) with a small ``low``."""
    x = m.at_least(m.at_most(x, m.pick(89.0, 710.0)), m.pick(-104.0, -746.0))
    n, r = _reduce(m, x)
    if low is not None:
        r = m.add(r, low)
    return _scale(m, m.add(_expm1_near_zero(m, r), 1.0), n)


def expm1(m: Lanes, x: str) -> str:
    """Write e^x - 1."""
    bounded = m.at_least(m.at_most(x, m.pick(89.0, 710.0)), m.pick(-20.0, -40.0))
    n, r = _reduce(m, bounded)
    # Half of the value, because 2^n itself may be too great where the value is not.
    power = _power_of_two(m, n, less=1)
    half = m.fma(power, _expm1_near_zero(m, r), m.sub(power, 0.5))
    return m.intrinsic("copysign", m.add(half, half), x)


def sigmoid(m: Lanes, x: str) -> str:
    """Write 1 / (1 + e^-x) as c / (c + c e^-x): with a small c nothing overflows."""
    shift = 30 if m.single else 60
    small = 2.0**-shift
    x = m.at_least(m.at_most(x, m.pick(18.0, 40.0)), m.pick(-104.0, -746.0))
    offset = m.magic + m.bias - shift
    shifted = m.fma(x, -_LOG2_E, offset)
    n = m.sub(shifted, offset)
    high, low = ln2(m)
    rest = m.fma(n, low, m.fma(n, high, x))  # -x = n ln 2 - rest
    if m.single:
        fraction = m.polynomial(rest, _EXP_NEGATIVE)
    else:
        fraction = m.add(_expm1_near_zero(m, m.neg(rest)), 1.0)
    return m.quotient(small, m.fma(fraction, m.power_of_two(shifted), small))


def tanh(m: Lanes, x: str) -> str:
    """Write tanh(x) as t / (t + 1) with t = (e^(2 |x|) - 1) / 2; it is exactly odd."""
    bounded = m.at_most(m.abs(x), m.pick(9.5, 20.0))
    offset = m.magic + m.bias
    shifted = m.fma(bounded, 2 * _LOG2_E, offset)
    n = m.sub(shifted, offset)
    # r = |x| - n ln 2 / 2; in float32 and with fma the n of at most 28 leaves one step enough.
    parts = (_LN2,) if m.single and m.fused else ln2(m)
    r = bounded
    for part in parts:
        r = m.fma(n, -part / 2, r)
    tail = m.polynomial(r, _doubled(_EXPM1_SINGLE if m.single else _EXPM1_DOUBLE))
    power = m.power_of_two(shifted)
    t = m.fma(power, m.fma(m.mul(r, r), tail, r), m.fma(power, 0.5, -0.5))
    return m.intrinsic("copysign", m.quotient(t, m.add(t, 1.0)), x)


def _doubled(coefficients: tuple[float, ...]) -> list[float]:
    """((e^2r - 1) / 2 - r) / r^2, from (e^r - 1 - r) / r^2."""
    return [c * 2.0 ** (k + 1) for k, c in enumerate(coefficients)]


def erf(m: Lanes, x: str) -> str:
    """Write erf(x), for great |x| as 1 - e^-g(|x|)."""
    size = m.at_most(m.abs(x), m.pick(4.05, 6.0))
    near = m.polynomial(m.mul(size, size), _ERF_SINGLE if m.single else _ERF_DOUBLE)
    near = m.fma(size, near, size)
    n, r = _reduce(m, m.neg(m.polynomial(size, _ERFC_SINGLE if m.single else _ERFC_DOUBLE)))
    power = m.neg(_power_of_two(m, n))
    far = m.fma(power, _expm1_near_zero(m, r), m.add(power, 1.0))
    value = m.select(m.compare("olt", size, 0.95), near, far)
    return m.intrinsic("copysign", value, x)
