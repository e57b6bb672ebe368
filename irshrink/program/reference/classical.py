"""What stands around classical models: classes, norms, missing values, categories."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import ChooseClass, Impute, Lookup, NormalizeF32, OneHot, SoftmaxZeroF32
from irshrink.program.program import Program
from irshrink.program.reference import mathematics as m
from irshrink.program.reference.dispatch import Array, evaluate_op, float32, output_shape
from irshrink.program.reference.floating import ordered_sum
from irshrink.program.reference.vectors import from_zero

#: Below this magnitude a score is a zero to SoftmaxZeroF32.
ZERO = np.float32(1e-7)


@evaluate_op.register
def _(op: ChooseClass, arrays: list[Array], program: Program) -> Array:
    scores = arrays[0]
    if op.threshold is not None:
        return op.labels[(scores[:, 0] > float32(op.threshold)).astype(np.int32)]
    best, chosen = scores[:, 0], np.zeros(scores.shape[0], np.int32)
    for column in range(1, scores.shape[1]):
        larger = scores[:, column] > best
        best, chosen = np.where(larger, scores[:, column], best), np.where(larger, column, chosen)
    return op.labels[chosen]


@evaluate_op.register
def _(op: NormalizeF32, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    if op.norm == "max":
        norm = x[..., :1]
        for column in range(1, x.shape[-1]):
            norm = np.where(x[..., column : column + 1] > norm, x[..., column : column + 1], norm)
        return np.where(norm == 0, x, x / norm)
    if op.norm == "l1":
        norm = ordered_sum(from_zero(np.abs(x)))
        return np.where(norm == 0, x, x / norm)
    squares = x * x
    norm = ordered_sum(from_zero(squares))
    root = np.sqrt(squares / norm)
    return np.where(norm == 0, x, np.where(x < 0, -root, root))


@evaluate_op.register
def _(op: SoftmaxZeroF32, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    largest = x[..., :1]
    for column in range(1, x.shape[-1]):
        largest = np.where(x[..., column : column + 1] > largest, x[..., column : column + 1], largest)
    counted = (x > ZERO) | (x < -ZERO)
    e = np.where(counted, m.exp(x - largest), x * m.exp(-largest))
    rows = np.where(counted, e, np.float32(0))
    total = ordered_sum(from_zero(rows.reshape(-1, x.shape[-1]))).reshape(largest.shape)
    return e / total


@evaluate_op.register
def _(op: Impute, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    missing = np.isnan(x) if op.replaced != op.replaced else x == x.dtype.type(op.replaced)
    return np.where(missing, np.broadcast_to(op.values, x.shape), x)


@evaluate_op.register
def _(op: Lookup, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    found = np.full(x.shape, op.default, op.values.dtype)
    for key, value in zip(op.keys, op.values, strict=True):
        found[np.isnan(x) if key != key else x == key] = value  # noqa: PLR0124
    return found


@evaluate_op.register
def _(op: OneHot, arrays: list[Array], program: Program) -> Array:
    hot = arrays[0][..., None] == op.categories
    columns: Array = hot.reshape(output_shape(op, program)).astype(np.float32)
    return columns
