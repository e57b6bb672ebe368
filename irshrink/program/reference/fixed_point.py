"""Fixed-point arithmetic of TensorFlow Lite Micro, in int64 on whole arrays.

B. Jacob, gemmlowp's ``fixedpoint.h``, whose functions these are; values are int32, here held in int64 so that
no intermediate overflows. docs/integer-semantics.md states the same in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import FixedPoint, Int8

Int64 = NDArray[np.int64]

_INT32 = np.iinfo(np.int32)
ONE = int(_INT32.max)  # 1.0 with 31 fractional bits, as near as it gets

#: exp(-1/8), and 1/3, with 31 fractional bits.
_EXP_EIGHTH, _THIRD = 1895147668, 715827883
#: exp(-2**(k - 2)) with 31 fractional bits, k from 0.
_EXP_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
#: 48/17 and -32/17 with 29 fractional bits: Newton's first guess of a reciprocal.
_GUESS, _GUESS_SLOPE = 1515870810, -1010580540
#: Fractional bits of a softmax's sum of exponentials, whose own are 31.
SUM_BITS = 19


def high(a: Any, b: Any) -> Int64:
    """``floor((a * b + 2**30) / 2**31)``: the product of two numbers with 31 fractional bits."""
    product: Int64 = (np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 30)) >> 31
    return product


def pot(x: Any, exponent: Any) -> Int64:
    """``x / 2**exponent`` rounded, halves away from zero."""
    x = np.asarray(x, np.int64)
    half = (np.int64(1) << exponent) >> 1
    rounded: Int64 = np.where(x < 0, -((-x + half) >> exponent), (x + half) >> exponent)
    return rounded


def scaled(x: Any, multiplier: Any, shift: Any) -> Int64:
    """``x * multiplier * 2**(shift - 31)``, twice rounded; the shift to the left is modulo 2**32."""
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    moved = (np.asarray(x, np.int64) << left).astype(np.int32)
    return pot(high(moved, multiplier), right)


def requantize(acc: Any, form: FixedPoint) -> Int8:
    """The int8 result of an accumulator; multipliers along the last axis."""
    moved = scaled(acc, form.multiplier, form.shift)
    clipped = np.clip(moved, form.low - form.zero_point, form.high - form.zero_point) + form.zero_point
    result: Int8 = clipped.astype(np.int8)
    return result


def exp_of_negative(x: Any, integer_bits: int) -> Int64:
    """``exp(x)`` with 31 fractional bits, x <= 0 with ``31 - integer_bits``."""
    x = np.asarray(x, np.int64)
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    low = (x & (quarter - 1)) - quarter  # x modulo 1/4, in [-1/4, 0)
    result = _exp_of_quarter(low << integer_bits)
    rest = low - x
    for place, multiplier in enumerate(_EXP_POWERS[: integer_bits + 2]):
        bit = (rest >> (fraction - 2 + place)) & 1
        result = np.where(bit != 0, high(result, multiplier), result)
    return np.where(x == 0, ONE, result)


def _exp_of_quarter(x: Int64) -> Int64:
    """``exp(x)``, x in [-1/4, 0), both with 31 fractional bits: Taylor's series around -1/8."""
    x = x + (1 << 28)
    x2 = high(x, x)
    x3, x4 = high(x2, x), high(x2, x2)
    tail = pot(high(pot(x4, 2) + x3, _THIRD) + x2, 1)
    result: Int64 = _EXP_EIGHTH + high(_EXP_EIGHTH, x + tail)
    return result


def reciprocal_of_one_plus(x: Any) -> Int64:
    """``1 / (1 + x)``, x in [0, 1], both with 31 fractional bits: three steps of Newton."""
    return _left(_newton(x), 1)


def tanh_quotient(x: Any) -> Int64:
    """``(1 - x) / (1 + x)``, likewise."""
    return _left(_newton(x) - (1 << 29), 2)


def _newton(x: Any) -> Int64:
    """``2 / (1 + x)`` with 29 fractional bits."""
    half = (np.asarray(x, np.int64) + (1 << 31)) >> 1
    y: Int64 = _GUESS + high(half, _GUESS_SLOPE)
    for _ in range(3):
        y = y + _left(high(y, (1 << 29) - high(half, y)), 2)
    return y


def _left(x: Int64, bits: int) -> Int64:
    moved: Int64 = np.clip(x << bits, _INT32.min, _INT32.max)
    return moved


def logistic(x: Any, integer_bits: int) -> Int64:
    """``1 / (1 + exp(-x))`` with 31 fractional bits, x with ``31 - integer_bits``."""
    x = np.asarray(x, np.int64)
    positive = reciprocal_of_one_plus(exp_of_negative(-np.abs(x), integer_bits))
    return np.where(x == 0, 1 << 30, np.where(x > 0, positive, ONE - positive))


def tanh(x: Any, integer_bits: int) -> Int64:
    """``tanh(x)`` with 31 fractional bits, x with ``31 - integer_bits``."""
    x = np.asarray(x, np.int64)
    positive = tanh_quotient(exp_of_negative(-np.abs(x), integer_bits + 1))
    return np.where(x == 0, 0, np.where(x > 0, positive, -positive))


def softmax(e: Int64) -> Int8:
    """``clip(e / sum(e) * 256 - 128)`` over the last axis; e with 31 fractional bits."""
    total = pot(e, 31 - SUM_BITS).sum(axis=-1, keepdims=True)
    bits = np.floor(np.log2(total)).astype(np.int64) - SUM_BITS  # exact: total < 2**31
    fraction = (total << (31 - SUM_BITS - bits)) - (1 << 31)  # total / 2**bits - 1
    y = pot(high(reciprocal_of_one_plus(fraction), e), bits + 23) - 128
    result: Int8 = np.clip(y, -128, 127).astype(np.int8)
    return result
