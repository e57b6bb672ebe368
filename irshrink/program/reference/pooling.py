"""Pools over [N, H, W, C]."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import AveragePoolF32, AveragePoolInt8, MaxPool, Window
from irshrink.program.program import Program
from irshrink.program.reference.convolution import taps
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.floating import reciprocal_count
from irshrink.program.reference.requantize import centred, saturate


def counts(window: Window, height: int, width: int, count_padding: bool) -> Array:
    """How many positions of the window count for each output pixel: int64 [1, Ho, Wo, 1]."""
    inside = np.ones((1, height, width, 1), np.int64)
    outside = 1 if count_padding else 0
    total: Array = np.sum([values for _, _, values in taps(inside, window, outside)], axis=0)
    return total


@evaluate_op.register
def _(op: AveragePoolInt8, arrays: list[Array], program: Program) -> Array:
    x = centred(arrays[0], op.input_zero_point)
    acc = np.sum([values for _, _, values in taps(x, op.window, 0)], axis=0).astype(np.int32)
    count = counts(op.window, x.shape[1], x.shape[2], op.count_padding)
    multiplier = np.vectorize(lambda n: float32(op.multipliers[int(n)]), otypes=[np.float32])(count)
    return saturate(np.rint(acc.astype(np.float32) * multiplier), op.zero_point, op.low, op.high)


@evaluate_op.register
def _(op: AveragePoolF32, arrays: list[Array], program: Program) -> Array:
    return average(arrays[0], op.window, op.count_padding)


def average(x: Array, window: Window, count_padding: bool) -> Array:
    """The average of each window, sums in float32."""
    acc: Array = np.array(np.float32(0))
    for _, _, values in taps(x, window, 0.0):
        acc = acc + values
    count = counts(window, x.shape[1], x.shape[2], count_padding)
    scale: Array = np.vectorize(reciprocal_count, otypes=[np.float32])(count)
    return acc * scale


@evaluate_op.register
def _(op: MaxPool, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    best = np.full(program.tensors[op.output].shape, lowest, x.dtype)
    for _, _, values in taps(x, op.window, lowest):
        best = np.where(values > best, values, best)
    return best
