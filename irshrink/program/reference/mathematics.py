"""exp, tanh, sigmoid, erf and friends in float32, by our own algorithms.

Libraries disagree in the last bit, so none is called: everything below is a straight sequence of IEEE float32
additions, subtractions, multiplications, divisions, comparisons and bit moves, each rounded once. A C header
of a backend repeats it line by line. Polynomials: S. Moshier, Cephes Mathematical Library 2.2, single
precision; erf beyond 1: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.

Largest errors against the exact values: exp 1e-7, sigmoid and tanh 1.5e-7, erf 2.5e-7, all relative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32

F = np.float32

EXP_LOWEST = F(-87.33654)  # below: the result is 0 (it would be subnormal)
EXP_HIGHEST = F(88.72283)  # above: the result is infinite
LOG2_E = F(1.44269504088896341)
LN2_HIGH = F(0.693359375)  # 9 bits: n * LN2_HIGH is exact
LN2_LOW = F(-2.12194440e-4)
ROUNDER = F(12582912.0)  # 1.5 * 2**23: adding and subtracting it rounds to a whole number, half to even
EXP_COEFFICIENTS = (
    F(1.9875691500e-4),
    F(1.3981999507e-3),
    F(8.3334519073e-3),
    F(4.1665795894e-2),
    F(1.6666665459e-1),
    F(5.0000001201e-1),
)
TANH_COEFFICIENTS = (
    F(-5.70498872745e-3),
    F(2.06390887954e-2),
    F(-5.37397155531e-2),
    F(1.33314422036e-1),
    F(-3.33332819422e-1),
)
ERF_COEFFICIENTS = (
    F(7.853861353153693e-5),
    F(-8.010193625184903e-4),
    F(5.188327685732524e-3),
    F(-2.685381193529856e-2),
    F(1.128358514861418e-1),
    F(-3.761262582423300e-1),
    F(1.128379165726710),
)
ERF_P = F(0.3275911)
ERF_TAIL_COEFFICIENTS = (
    F(1.061405429),
    F(-1.453152027),
    F(1.421413741),
    F(-0.284496736),
    F(0.254829592),
)
SQRT_HALF = F(0.70710678118654752)
SQRT_2_OVER_PI = F(0.79788456080286536)
GELU_CUBIC = F(0.044715)


def polynomial(x: Float32, coefficients: tuple[np.float32, ...]) -> Float32:
    """Horner's scheme, highest power first: ``(c0 * x + c1) * x + c2 ...``, two roundings a step."""
    y: Float32 = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + coefficient
    return y


def power_of_two(n: NDArray[np.int32]) -> Float32:
    """2**n for n in [-126, 127], by its bits."""
    bits: NDArray[np.int32] = (n + np.int32(127)) << np.int32(23)
    return bits.view(np.float32)


def clip(x: Float32, low: np.float32, high: np.float32) -> Float32:
    """``low if x < low else high if x > high else x``: NaN and -0 pass."""
    return np.where(x < low, low, np.where(x > high, high, x))


def exp(x: Float32) -> Float32:
    """e**x = 2**n * e**r with n = rint(x * log2 e) and r = x - n * ln 2.

    ``n = (x * LOG2_E + ROUNDER) - ROUNDER``; ``r = (x - n * LN2_HIGH) - n * LN2_LOW``;
    ``y = (polynomial(r) * (r * r) + r) + 1``; result ``(y * 2**(n >> 1)) * 2**(n - (n >> 1))``.
    Two factors because 2**128 is not a float. 0 below EXP_LOWEST, infinity above EXP_HIGHEST, NaN for NaN.
    """
    inside = np.where((x >= EXP_LOWEST) & (x <= EXP_HIGHEST), x, F(0))
    n = (inside * LOG2_E + ROUNDER) - ROUNDER
    r = (inside - n * LN2_HIGH) - n * LN2_LOW
    y = (polynomial(r, EXP_COEFFICIENTS) * (r * r) + r) + F(1)
    whole = n.astype(np.int32)
    half = whole >> np.int32(1)
    with np.errstate(over="ignore"):
        y = (y * power_of_two(half)) * power_of_two(whole - half)
    y = np.where(x < EXP_LOWEST, F(0), y)
    y = np.where(x > EXP_HIGHEST, F(np.inf), y)
    return np.where(np.isnan(x), x, y)


def sigmoid(x: Float32) -> Float32:
    """``1 / (1 + exp(-x))``."""
    y: Float32 = F(1) / (F(1) + exp(-x))
    return y


def tanh(x: Float32) -> Float32:
    """|x| < 0.625: ``(polynomial(z) * z) * x + x``, ``z = x * x``; else ``1 - 2 / (exp(2 |x|) + 1)``, signed.

    |x| is cut at 10, where tanh rounds to 1; ``2 |x|`` is ``a + a``.
    """
    z = x * x
    small = (polynomial(z, TANH_COEFFICIENTS) * z) * x + x
    magnitude = np.abs(x)
    cut = np.where(magnitude > F(10), F(10), magnitude)
    large = F(1) - F(2) / (exp(cut + cut) + F(1))
    return np.where(magnitude < F(0.625), small, np.where(x < F(0), -large, large))


def erf(x: Float32) -> Float32:
    """|x| < 1: ``x * polynomial(x * x)``; else ``1 - ((polynomial(t) * t) * exp(-(a * a)))``, signed.

    ``a = |x|`` cut at 4, where erf rounds to 1; ``t = 1 / (1 + ERF_P * a)``.
    """
    magnitude = np.abs(x)
    small = x * polynomial(x * x, ERF_COEFFICIENTS)
    cut = np.where(magnitude > F(4), F(4), magnitude)
    t = F(1) / (F(1) + ERF_P * cut)
    large = F(1) - (polynomial(t, ERF_TAIL_COEFFICIENTS) * t) * exp(-(cut * cut))
    return np.where(magnitude < F(1), small, np.where(x < F(0), -large, large))


def gelu(x: Float32, alpha: np.float32) -> Float32:
    """``(0.5 * x) * (1 + erf(x * sqrt(1/2)))``.

    With alpha 1: ``(0.5 * x) * (1 + tanh(SQRT_2_OVER_PI * (x + ((GELU_CUBIC * x) * x) * x)))``.
    """
    if alpha == 1:
        inner = SQRT_2_OVER_PI * (x + ((GELU_CUBIC * x) * x) * x)
        factor = F(1) + tanh(inner)
    else:
        factor = F(1) + erf(x * SQRT_HALF)
    y: Float32 = (F(0.5) * x) * factor
    return y


def hardsigmoid(x: Float32, alpha: np.float32, beta: np.float32) -> Float32:
    """``clip(alpha * x + beta, 0, 1)``."""
    return clip(alpha * x + beta, F(0), F(1))


def elu(x: Float32, alpha: np.float32) -> Float32:
    """``alpha * (exp(x) - 1)`` where x < 0, else x."""
    return np.where(x < F(0), alpha * (exp(x) - F(1)), x)
