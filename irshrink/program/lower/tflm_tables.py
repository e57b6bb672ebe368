"""Functions of one int8 value as TensorFlow Lite Micro computes them, tabulated for all 256."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, frexp
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink, bounds
from irshrink.program.lower.constants import Constants
from irshrink.program.lower.numbers import quantize
from irshrink.program.ops import Int8
from irshrink.program.program import Quantization
from irshrink.program.reference.fixed_point import logistic, pot, scaled, tanh
from irshrink.program.reference.requantize import half_away

#: Integer bits of what goes into the logistic function and tanh.
_INPUT_BITS = 4

Make = Callable[[ir.Node, Quantization, Sink, Constants], Int8 | None]


def change_of_scale(x: Quantization, y: Quantization, low: int = -128, high: int = 127) -> Int8:
    """QUANTIZE from int8 to int8, and RELU and its kin with ``low`` and ``high``."""
    moved = scaled(_centred(x), *_multiplier(x.scale / y.scale)) + y.zero_point
    return np.clip(moved, low, high).astype(np.int8)


def _clamp(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """The node's own bounds, then those of the clamps behind it."""
    own = bounds(node, constants)
    if own is None:
        return None
    ends = quantize(np.array([own.low, own.high], np.float32), sink.quantization)
    low, high = (int(min(max(bound, ends[0]), ends[1])) for bound in (sink.low, sink.high))
    return change_of_scale(x, sink.quantization, low, high)


def _logistic(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """To scale 1/256 and zero point -128."""
    if sink.quantization != Quantization(1 / 256, -128):
        return None
    return _bounded(x, lambda v: pot(logistic(v, _INPUT_BITS), 23) - 128, sink)


def _tanh(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """To scale 1/128 and zero point 0."""
    if sink.quantization != Quantization(1 / 128, 0):
        return None
    return _bounded(x, lambda v: pot(tanh(v, _INPUT_BITS), 24), sink)


def _leaky_relu(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """One multiplier for positive values, another for negative ones."""
    y, centred = sink.quantization, _centred(x)
    slope = float(np.float32(edit.attribute_float(node, "alpha", 0.01)))
    if slope < 0:
        return None
    positive = scaled(centred, *_multiplier(x.scale / y.scale))
    negative = scaled(centred, *_multiplier(x.scale * slope / y.scale))
    moved = np.where(centred >= 0, positive, negative) + y.zero_point
    entries: Int8 = np.clip(moved, sink.low, sink.high).astype(np.int8)
    return entries


def _hard_swish(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """In 16 bits: ``x * clip(x / 6 + 1/2, 0, 1)``, the factor with 15 fractional bits."""
    high_scale = np.float32(x.scale) * np.float32(1 / 128)
    m_out, s_out = _multiplier(float(high_scale / np.float32(sink.quantization.scale)))
    m_factor, s_factor = _multiplier(float(high_scale / np.float32(3 / 32768)))
    if s_out > 0:
        return None
    value = _centred(x) << 7
    wide = _high16(value, _half_multiplier(m_out))
    factor = np.clip(value << max(s_factor - 1, 0), -32768, 32767)
    factor = _high16(factor, _half_multiplier(m_factor))
    factor = np.clip(factor << 1, -32768, 32767) if s_factor > 0 else pot(factor, max(-s_factor, 0))
    product = ((factor + 32768) >> 1) * wide
    cut = np.where(product < 0, -(-product >> 15), product >> 15)  # towards zero
    entries: Int8 = np.clip(pot(cut, -s_out) + sink.quantization.zero_point, sink.low, sink.high).astype(
        np.int8
    )
    return entries


def _elu(node: ir.Node, x: Quantization, sink: Sink, constants: Constants) -> Int8 | None:
    """By float32 functions; halves away from zero."""
    if edit.attribute_float(node, "alpha", 1.0) != 1.0:
        return None
    y = sink.quantization
    real = _centred(x).astype(np.float32) * np.float32(x.scale)
    negative = np.expm1(np.minimum(real, 0).astype(np.float64)).astype(np.float32)
    real = np.where(real < 0, negative, real)
    rounded = half_away(real * (np.float32(1) / np.float32(y.scale))) + y.zero_point
    entries: Int8 = np.clip(rounded, sink.low, sink.high).astype(np.int8)
    return entries


def _high16(a: Any, b: int) -> Any:
    """``a * b / 2**15`` rounded."""
    return (a * b + (1 << 14)) >> 15


def _half_multiplier(multiplier: int) -> int:
    """The upper 16 bits, rounded."""
    return min((multiplier + (1 << 15)) >> 16, 32767)


def _bounded(x: Quantization, function: Callable[[Any], Any], sink: Sink) -> Int8:
    """``function`` of values with 27 fractional bits, its limits where these would overflow."""
    multiplier, shift = _multiplier(x.scale * 2.0 ** (31 - _INPUT_BITS))
    centred = _centred(x)
    radius = floor(((1 << _INPUT_BITS) - 1) * 2.0 ** (31 - _INPUT_BITS) / 2.0**shift)
    inside = np.clip(function(scaled(np.clip(centred, 1 - radius, radius - 1), multiplier, shift)), -128, 127)
    outside = np.where(centred < 0, -128, 127)
    entries = np.where(np.abs(centred) >= radius, outside, inside)
    return np.clip(entries, sink.low, sink.high).astype(np.int8)


def _centred(x: Quantization) -> NDArray[np.int64]:
    return np.arange(-128, 128, dtype=np.int64) - x.zero_point


def _multiplier(number: float) -> tuple[int, int]:
    """As :func:`~irshrink.program.lower.tflm.quantized_multiplier`, for any positive number."""
    mantissa, shift = frexp(number)
    multiplier = floor(mantissa * 2.0**31 + 0.5)
    return (multiplier // 2, shift + 1) if multiplier == 2**31 else (multiplier, shift)


TABLES: dict[str, Make] = {
    "Clip": _clamp,
    "Elu": _elu,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Relu": _clamp,
    "Sigmoid": _logistic,
    "Tanh": _tanh,
}
