"""From int32 accumulators and float32 values to int8: the one rounding rule."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import Addition, FixedPoint, Float32, Int8, Int32, Requantization
from irshrink.program.reference import fixed_point
from irshrink.program.reference.dispatch import Array, float32


def saturate(rounded: Float32, zero_point: int, low: int = -128, high: int = 127) -> Int8:
    """``clip(rounded + zero_point, low, high)`` for whole numbers in float32.

    The clip comes first, at bounds moved by the zero point: the same result, and no float that does not fit
    an integer is ever converted.
    """
    clipped = np.clip(rounded, float32(low - zero_point), float32(high - zero_point))
    result: Int8 = (clipped.astype(np.int32) + np.int32(zero_point)).astype(np.int8)
    return result


def requantize(acc: Int32, requantization: Requantization | FixedPoint) -> Int8:
    """``clip(rint(float32(acc) * multiplier) + zero_point, low, high)``; multipliers along the last axis.

    A :class:`FixedPoint` is computed as it says.
    """
    if isinstance(requantization, FixedPoint):
        return fixed_point.requantize(acc, requantization)
    product = acc.astype(np.float32) * requantization.multiplier
    return saturate(np.rint(product), requantization.zero_point, requantization.low, requantization.high)


def add(a: Int8, b: Int8, addition: Addition) -> Int8:
    """``clip(half_even(((a - za) * Ma + (b - zb) * Mb) / 2**shift) + zy, low, high)``, all in int32."""
    (ma, mb), (za, zb) = addition.multipliers, addition.zero_points
    total = centred(a, za) * np.int32(ma) + centred(b, zb) * np.int32(mb)
    # float64 holds every int32 and every quotient by a power of two exactly
    return saturate(np.rint(total / 2.0**addition.shift), addition.zero_point, addition.low, addition.high)


def half_away(steps: Array) -> Array:
    """The nearest whole numbers, halves away from zero; exact where adding a half would round."""
    whole = np.trunc(steps)
    rest = steps - whole
    result: Array = whole + (rest >= 0.5).astype(np.float32) - (rest <= -0.5).astype(np.float32)
    return result


def centred(x: Array, zero_point: int) -> Int32:
    """``x - zero_point`` in int32."""
    difference: Int32 = x.astype(np.int32) - np.int32(zero_point)
    return difference


def exact_int32(acc: Array) -> Int32:
    """Whole numbers held in float64 as int32; the lowering has proved that they fit."""
    return acc.astype(np.int64).astype(np.int32)
