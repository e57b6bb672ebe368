"""Operators that go by indices, and those that find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from irshrink.program.ops import (
    ArgReduce,
    Gather,
    GatherElements,
    GatherRows,
    ReduceInteger,
    Reduction,
    Scatter,
    ScatterElements,
    TopK,
)
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op
from irshrink.program.reference.integers import wrapped

_COMBINE: dict[Reduction, Callable[[Array, Array], Array]] = {
    "none": lambda there, update: update,
    "add": np.add,
    "mul": np.multiply,
    "min": lambda there, update: np.where(update < there, update, there),
    "max": lambda there, update: np.where(update > there, update, there),
}


def places(indices: Array, size: int) -> Array:
    """Negative indices count from the end, those outside become the nearest end."""
    wide = indices.astype(np.int64)
    result: Array = np.clip(np.where(wide < 0, wide + size, wide), 0, size - 1)
    return result


@evaluate_op.register
def _(op: Gather, arrays: list[Array], program: Program) -> Array:
    data, indices = arrays
    batch, *sizes, _ = data.shape
    at = [places(indices[..., i], size) for i, size in enumerate(sizes)]
    index = (np.arange(batch)[:, None], *at)
    return np.asarray(data[index], order="C")


@evaluate_op.register
def _(op: GatherRows, arrays: list[Array], program: Program) -> Array:
    rows: Array = op.table[places(arrays[0], len(op.table))]
    return rows


@evaluate_op.register
def _(op: GatherElements, arrays: list[Array], program: Program) -> Array:
    data, indices = arrays
    grid: list[Array] = list(np.indices(indices.shape))
    grid[op.axis] = places(indices, data.shape[op.axis])
    return np.asarray(data[tuple(grid)], order="C")


@evaluate_op.register
def _(op: Scatter, arrays: list[Array], program: Program) -> Array:
    data, indices, updates = arrays
    y: Array = data.copy()
    at = [places(indices[:, i], size) for i, size in enumerate(data.shape[:-1])]
    for number in range(len(indices)):
        place = tuple(int(axis[number]) for axis in at)
        y[place] = _COMBINE[op.reduction](y[place], updates[number])
    return y


@evaluate_op.register
def _(op: ScatterElements, arrays: list[Array], program: Program) -> Array:
    data, indices, updates = arrays
    y: Array = data.copy()
    at = places(indices, data.shape[op.axis])
    for index in np.ndindex(indices.shape):
        place = (*index[: op.axis], int(at[index]), *index[op.axis + 1 :])
        y[place] = _COMBINE[op.reduction](y[place], updates[index])
    return y


@evaluate_op.register
def _(op: ArgReduce, arrays: list[Array], program: Program) -> Array:
    x = np.moveaxis(arrays[0], op.axis, 0)
    best, index = x[0], np.zeros(x.shape[1:], np.int32)
    compare = {("max", False): np.greater, ("max", True): np.greater_equal,
               ("min", False): np.less, ("min", True): np.less_equal}[op.kind, op.last]  # fmt: skip
    for i in range(1, len(x)):
        better = compare(x[i], best)
        best, index = np.where(better, x[i], best), np.where(better, np.int32(i), index)
    return np.expand_dims(index, op.axis)


@evaluate_op.register
def _(op: TopK, arrays: list[Array], program: Program) -> Array:
    x = np.moveaxis(arrays[0], op.axis, -1)
    y = np.zeros((*x.shape[:-1], op.k), np.int32)
    for row in np.ndindex(x.shape[:-1]):
        values = x[row].astype(np.float64)
        order = np.argsort(-values if op.largest else values, kind="stable")
        found = order[~np.isnan(values[order])][: op.k]
        y[row][: len(found)] = found
    return np.ascontiguousarray(np.moveaxis(y, -1, op.axis))


@evaluate_op.register
def _(op: ReduceInteger, arrays: list[Array], program: Program) -> Array:
    x = arrays[0].astype(np.int64)
    if op.kind == "prod":
        kept = [axis for axis in range(x.ndim) if axis not in op.axes]
        rows = x.transpose(*kept, *op.axes).reshape(*[x.shape[axis] for axis in kept], -1)
        total = np.ones(rows.shape[:-1], np.int64)
        for i in range(rows.shape[-1]):
            total = wrapped(total * rows[..., i])
        shape = [1 if axis in op.axes else size for axis, size in enumerate(x.shape)]
        return total.reshape(shape).astype(np.int32)
    functions: dict[str, Any] = {"sum": np.sum, "max": np.max, "min": np.min}
    result: Array = wrapped(functions[op.kind](x, axis=op.axes, keepdims=True)).astype(np.int32)
    return result
