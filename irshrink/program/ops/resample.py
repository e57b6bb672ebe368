"""Weighted sums of a few rows and columns: Resize by interpolation."""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.program.ops.base import Float32, Int32, Op, Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampleF32(Op):
    """float32 [N,H,W,C]: each output pixel a weighted sum of input pixels, columns inside, rows outside.

    ``row[k] = sum over j of column_weights[x, j] * x[n, rows[y, k], columns[x, j], c]``,
    ``y = sum over k of row_weights[y, k] * row[k]``; both from 0, one rounding an operation, in order.

    Attributes:
        rows, columns: which input rows [Ho, K] and columns [Wo, J] an output reads.
        row_weights, column_weights: of the same shapes.
    """

    rows: Int32
    row_weights: Float32
    columns: Int32
    column_weights: Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampleInt8(Op):
    """int8 [N,H,W,C]: ``requantize(sum of row_weights * column_weights * (x - zx))``, weights in fixed point.

    Weights are whole multiples of ``2**-11``; the multiplier takes ``2**22`` back.
    """

    rows: Int32
    row_weights: Int32
    columns: Int32
    column_weights: Int32
    input_zero_point: int
    requantization: Requantization
