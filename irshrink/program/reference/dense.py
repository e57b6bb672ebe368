"""Matrix products."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import DenseF32, DenseInt8, MatMulF32, MatMulInt8
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.mathematics import clip
from irshrink.program.reference.requantize import centred, exact_int32, requantize


@evaluate_op.register
def _(op: DenseInt8, arrays: list[Array], program: Program) -> Array:
    acc = arrays[0].astype(np.float64) @ op.weight.astype(np.float64).T + op.bias  # exact: below 2**53
    return requantize(exact_int32(acc), op.requantization)


@evaluate_op.register
def _(op: MatMulInt8, arrays: list[Array], program: Program) -> Array:
    a, b = (centred(x, z).astype(np.float64) for x, z in zip(arrays, op.zero_points, strict=True))
    return requantize(exact_int32(a @ b), op.requantization)


@evaluate_op.register
def _(op: DenseF32, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    acc: Array = op.bias
    for k in range(op.weight.shape[1]):
        acc = acc + x[..., k, None] * op.weight[:, k]
    return clip(acc, float32(op.low), float32(op.high))


@evaluate_op.register
def _(op: MatMulF32, arrays: list[Array], program: Program) -> Array:
    a, b = arrays
    acc = np.zeros((*a.shape[:-1], b.shape[-1]), np.float32)
    for k in range(a.shape[-1]):
        acc = acc + a[..., :, k, None] * b[..., k, None, :]
    return acc
