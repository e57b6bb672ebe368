"""Logarithm, circular and hyperbolic functions in float32, by our own algorithms.

As in ``mathematics``: straight sequences of IEEE operations, each rounded once, that a C header of a backend
repeats line by line. Polynomials and reductions: S. Moshier, Cephes Mathematical Library 2.2, single
precision.

Largest errors against the exact values, relative: log 1e-7, log1p 2e-7; softplus, mish, tan, atan, asin and
asinh 3e-7; acos, acosh, sinh, cosh and atanh 2e-7. Absolute: sin, cos 8e-8 for |x| <= 8192; beyond, the
argument is reduced in float32 and the error grows with it, and from 6.5e6 on it counts as 0.
"""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import Float32
from irshrink.program.reference.mathematics import LN2_HIGH, LN2_LOW, SQRT_HALF, F, exp, polynomial

LOG_COEFFICIENTS = (
    F(7.0376836292e-2),
    F(-1.1514610310e-1),
    F(1.1676998740e-1),
    F(-1.2420140846e-1),
    F(1.4249322787e-1),
    F(-1.6668057665e-1),
    F(2.0000714765e-1),
    F(-2.4999993993e-1),
    F(3.3333331174e-1),
)
LN2 = F(0.69314718055994531)
SIN_COEFFICIENTS = (F(-1.9515295891e-4), F(8.3321608736e-3), F(-1.6666654611e-1))
COS_COEFFICIENTS = (F(2.443315711809948e-5), F(-1.388731625493765e-3), F(4.166664568298827e-2))
FOUR_OVER_PI = F(1.27323954473516)
#: pi / 4 in three parts, of which the products with whole numbers below 2**14 are exact.
PI_4_PARTS = (F(0.78515625), F(2.4187564849853515625e-4), F(3.77489497744594108e-8))
#: More than this many eighths of a turn are not counted.
LARGEST_OCTANT = F(8388608.0)
ATAN_COEFFICIENTS = (
    F(8.05374449538e-2),
    F(-1.38776856032e-1),
    F(1.99777106478e-1),
    F(-3.33329491539e-1),
)
TAN_3PI_8, TAN_PI_8 = F(2.414213562373095), F(0.4142135623730950)
PI, PI_2, PI_4 = F(3.141592653589793), F(1.5707963267948966), F(0.7853981633974483)
ASIN_COEFFICIENTS = (
    F(4.2163199048e-2),
    F(2.4181311049e-2),
    F(4.5470025998e-2),
    F(7.4953002686e-2),
    F(1.6666752422e-1),
)
SINH_COEFFICIENTS = (F(2.03721912945e-4), F(8.33028376239e-3), F(1.66667160211e-1))
ASINH_COEFFICIENTS = (F(2.0122003309e-2), F(-4.2699340972e-2), F(7.4847586088e-2), F(-1.6666288134e-1))
ACOSH_COEFFICIENTS = (
    F(1.7596881071e-3),
    F(-7.5272886713e-3),
    F(2.6454905019e-2),
    F(-1.1784741703e-1),
    F(1.4142135263e0),
)
ATANH_COEFFICIENTS = (
    F(1.81740078349e-1),
    F(8.24370301058e-2),
    F(1.46691431730e-1),
    F(1.99782164500e-1),
    F(3.33337300303e-1),
)
#: From here on x**2 + 1 and x**2 - 1 are x**2 for all purposes.
LARGE = F(1500.0)


def log(x: Float32) -> Float32:
    """Natural logarithm: -infinity for 0, NaN below.

    ``x = m * 2**e`` with m in [sqrt(1/2), sqrt(2)), subnormals times ``2**23`` first; ``t = m - 1``,
    ``z = t * t``, ``y = polynomial(t) * t * z``; then ``y + e * LN2_LOW``, ``- 0.5 * z``, ``t +``,
    ``+ e * LN2_HIGH``.
    """
    tiny = x < F(1.17549435e-38)
    scaled = np.where(tiny, x * F(8388608.0), x)
    usable = np.where((scaled > 0) & (scaled < F(np.inf)), scaled, F(1))
    bits = usable.view(np.int32) - SQRT_HALF.view(np.int32)
    exponent = bits >> np.int32(23)
    mantissa = (usable.view(np.int32) - (exponent << np.int32(23))).view(np.float32)
    e = (exponent - np.where(tiny, np.int32(23), np.int32(0))).astype(np.float32)
    t = mantissa - F(1)
    z = t * t
    y = (polynomial(t, LOG_COEFFICIENTS) * t) * z
    y = y + e * LN2_LOW
    y = y - F(0.5) * z
    y = (t + y) + e * LN2_HIGH
    y = np.where(x == 0, F(-np.inf), np.where(x < 0, F(np.nan), y))
    return np.where(x < F(np.inf), y, x)  # infinity and NaN are their own logarithms


def log1p(x: Float32) -> Float32:
    """``u = 1 + x``, ``d = u - 1``: x where d is 0, else ``log(u) * (x / d)``; x where it is infinite."""
    u = F(1) + x
    d = u - F(1)
    small = (d == 0) | (x == F(np.inf))
    return np.where(small, x, log(u) * (x / np.where(small, F(1), d)))


def softplus(x: Float32) -> Float32:
    """``max(x, 0) + log1p(exp(-|x|))``."""
    y: Float32 = np.where(x > 0, x, F(0)) + log1p(exp(-np.abs(x)))
    return y


def mish(x: Float32) -> Float32:
    """``x * (n / (n + 2))`` with ``e = exp(x)``, ``n = e * (e + 2)``: x * tanh(softplus(x)); x from 20 on."""
    e = exp(np.where(x < F(20), x, F(20)))
    n = e * (e + F(2))
    return np.where(x < F(20), x * (n / (n + F(2))), x)


def _octants(x: Float32) -> tuple[Float32, np.ndarray[tuple[int, ...], np.dtype[np.int32]]]:
    """|x| less the even number j of eighths of a turn nearest below or above it, and j."""
    magnitude = np.abs(x)
    eighths = magnitude * FOUR_OVER_PI
    whole = np.where(eighths < LARGEST_OCTANT, eighths, F(0)).astype(np.int32)
    whole = whole + (whole & np.int32(1))
    y = whole.astype(np.float32)
    rest = ((magnitude - y * PI_4_PARTS[0]) - y * PI_4_PARTS[1]) - y * PI_4_PARTS[2]
    inside = eighths < LARGEST_OCTANT
    return np.where(inside, rest, np.where(magnitude < F(np.inf), F(0), F(np.nan))), whole


def _sin_part(r: Float32) -> Float32:
    z = r * r
    y: Float32 = (polynomial(z, SIN_COEFFICIENTS) * z) * r + r
    return y


def _cos_part(r: Float32) -> Float32:
    z = r * r
    y: Float32 = ((polynomial(z, COS_COEFFICIENTS) * z) * z - F(0.5) * z) + F(1)
    return y


def sin(x: Float32) -> Float32:
    """Of r = |x| - j pi/4, j even: +-sin(r) or +-cos(r), by j modulo 8."""
    r, j = _octants(x)
    y = np.where((j & 2) != 0, _cos_part(r), _sin_part(r))
    negative = ((j & 4) != 0) != (x < 0)
    return np.where(x == 0, x, np.where(negative, -y, y))


def cos(x: Float32) -> Float32:
    """Of r = |x| - j pi/4, j even: +-cos(r) or +-sin(r), by j modulo 8."""
    r, j = _octants(x)
    y = np.where((j & 2) != 0, _sin_part(r), _cos_part(r))
    return np.where(((j + 2) & 4) != 0, -y, y)


def tan(x: Float32) -> Float32:
    """``sin(x) / cos(x)``."""
    y: Float32 = sin(x) / cos(x)
    return y


def atan(x: Float32) -> Float32:
    """a = |x| above tan(3 pi/8): pi/2 + p(-1/a); above tan(pi/8): pi/4 + p((a-1)/(a+1)); else p(a); signed.

    ``p(t) = (polynomial(t * t) * (t * t)) * t + t``.
    """
    a = np.abs(x)
    high, middle = a > TAN_3PI_8, a > TAN_PI_8
    t = np.where(high, F(-1) / a, np.where(middle, (a - F(1)) / (a + F(1)), a))
    base = np.where(high, PI_2, np.where(middle, PI_4, F(0)))
    z = t * t
    y = base + ((polynomial(z, ATAN_COEFFICIENTS) * z) * t + t)
    signed: Float32 = np.copysign(y, x)
    return signed


def asin(x: Float32) -> Float32:
    """|x| up to 1/2: p(|x|); above: ``pi/2 - 2 p(sqrt((1 - |x|) / 2))``; signed. NaN above 1."""
    a = np.abs(x)
    high = a > F(0.5)
    z = np.where(high, F(0.5) * (F(1) - a), a * a)
    t = np.where(high, np.sqrt(z), a)
    p = (polynomial(z, ASIN_COEFFICIENTS) * z) * t + t
    return np.copysign(np.where(high, PI_2 - (p + p), p), x)


def acos(x: Float32) -> Float32:
    """``pi/2 - asin(x)``; above 1/2: ``2 asin(sqrt((1 - x) / 2))``; below -1/2: pi less that of -x."""
    a = np.abs(x)
    half = asin(np.sqrt(F(0.5) * (F(1) - a)))
    twice = half + half
    return np.where(a > F(0.5), np.where(x < 0, PI - twice, twice), PI_2 - asin(x))


def sinh(x: Float32) -> Float32:
    """|x| up to 1: p(x); above: ``0.5 e - 0.5 / e`` with ``e = exp(|x|)``, signed."""
    z = x * x
    small = (polynomial(z, SINH_COEFFICIENTS) * z) * x + x
    e = exp(np.abs(x))
    large = F(0.5) * e - F(0.5) / e
    return np.where(np.abs(x) > F(1), np.copysign(large, x), small)


def cosh(x: Float32) -> Float32:
    """``0.5 e + 0.5 / e`` with ``e = exp(|x|)``."""
    e = exp(np.abs(x))
    y: Float32 = F(0.5) * e + F(0.5) / e
    return y


def asinh(x: Float32) -> Float32:
    """|x| below 1/2: p(x); above 1500: ``log(|x|) + ln 2``; else ``log(|x| + sqrt(x**2 + 1))``; signed."""
    a, z = np.abs(x), x * x
    small = (polynomial(z, ASINH_COEFFICIENTS) * z) * x + x
    large = np.where(a > LARGE, log(a) + LN2, log(a + np.sqrt(z + F(1))))
    return np.where(a < F(0.5), small, np.copysign(large, x))


def acosh(x: Float32) -> Float32:
    """z = x - 1 below 1/2: ``p(z) * sqrt(z)``; x above 1500: ``log(x) + ln 2``; else the sum's logarithm.

    The sum is ``x + sqrt(z * (x + 1))``.
    """
    z = x - F(1)
    small = polynomial(z, ACOSH_COEFFICIENTS) * np.sqrt(z)
    large = np.where(x > LARGE, log(x) + LN2, log(x + np.sqrt(z * (x + F(1)))))
    return np.where(z < F(0.5), small, large)


def atanh(x: Float32) -> Float32:
    """|x| below 1/2: p(x); else ``0.5 * log((1 + |x|) / (1 - |x|))``, signed."""
    a, z = np.abs(x), x * x
    small = (polynomial(z, ATANH_COEFFICIENTS) * z) * x + x
    large = F(0.5) * log((F(1) + a) / (F(1) - a))
    return np.where(a < F(0.5), small, np.copysign(large, x))
