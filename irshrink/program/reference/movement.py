"""Operators that move bytes and compute nothing."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import Concat, Expand, Pad, Reshape, Slice, Take, Transpose
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, output_shape
from irshrink.program.reference.requantize import centred


@evaluate_op.register
def _(op: Transpose, arrays: list[Array], program: Program) -> Array:
    return np.asarray(arrays[0].transpose(op.permutation), order="C")


@evaluate_op.register
def _(op: Pad, arrays: list[Array], program: Program) -> Array:
    return np.pad(arrays[0], op.pads, constant_values=op.value)


@evaluate_op.register
def _(op: Concat, arrays: list[Array], program: Program) -> Array:
    scaled = [
        x if table is None else table[centred(x, -128)] for x, table in zip(arrays, op.tables, strict=True)
    ]
    return np.concatenate(scaled, axis=op.axis)


@evaluate_op.register
def _(op: Slice, arrays: list[Array], program: Program) -> Array:
    ranges = [range(*bounds) for bounds in zip(op.starts, op.ends, op.steps, strict=True)]
    return np.ascontiguousarray(arrays[0][np.ix_(*ranges)])


@evaluate_op.register
def _(op: Expand, arrays: list[Array], program: Program) -> Array:
    return np.ascontiguousarray(np.broadcast_to(arrays[0], output_shape(op, program)))


@evaluate_op.register
def _(op: Take, arrays: list[Array], program: Program) -> Array:
    taken = arrays[0]
    for axis, indices in enumerate(op.indices):
        if indices is not None:
            taken = taken.take(indices, axis=axis)
    return np.ascontiguousarray(taken)


@evaluate_op.register
def _(op: Reshape, arrays: list[Array], program: Program) -> Array:
    return arrays[0].reshape(output_shape(op, program))
