"""float32 operators: one rounding per operation, sums in the stated order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irshrink.program.ops import (
    BinaryF32,
    BinaryKind,
    CumSumF32,
    Float32,
    LayerNormF32,
    ReduceF32,
    ReduceKind,
    SoftmaxF32,
    UnaryF32,
)
from irshrink.program.program import Program
from irshrink.program.reference import mathematics as m
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.functions import pow_, unary

_BINARY: dict[BinaryKind, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": lambda a, b: np.where(a < b, a, b),
    "max": lambda a, b: np.where(a > b, a, b),
    "prelu": lambda a, b: np.where(a < float32(0), a * b, a),
    "pow": pow_,
}


def ordered_sum(x: Float32) -> Float32:
    """Sum over the last axis (kept as 1), one addition after the other from index 0 on."""
    return np.add.accumulate(x, axis=-1, dtype=np.float32)[..., -1:]


def _ordered(kind: BinaryKind, x: Float32) -> Float32:
    """One operation after the other over the last axis: ``best = kind(x, best)``."""
    best = x[..., 0]
    for i in range(1, x.shape[-1]):
        best = _BINARY[kind](x[..., i], best)
    return best


def reciprocal_count(count: int) -> np.float32:
    """What a sum of ``count`` values is multiplied by to get their mean."""
    return float32(1.0 / count)


@evaluate_op.register
def _(op: BinaryF32, arrays: list[Array], program: Program) -> Array:
    return binary(op.kind, arrays, op.constant, op.constant_first)


def binary(kind: BinaryKind, arrays: list[Array], constant: Float32 | None, constant_first: bool) -> Array:
    """An operation on two arrays, or on one and a constant."""
    operands = list(arrays)
    if constant is not None:
        operands.insert(0 if constant_first else 1, constant)
    return _BINARY[kind](operands[0], operands[1])


@evaluate_op.register
def _(op: UnaryF32, arrays: list[Array], program: Program) -> Array:
    return unary(op.kind, arrays[0], float32(op.alpha), float32(op.beta))


@evaluate_op.register
def _(op: SoftmaxF32, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    e = m.exp(x - x.max(axis=-1, keepdims=True))
    return e / ordered_sum(e)


@evaluate_op.register
def _(op: LayerNormF32, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    scale = reciprocal_count(x.shape[-1])
    d = x - ordered_sum(x) * scale
    variance = ordered_sum(d * d) * scale
    y: Array = d / np.sqrt(variance + float32(op.epsilon)) * op.gamma + op.beta
    return y


@evaluate_op.register
def _(op: ReduceF32, arrays: list[Array], program: Program) -> Array:
    return reduced(op.kind, op.axes, arrays[0])


def reduced(kind: ReduceKind, axes: tuple[int, ...], x: Float32) -> Float32:
    """A reduction over ``axes``, which are kept as 1."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    rows = x.transpose(*kept, *axes).reshape(*[x.shape[axis] for axis in kept], -1)
    if kind in ("max", "min"):
        return _ordered("max" if kind == "max" else "min", rows).reshape(shape)
    if kind == "prod":
        return _ordered("mul", rows).reshape(shape)
    if kind in ("l1", "sumsquare"):
        rows = np.abs(rows) if kind == "l1" else rows * rows
    total = ordered_sum(rows).reshape(shape)
    return total * reciprocal_count(rows.shape[-1]) if kind == "mean" else total


@evaluate_op.register
def _(op: CumSumF32, arrays: list[Array], program: Program) -> Array:
    x = np.flip(arrays[0], op.axis) if op.reverse else arrays[0]
    y = np.add.accumulate(x, axis=op.axis, dtype=np.float32)
    if op.exclusive:
        y = np.roll(y, 1, op.axis)
        y[(slice(None),) * op.axis + (0,)] = 0
    return np.ascontiguousarray(np.flip(y, op.axis) if op.reverse else y)
