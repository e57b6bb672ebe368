"""Tables of levels: a weight is an index of few bits into a small table of numbers.

    w ~ levels[index]                  one table for a tensor
    w ~ levels[c][index]               a table for each output channel c

In standard ONNX a Gather (GatherElements for a table a channel) from the table by the indices, which are
UINT2, UINT4 or UINT8 behind a Cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Array
from irshrink.passes.quantize.stored.weight_only import Writer, array_of, chunks, shape_of


@dataclass(frozen=True)
class Levels:
    """What a weight's numbers become.

    Attributes:
        values: float32, ascending: [2^bits], or [channels, 2^bits].
        bits: of an index.
        axis: of the weight that ``values`` has a table for each index of (0, or 1 of a matrix); None for one
            table.
        indices: makes them, uint8 in the weight's shape, when they are asked for.
    """

    values: Array
    bits: int
    axis: int | None
    indices: Callable[[], Array]


def index_type(bits: int) -> tuple[np.dtype[Any], int]:
    """The narrowest type of ONNX that holds indices of so many bits, and the opset that has it."""
    if bits <= 2:
        return np.dtype(ml_dtypes.uint2), 25
    return (np.dtype(ml_dtypes.uint4), 21) if bits <= 4 else (np.dtype(np.uint8), 13)


def nearest_level(chunk: Array, values: Array) -> Array:
    """Index of the nearest of ascending ``values`` to each number; of two as near the lower one."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, chunk).astype(np.uint8)


def has_tables(shape: tuple[int, ...], axis: int) -> bool:
    """Whether each index of ``axis`` can have a table: GatherElements needs it first, or a matrix."""
    return axis == 0 or len(shape) == 2


def rows_of(weight: Array, axis: int | None) -> Array:
    """[tables, numbers]: what shares a table in a row."""
    if axis is None:
        return weight.reshape(1, -1)
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def array_from_rows(rows: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """The inverse of :func:`rows_of`."""
    if axis is None:
        return rows.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(rows.reshape(moved), 0, axis)


def range_levels(tensor: ir.TensorProtocol, bits: int) -> Levels | None:
    """``min + q (max - min) / (2^bits - 1)``; None where the range is not finite."""
    ends = [(float(chunk.min()), float(chunk.max())) for _, chunk in chunks(tensor)]
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    if not np.isfinite([low, high]).all():
        return None
    values = np.linspace(low, high, 1 << bits).astype(np.float32)

    def indices() -> Array:
        found = np.zeros(tensor.shape.numpy(), np.uint8)
        factor = ((1 << bits) - 1) / (high - low) if high > low else 0.0
        for at, chunk in chunks(tensor):
            found[at] = np.rint((chunk.astype(np.float64) - low) * factor)
        return found

    return Levels(values, bits, None, indices)


def put_levels(writer: Writer, weight: ir.Value, levels: Levels) -> int:
    """Replace a weight by its levels and indices; the bytes of the new form."""
    tensor, shape = array_of(weight), shape_of(weight)
    values = levels.values.astype(tensor.dtype.numpy())
    kind, _ = index_type(levels.bits)
    rows = (shape[0], tensor.size // shape[0]) if levels.axis is not None else shape

    def indices() -> Array:
        return levels.indices().astype(kind).reshape(rows)

    stored = writer.stored(weight, "index", kind, rows, indices)
    place = ("place", ir.DataType.INT32, ir.Shape(rows))
    real = ("clustered", tensor.dtype, ir.Shape(rows))
    wide = writer.node(weight, place, "Cast", [stored], to=ir.DataType.INT32)
    table = values.T if levels.axis == 1 else values
    held = writer.constant(weight, "levels", np.ascontiguousarray(table))
    if levels.axis is None:
        result = writer.node(weight, real, "Gather", [held, wide])
    else:
        result = writer.node(weight, real, "GatherElements", [held, wide], axis=1 - levels.axis)
    if rows != shape:
        wanted = writer.constant(weight, "shape", np.array(shape, np.int64))
        result = writer.node(weight, ("shaped", tensor.dtype, ir.Shape(shape)), "Reshape", [result, wanted])
    writer.replace(weight, result)
    return int(tensor.size * kind_bits(kind) // 8 + values.nbytes)


def kind_bits(kind: np.dtype[Any]) -> int:
    """Bits that ONNX spends on a number of this type."""
    return int(ir.DataType.from_numpy(kind).bitwidth)
