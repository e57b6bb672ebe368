"""Operators of TensorFlow Lite Micro's arithmetic."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import AddTflm, AveragePoolTflm, MeanTflm, SoftmaxTflm
from irshrink.program.ops.tflm import ADDITION_LEFT_SHIFT
from irshrink.program.program import Program
from irshrink.program.reference.convolution import taps
from irshrink.program.reference.dispatch import Array, evaluate_op
from irshrink.program.reference.fixed_point import requantize, scaled, softmax
from irshrink.program.reference.pooling import counts
from irshrink.program.reference.requantize import centred


@evaluate_op.register
def _(op: AddTflm, arrays: list[Array], program: Program) -> Array:
    a, b = (
        scaled(centred(x, zero).astype(np.int64) << ADDITION_LEFT_SHIFT, multiplier, -right)
        for x, zero, (multiplier, right) in zip(arrays, op.zero_points, op.operands, strict=True)
    )
    return requantize(a - b if op.subtract else a + b, op.requantization)


@evaluate_op.register
def _(op: AveragePoolTflm, arrays: list[Array], program: Program) -> Array:
    x = arrays[0].astype(np.int64)
    total = np.sum([values for _, _, values in taps(x, op.window, 0)], axis=0)
    count = counts(op.window, x.shape[1], x.shape[2], False)
    average = (np.abs(total) + count // 2) // count
    clipped: Array = np.clip(np.where(total < 0, -average, average), op.low, op.high).astype(np.int8)
    return clipped


@evaluate_op.register
def _(op: MeanTflm, arrays: list[Array], program: Program) -> Array:
    x = centred(arrays[0], op.input_zero_point).astype(np.int64)
    return requantize(np.sum([values for _, _, values in taps(x, op.window, 0)], axis=0), op.requantization)


@evaluate_op.register
def _(op: SoftmaxTflm, arrays: list[Array], program: Program) -> Array:
    x = arrays[0].astype(np.int32)
    return softmax(op.exp_table[x.max(axis=-1, keepdims=True) - x].astype(np.int64))
