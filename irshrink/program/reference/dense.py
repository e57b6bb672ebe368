"""Matrix products."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import DenseF32, DenseInt8, MatMulF32, MatMulInt8
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.fused import FusedSums, blocks
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
    x = arrays[0].reshape(-1, op.weight.shape[1])
    start = np.broadcast_to(op.bias, (len(x), len(op.weight)))
    products = _sparse_products if op.sparse else _products
    acc = products(x, op.weight.T, start, op.fused)
    return clip(acc.reshape(*arrays[0].shape[:-1], -1), float32(op.low), float32(op.high))


@evaluate_op.register
def _(op: MatMulF32, arrays: list[Array], program: Program) -> Array:
    a, b = arrays
    return _products(a, b, np.zeros((*a.shape[:-1], b.shape[-1]), np.float32), op.fused)


def _sparse_products(x: Array, weight: Array, start: Array, fused: bool) -> Array:
    """As :func:`_products` with weights [K, N], those that are 0 left out: 0 times 0 adds nothing."""
    real = weight.astype(np.float64) if fused else weight
    left, zero = x.astype(real.dtype), real.dtype.type(0)
    sums, acc = FusedSums(start), start
    for k in range(x.shape[1]):
        values = np.where(real[k] == 0, zero, left[:, k, None])
        if fused:
            sums.add(values, np.broadcast_to(real[k], values.shape))
        else:
            acc = acc + values * real[k]
    return sums.finished() if fused else acc


def _products(a: Array, b: Array, start: Array, fused: bool) -> Array:
    """``start`` plus the products of [..., M, K] and [..., K, N], one after the other in the order of k."""
    if not fused:
        acc = start
        for k in range(a.shape[-1]):
            acc = acc + a[..., :, k, None] * b[..., k, None, :]
        return acc
    left, right = a.astype(np.float64), b.astype(np.float64)
    acc = np.empty(start.shape, np.float32)
    for rows in blocks(a.shape[-2], start.size // max(a.shape[-2], 1)):
        sums = FusedSums(start[..., rows, :])
        for k in range(a.shape[-1]):
            sums.add(left[..., rows, k, None], right[..., k, None, :])
        acc[..., rows, :] = sums.finished()
    return acc
