"""Operators in float16.

A fused multiply-add is exact in float64 before its only rounding, or as good as exact. Let ``s = x * w +
acc``: the product has 22 bits, acc 11. Where float64 has room for all bits of s nothing is lost. Where it has
not, s spans more than 52 binary places, so the product's lowest place lies below 2^-52 of s, and with its 22
bits the product below 2^-30. Then acc is a float16 of normal size, s is within 2^-29 of it, and the nearest
number where rounding turns, half way to another float16, is 2^-13 of it away. Either way s and its float64
round to the same float16.

Single sums, products and quotients may round to float32 first: 24 bits are twice 11 and 2 more, with which
only the second rounding shows (Figueroa, When is double rounding innocuous?, 1995).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import (
    AveragePoolF16,
    BinaryF16,
    ConvF16,
    DenseF16,
    MatMulF16,
    Op,
    ReduceF16,
    RoundF16,
    UnaryF16,
    WidenF16,
)
from irshrink.program.ops.float16 import Float16, Pieces
from irshrink.program.program import Program
from irshrink.program.reference.convolution import by_group, taps
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.floating import binary, reduced
from irshrink.program.reference.functions import unary
from irshrink.program.reference.fused import blocks
from irshrink.program.reference.mathematics import clip
from irshrink.program.reference.pooling import average
from irshrink.program.reference.winograd import winograd

Float64 = NDArray[np.float64]


class HalfSums:
    """Sums of products in pieces.

    Args:
        bias: what they start from, of their shape.
    """

    def __init__(self, bias: Float16, pieces: Pieces) -> None:
        self._total = np.array(bias, np.float16)
        self._several, self._ends = pieces.several, pieces.ends()
        self._acc = np.zeros(bias.shape) if self._several else self._total.astype(np.float64)
        self._product = np.empty_like(self._acc)

    def add(self, a: Float64, b: Float64) -> None:
        """The next product of every sum; ``a`` and ``b`` hold float16 and broadcast."""
        np.multiply(a, b, out=self._product)
        self._acc += self._product
        rounded = self._acc.astype(np.float16)
        self._acc[...] = rounded
        if next(self._ends):
            self._total = _rounded(self._total.astype(np.float32) + rounded.astype(np.float32))
            self._acc[...] = 0

    def finished(self) -> Float16:
        """The sums, without -0."""
        total = self._total if self._several else self._acc.astype(np.float16)
        result: Float16 = total + np.float16(0)
        return result


def _rounded(x: Array) -> Float16:
    with np.errstate(over="ignore"):
        rounded: Float16 = x.astype(np.float16)
    return rounded


@evaluate_op.register
def _(op: MatMulF16, arrays: list[Array], program: Program) -> Array:
    a, b = (x.astype(np.float64) for x in arrays)
    sums = HalfSums(np.zeros((*a.shape[:-1], b.shape[-1]), np.float16), Pieces(1, 1, a.shape[-1]))
    for k in range(a.shape[-1]):
        sums.add(a[..., :, k, None], b[..., k, None, :])
    return sums.finished()


def _products(seen: Array, weight: Array, start: Float16) -> Float16:
    """Sums of transformed tiles, see :func:`winograd`: chains, as there are at most 128 channels."""
    sums = HalfSums(start, Pieces(1, 1, seen.shape[-1]))
    for ci in range(seen.shape[-1]):
        sums.add(seen[..., ci, None], weight[:, None, None, None, :, ci])
    return sums.finished()


def _clipped(op: ConvF16 | DenseF16, y: Float16) -> Array:
    return clip(y.astype(np.float32), float32(op.low), float32(op.high)).astype(np.float16)


def _widened(arrays: list[Array]) -> list[Array]:
    return [x.astype(np.float32) for x in arrays]


@evaluate_op.register
def _(op: ConvF16, arrays: list[Array], program: Program) -> Array:
    if op.winograd:
        return _clipped(op, winograd(op, arrays[0], _products))
    channels, _, _, depth = op.weight.shape
    per_group = channels // op.groups
    weight = op.weight.astype(np.float64).reshape(op.groups, per_group, *op.weight.shape[1:])
    places = list(taps(arrays[0], op.window, 0.0))
    images, height, width, _ = places[0][2].shape
    bias = op.bias.reshape(op.groups, per_group)
    y = np.empty((images, height, width, channels), np.float16)
    for rows in blocks(height, images * width * channels):
        shape = (*y[:, rows].shape[:3], op.groups, per_group)
        sums = HalfSums(np.broadcast_to(bias, shape), op.pieces)
        for ky, kx, values in places:
            seen = by_group(values[:, rows].astype(np.float64), op.groups)
            for ci in range(depth):
                sums.add(seen[..., ci, None], weight[:, :, ky, kx, ci])
        y[:, rows] = sums.finished().reshape(*shape[:3], channels)
    return _clipped(op, y)


@evaluate_op.register
def _(op: DenseF16, arrays: list[Array], program: Program) -> Array:
    channels, depth = op.weight.shape
    x = arrays[0].astype(np.float64).reshape(-1, depth)
    weight = op.weight.astype(np.float64).T
    y = np.empty((len(x), channels), np.float16)
    for rows in blocks(len(x), channels):
        sums = HalfSums(np.broadcast_to(op.bias, y[rows].shape), op.pieces)
        for k in range(depth):
            sums.add(x[rows, k, None], weight[k])
        y[rows] = sums.finished()
    return _clipped(op, y.reshape(*arrays[0].shape[:-1], channels))


def _rounded_result(kind: type[Op]) -> Callable[[Callable[..., Array]], None]:
    """Register an operator of ``kind`` that computes in float32 inside."""

    def register(evaluate: Callable[..., Array]) -> None:
        def rounded(op: Any, arrays: list[Array], program: Program) -> Array:
            return _rounded(evaluate(op, _widened(arrays), program))

        evaluate_op.register(kind, rounded)

    return register


@_rounded_result(BinaryF16)
def _(op: BinaryF16, arrays: list[Array], program: Program) -> Array:
    constant = None if op.constant is None else op.constant.astype(np.float32)
    return binary(op.kind, arrays, constant, op.constant_first)


@_rounded_result(UnaryF16)
def _(op: UnaryF16, arrays: list[Array], program: Program) -> Array:
    return unary(op.kind, arrays[0], float32(op.alpha), float32(op.beta))


@_rounded_result(AveragePoolF16)
def _(op: AveragePoolF16, arrays: list[Array], program: Program) -> Array:
    return average(arrays[0], op.window, op.count_padding)


@_rounded_result(ReduceF16)
def _(op: ReduceF16, arrays: list[Array], program: Program) -> Array:
    return reduced(op.kind, op.axes, arrays[0])


@_rounded_result(RoundF16)
def _(op: RoundF16, arrays: list[Array], program: Program) -> Array:
    return arrays[0]


@evaluate_op.register
def _(op: WidenF16, arrays: list[Array], program: Program) -> Array:
    return arrays[0].astype(np.float32)
