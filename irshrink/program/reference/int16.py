"""Operators between int16 activations."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import (
    AddInt16,
    AveragePoolInt16,
    ConvInt16,
    DenseInt16,
    DequantizeInt16,
    QuantizeInt16,
)
from irshrink.program.program import Program
from irshrink.program.reference.convolution import by_group, taps
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.pooling import counts
from irshrink.program.reference.requantize import exact_int32


def _saturated(real: Array, low: int = -32768, high: int = 32767) -> Array:
    """``clip(rint(real), low, high)`` as int16; the clip comes first, its bounds are whole numbers."""
    return np.asarray(np.rint(np.clip(real, float32(low), float32(high))).astype(np.int16))


@evaluate_op.register
def _(op: ConvInt16, arrays: list[Array], program: Program) -> Array:
    # float64 holds every partial sum exactly: the lowering has proved that it fits int32
    channels = op.weight.shape[0]
    weight = op.weight.astype(np.float64).reshape(op.groups, channels // op.groups, *op.weight.shape[1:])
    acc: Array = np.array(0.0)
    for ky, kx, values in taps(arrays[0], op.window, 0):
        x = by_group(values.astype(np.float64), op.groups)
        w = weight[:, :, ky, kx, :]  # [groups, Co / groups, Ci / groups]
        acc = acc + (x[..., None, :] @ w.transpose(0, 2, 1))[..., 0, :]
    acc = acc.reshape(*acc.shape[:3], channels) + op.bias
    scaled = exact_int32(acc).astype(np.float32) * op.result.multiplier
    return _saturated(scaled, op.result.low, op.result.high)


@evaluate_op.register
def _(op: DenseInt16, arrays: list[Array], program: Program) -> Array:
    acc = arrays[0].astype(np.float64) @ op.weight.astype(np.float64).T + op.bias
    scaled = exact_int32(acc).astype(np.float32) * op.result.multiplier
    return _saturated(scaled, op.result.low, op.result.high)


@evaluate_op.register
def _(op: AddInt16, arrays: list[Array], program: Program) -> Array:
    a, b = (x.astype(np.float32) * float32(m) for x, m in zip(arrays, op.multipliers, strict=True))
    return _saturated(a + b, op.low, op.high)


@evaluate_op.register
def _(op: AveragePoolInt16, arrays: list[Array], program: Program) -> Array:
    x = arrays[0].astype(np.int64)
    acc = np.sum([values for _, _, values in taps(x, op.window, 0)], axis=0)
    count = counts(op.window, x.shape[1], x.shape[2], op.count_padding)
    multiplier = np.vectorize(lambda n: float32(op.multipliers[int(n)]), otypes=[np.float32])(count)
    return _saturated(acc.astype(np.int32).astype(np.float32) * multiplier, op.low, op.high)


@evaluate_op.register
def _(op: QuantizeInt16, arrays: list[Array], program: Program) -> Array:
    steps = arrays[0] / float32(op.scale)
    return _saturated(np.where(np.isnan(steps), float32(0), steps))


@evaluate_op.register
def _(op: DequantizeInt16, arrays: list[Array], program: Program) -> Array:
    return arrays[0].astype(np.float32) * float32(op.scale)
