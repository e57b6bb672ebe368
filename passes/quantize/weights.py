"""Weights in 8, 4, 3 or 2 bits, one scale per output channel, and their bias in int32.

    w ~ sw[c] * q;      b ~ (sx * sw[c]) * qb,  qb in int32

The bias has the scale of the accumulator, so it is added without any conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from irshrink.passes.quantize.qparams import SMALLEST_SCALE

Array = np.ndarray[Any, np.dtype[Any]]

#: Bits of a weight, and the NumPy type that ONNX stores it in; it has none of 3, which pay where a code is
#: no longer than a number needs (:mod:`irshrink.passes.store_huffman`).
WEIGHT_TYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype(np.int8),
    4: np.dtype(ml_dtypes.int4),
    3: np.dtype(ml_dtypes.int4),
    2: np.dtype(ml_dtypes.int2),
}
#: The least and the largest integer. Of 256 levels one can be spared, so that the products of two pairs fit
#: int16; of 16, 8 or 4 none.
WEIGHT_LIMITS = {8: (-127, 127), 4: (-8, 7), 3: (-4, 3), 2: (-2, 1)}
#: Largest bias in accumulator units; the other half of int32 is left to the products.
BIAS_LIMIT = 2.0**30
#: Bias of a channel whose weights are all 0, in accumulator units: fine enough for any int8 output.
DEAD_CHANNEL_BIAS = 2.0**16


@dataclass(frozen=True)
class QuantizedWeights:
    """What :func:`quantize_weights` returns.

    Attributes:
        weight: int8 holding numbers of the wanted width, the shape of the float weights.
        scale: float32, [channels] or scalar.
        bias: int32 [channels], or None.
        bias_scale: float32, the shape of ``scale``.
        raised: channels whose scale had to grow so that the bias fits int32.
    """

    weight: Array
    scale: Array
    bias: Array | None
    bias_scale: Array
    raised: tuple[int, ...]

    def dequantized(self, axis: int) -> Array:
        """The real weights, float64; ``axis`` counts the output channels."""
        shape = [1] * self.weight.ndim
        if self.scale.ndim:
            shape[axis] = -1
        return self.weight * self.scale.astype(np.float64).reshape(shape)


def largest_weight(bits: int) -> int:
    """The largest integer that weights of so many bits use: 127, 7, 3 or 1."""
    return WEIGHT_LIMITS[bits][1]


def full_span(rows: Array, bits: int, axis: int | None = None) -> Array:
    """The least scale with which no weight is clipped, along ``axis`` or of all; 0 where all are 0."""
    low, high = WEIGHT_LIMITS[bits]
    above, below = rows.max(axis=axis, initial=0) / high, rows.min(axis=axis, initial=0) / low
    return np.asarray(np.maximum(above, below), np.float64)


def quantize_weights(
    weight: Array, bias: Array | None, x_scale: float, axis: int | None, bits: int = 8
) -> QuantizedWeights:
    """Quantize the weights of Conv, Gemm or MatMul to the nearest integers, none of them clipped.

    Args:
        weight: float32.
        bias: float32 [channels], or None.
        x_scale: scale of the activations the weights are multiplied with.
        axis: the output channels in ``weight``; None for one scale in all.
        bits: 8, 4, 3 or 2 for a weight.
    """
    rows = (
        weight.reshape(1, -1)
        if axis is None
        else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    )
    scale, raised = bounded_scale(full_span(rows.astype(np.float64), bits, axis=1), bias, x_scale)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    quantized = np.clip(np.rint(weight / scale.reshape(shape)), *WEIGHT_LIMITS[bits])
    return with_bias(quantized, scale if axis is not None else scale.reshape(()), bias, x_scale, raised)


def bounded_scale(scale: Array, bias: Array | None, x_scale: float) -> tuple[Array, tuple[int, ...]]:
    """Scales, grown where the bias asks for it.

    Args:
        scale: float64 [channels], what the weights want; 0 for a channel without any.
        bias: [channels], or None.

    Returns:
        The scales, float32, and the channels whose scale had to grow so that the bias fits int32.
    """
    need = _bias_magnitude(bias, len(scale)) / x_scale
    alive = np.where(scale > 0, scale, np.where(need > 0, need / DEAD_CHANNEL_BIAS, 1.0))
    least = np.maximum(need / BIAS_LIMIT, SMALLEST_SCALE)
    raised = tuple(int(c) for c in np.flatnonzero(alive < least))
    return np.maximum(alive, least).astype(np.float32), raised


def with_bias(
    integers: Array, scale: Array, bias: Array | None, x_scale: float, raised: tuple[int, ...]
) -> QuantizedWeights:
    """Integers and their scales, float32 [channels] or scalar, with the bias that belongs to them."""
    bias_scale = np.float32(x_scale) * scale
    stored = None
    if bias is not None:
        wide = np.rint(bias.astype(np.float64) / bias_scale)
        stored = np.clip(wide, -(2.0**31), 2.0**31 - 1).astype(np.int32)
    return QuantizedWeights(
        weight=integers.astype(np.int8), scale=scale, bias=stored, bias_scale=bias_scale, raised=raised
    )


def _bias_magnitude(bias: Array | None, channels: int) -> Array:
    if bias is None:
        return np.zeros(channels)
    magnitude = np.abs(bias.astype(np.float64))
    return magnitude if channels == len(bias) else magnitude.max(keepdims=True)
