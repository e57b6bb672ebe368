"""Elementwise operators on int8, and the two borders between int8 and float32."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import AddInt8, Dequantize, MulInt8, PReluInt8, Quantize, SoftmaxInt8, TableInt8
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.floating import ordered_sum
from irshrink.program.reference.requantize import add, centred, half_away, requantize, saturate


@evaluate_op.register
def _(op: AddInt8, arrays: list[Array], program: Program) -> Array:
    return add(arrays[0], arrays[1], op.addition)


@evaluate_op.register
def _(op: MulInt8, arrays: list[Array], program: Program) -> Array:
    a, b = (centred(x, z) for x, z in zip(arrays, op.zero_points, strict=True))
    return requantize(a * b, op.requantization)


@evaluate_op.register
def _(op: PReluInt8, arrays: list[Array], program: Program) -> Array:
    x, slope = (centred(x, z) for x, z in zip(arrays, op.zero_points, strict=True))
    return np.where(x >= 0, requantize(x, op.positive), requantize(x * slope, op.negative))


@evaluate_op.register
def _(op: TableInt8, arrays: list[Array], program: Program) -> Array:
    return op.table[centred(arrays[0], -128)]


@evaluate_op.register
def _(op: SoftmaxInt8, arrays: list[Array], program: Program) -> Array:
    x = arrays[0].astype(np.int32)
    e = op.exp_table[x.max(axis=-1, keepdims=True) - x]
    scaled = e / ordered_sum(e) * float32(op.inverse_scale)
    return saturate(np.rint(scaled), op.zero_point)


@evaluate_op.register
def _(op: Quantize, arrays: list[Array], program: Program) -> Array:
    steps = arrays[0] / float32(op.scale)
    rounded = half_away(steps) if op.half_away else np.rint(steps)
    return saturate(np.where(np.isnan(rounded), float32(0), rounded), op.zero_point)


@evaluate_op.register
def _(op: Dequantize, arrays: list[Array], program: Program) -> Array:
    return centred(arrays[0], op.zero_point).astype(np.float32) * float32(op.scale)
