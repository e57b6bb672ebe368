"""Interpolation over [N, H, W, C]."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import ResampleF32, ResampleInt8
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op
from irshrink.program.reference.requantize import centred, exact_int32, requantize


@evaluate_op.register
def _(op: ResampleF32, arrays: list[Array], program: Program) -> Array:
    x, total = arrays[0], np.float32(0)
    for k in range(op.rows.shape[1]):
        lines, row = x[:, op.rows[:, k]], np.float32(0)
        for j in range(op.columns.shape[1]):
            row = row + lines[:, :, op.columns[:, j]] * op.column_weights[:, j, None]
        total = total + row * op.row_weights[:, k, None, None]
    return np.asarray(total)


@evaluate_op.register
def _(op: ResampleInt8, arrays: list[Array], program: Program) -> Array:
    # float64 holds every product and sum exactly
    x = centred(arrays[0], op.input_zero_point).astype(np.float64)
    vertical = np.einsum("nhkwc,hk->nhwc", x[:, op.rows], op.row_weights.astype(np.float64))
    taps = vertical[:, :, op.columns]
    acc = np.einsum("nhwjc,wj->nhwc", taps, op.column_weights.astype(np.float64))
    return requantize(exact_int32(acc), op.requantization)
