"""Integers whose scale is found at run time."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import DenseInteger, DynamicQuantize, DynamicScale, DynamicZeroPoint
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.requantize import exact_int32, saturate


def _low(x: Array) -> Array:
    return np.asarray(np.fmin.reduce(x.reshape(-1), initial=np.float32(0)), np.float32)


@evaluate_op.register
def _(op: DynamicScale, arrays: list[Array], program: Program) -> Array:
    high = np.asarray(np.fmax.reduce(arrays[0].reshape(-1), initial=np.float32(0)), np.float32)
    scale = (high - _low(arrays[0])) / float32(255)
    return np.where(scale == 0, float32(1), scale).reshape(1)


@evaluate_op.register
def _(op: DynamicZeroPoint, arrays: list[Array], program: Program) -> Array:
    return _quantized(-_low(arrays[0]) / arrays[1], -128)


@evaluate_op.register
def _(op: DynamicQuantize, arrays: list[Array], program: Program) -> Array:
    x, scale, zero = arrays
    return _quantized(x / scale, int(zero[0]))


def _quantized(steps: Array, zero_point: int) -> Array:
    rounded = np.rint(steps)
    return saturate(np.where(np.isnan(rounded), float32(0), rounded), zero_point)


@evaluate_op.register
def _(op: DenseInteger, arrays: list[Array], program: Program) -> Array:
    x, zero = arrays
    return exact_int32((x.astype(np.float64) - float(zero[0])) @ op.weight.astype(np.float64).T)
