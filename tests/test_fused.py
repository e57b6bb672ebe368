"""The fused multiply-add of the reference, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.program.reference.fused import fma

ONE, ULP = np.float32(1), np.float32(2.0**-23)

real = st.floats(width=32, allow_nan=False, allow_infinity=False)


def is_nearest(result: np.float32, exact: Fraction) -> bool:
    """Whether no other float32 is nearer to ``exact``, nor as near with an even significand."""
    distance = abs(Fraction(float(result)) - exact)
    for side in (-np.inf, np.inf):
        other = np.nextafter(result, np.float32(side))
        if not isfinite(other):
            continue
        apart = abs(Fraction(float(other)) - exact)
        if apart < distance or (apart == distance and int(result.view(np.int32)) & 1):
            return False
    return True


def check(a: np.float32, b: np.float32, c: np.float32) -> None:
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    with np.errstate(over="ignore"):
        result = fma(np.array([a]), np.array([b]), np.array([c]))[0]
    if isfinite(result):
        assert is_nearest(result, exact)
    else:
        assert abs(exact) >= Fraction(2) ** 128 - Fraction(2) ** 103


@settings(deadline=None, max_examples=300, derandomize=True)
@given(real, real, real)
def test_one_rounding(a: float, b: float, c: float) -> None:
    check(np.float32(a), np.float32(b), np.float32(c))


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.sampled_from([-24, -25, -150, -151]))
def test_sums_next_to_a_midpoint(i: int, j: int, k: int, exponent: int) -> None:
    """A product just beside half a unit in the last place, which float64 rounds onto it."""
    a = np.float32((1 + i * float(ULP)) * 2.0 ** (exponent // 2))
    b = np.float32((1 - j * float(ULP)) * 2.0 ** (exponent - exponent // 2))
    c = np.float32(2.0**-127 + k * 2.0**-149) if exponent < -100 else np.float32(1 + k * float(ULP))
    check(a, b, c)
    check(-a, b, c)
    check(a, -b, -c)


@pytest.mark.parametrize("exponent", [-24, -150])
def test_two_roundings_would_differ(exponent: int) -> None:
    unit = np.float32(2.0 ** (exponent // 2))
    a, b = (ONE + ULP) * unit, (ONE - ULP) * unit
    c = np.float32(2.0**-127 + 2.0**-149) if exponent < -100 else ONE + ULP
    twice = np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    assert fma(np.array([a]), np.array([b]), np.array([c]))[0] != twice
    check(a, b, c)


def test_infinities_and_nan() -> None:
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    a, b, c = np.array([inf, inf, 1, nan], np.float32), np.array([1, 1, 1, 1], np.float32), [0, -inf, inf, 0]
    with np.errstate(invalid="ignore"):
        result = fma(a, b, np.array(c, np.float32))
    np.testing.assert_array_equal(result, np.array([inf, nan, inf, nan], np.float32))
