"""Numbers of the integer contract that are computed at compile time (docs/integer-semantics.md).

Scales are float32. A product or quotient of scales is rounded to float32 once per operation, as ONNX
Runtime does, so that both get the same multipliers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32, Int8
from irshrink.program.program import Quantization

#: An elementwise function in float64.
Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

INT8 = np.iinfo(np.int8)
INT16 = np.iinfo(np.int16)
INT32 = np.iinfo(np.int32)
#: Of an addition's multipliers. Each is off by half a unit at most and meets at most 255, so with 8 bits
#: behind the point a sum is off by less than one step.
FEWEST_FRACTION_BITS = 8
OUT_OF_RANGE = "its scales are zero or out of float32's range"


def layer_multiplier(x_scale: float, weight_scale: Float32, y_scale: float) -> Float32:
    """``float32(float32(xs * ws) / ys)``: accumulator to output of Conv, Gemm, MatMul and Mul.

    Of absurd scales it is 0 or infinite, see :func:`usable`.
    """
    with np.errstate(over="ignore", under="ignore"):
        result: Float32 = (np.float32(x_scale) * weight_scale.astype(np.float32)) / np.float32(y_scale)
    return result.astype(np.float32)


def usable(multipliers: Float32) -> bool:
    """Whether requantization can use these: a product with 0 says nothing, and 0 * infinity is NaN."""
    return bool(np.all(multipliers > 0) and np.all(np.isfinite(multipliers)))


def addition_multipliers(
    a_scale: float, b_scale: float, y_scale: float
) -> tuple[tuple[int, int], int] | None:
    """``(Ma, Mb), shift`` of an addition: the scale ratios in steps of 2**-shift, as fine as int32 allows.

    The shift is the largest of 8..30 with ``255 * (Ma + Mb) + 2**(shift - 1) < 2**31``, so that no sum of two
    products and half a step overflows. None when there is none: an operand's scale is more than 2**15 times
    the output's, which nearly every value of it saturates.
    """
    ratios = [float(np.float64(np.float32(s)) / np.float64(np.float32(y_scale))) for s in (a_scale, b_scale)]
    for shift in range(30, FEWEST_FRACTION_BITS - 1, -1):
        a, b = (round(ratio * 2.0**shift) for ratio in ratios)
        if 255 * (a + b) + ((1 << shift) >> 1) < 2**31:
            return (a, b), shift
    return None


def mean_multiplier(x_scale: float, y_scale: float, count: int) -> float:
    """``float32(xs / float32(ys * count))``: a sum of ``count`` values to their mean; see :func:`usable`."""
    with np.errstate(all="ignore"):
        return float(np.float32(x_scale) / (np.float32(y_scale) * np.float32(count)))


def quantize(real: Float32, quantization: Quantization, limits: np.iinfo[Any] = INT8) -> NDArray[Any]:
    """``clip(rint(x / scale) + zero_point, -128, 127)`` in float32; NaN gives the zero point.

    ``limits`` are of the integer type that comes out.
    """
    with np.errstate(all="ignore"):
        steps = np.rint(real.astype(np.float32) / np.float32(quantization.scale)).astype(np.float64)
    steps = np.where(np.isnan(steps), 0.0, steps) + quantization.zero_point
    result: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(limits.dtype)
    return result


def dequantize(stored: NDArray[np.int8], quantization: Quantization) -> Float32:
    """``float32(x - zero_point) * scale``."""
    centred = stored.astype(np.int32) - quantization.zero_point
    result: Float32 = centred.astype(np.float32) * np.float32(quantization.scale)
    return result


def table(function: Function, x: Quantization, y: Quantization, low: int = -128, high: int = 127) -> Int8:
    """``table[q + 128]``: dequantize, the function correctly rounded to float32, quantize, clip."""
    every = np.arange(-128, 128, dtype=np.int64).astype(np.int8)
    with np.errstate(all="ignore"):
        real = function(dequantize(every, x).astype(np.float64)).astype(np.float32)
    result: Int8 = np.clip(quantize(real, y), low, high).astype(np.int8)
    return result


def extreme_sums(
    weight: NDArray[np.int64], bias: NDArray[np.int64], x: np.iinfo[Any] = INT8
) -> tuple[int, int]:
    """Bounds of every partial sum ``bias + sum(w * x)`` with any x of its type, whatever the order.

    Args:
        weight: [Co, ...]. bias: [Co].

    Of each product the largest value is not negative and the smallest not positive, so a sum over fewer
    products, with or without the bias, stays between the bounds.
    """
    rows = weight.reshape(weight.shape[0], -1)
    largest = np.maximum(rows * x.min, rows * x.max).sum(axis=1)
    smallest = np.minimum(rows * x.min, rows * x.max).sum(axis=1)
    top = np.maximum(largest, largest + bias).max(initial=0)
    bottom = np.minimum(smallest, smallest + bias).min(initial=0)
    return int(bottom), int(top)


def fits_int32(low: int, high: int) -> bool:
    return bool(low >= INT32.min and high <= INT32.max)
