"""Gather, Scatter and OneHot: indices of run time, and constant ones."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import choice, positive, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import constant_integers, elementwise, integers_of, same_kind
from irshrink.program.lower.rules.choice import bind_choice, index_range
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.lower.rules.layer import weight_codes
from irshrink.program.lower.rules.movement import sliced
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import (
    BinaryInteger,
    Compare,
    Gather,
    GatherElements,
    GatherRows,
    Reduction,
    Scatter,
    ScatterElements,
    StoredWeights,
    Where,
)

_REDUCTIONS: dict[str, Reduction] = {name: name for name in ("none", "add", "mul", "min", "max")}


def gather(lowering: Lowering, node: ir.Node) -> None:
    """Rows of a table, in flash where the table is constant; evenly spaced constant indices are a Slice."""
    rows = _coded_rows(lowering, node)
    if rows is not None:
        _gather_coded(lowering, node, rows)
        return
    data = lowering.view(node.inputs[0])
    axis = positive(edit.attribute_int(node, "axis", 0), data.rank)
    known = lowering.constants.array(node.inputs[1])
    if known is not None and _sliced(lowering, node, data, axis, known):
        return
    y = _taken(lowering, node, data, _indices(lowering, node, 1), axis)
    lowering.bind(node.outputs[0], y)


def _taken(lowering: Lowering, node: ir.Node, data: View, indices: View, axis: int) -> View:
    """``data`` at ``indices`` along ``axis``, whole rows at a time."""
    outer, inner = data.shape[:axis], data.shape[axis + 1 :]
    rows = _row_major(lowering, data, (prod(outer), data.shape[axis], prod(inner)))
    places = _row_major(lowering, indices, (1, prod(indices.shape), 1))
    physical = (prod(outer), prod(indices.shape), prod(inner))
    tensor = lowering.emit_like(data, Gather, node, [rows, places], physical)
    return View(tensor, view_of(tensor, (*outer, *indices.shape, *inner)).axes, data.stored)


def _coded_rows(lowering: Lowering, node: ir.Node) -> StoredWeights | None:
    """A table that the file stores in fewer bits, a row of numbers for each index."""
    table = lowering.constants.get(node.inputs[0])
    if table is None or table.array.ndim < 2 or table.array.dtype != np.float32:
        return None
    if edit.attribute_int(node, "axis", 0) not in (0, -table.array.ndim):
        return None
    if lowering.constants.get(node.inputs[1]) is not None:
        return None
    rows = (len(table.array), prod(table.array.shape[1:]))
    codes = table.codes
    if codes is not None and codes.axis == 0:
        return weight_codes(
            table.moved(
                lambda array: array.reshape(rows), replace(codes, integers=codes.integers.reshape(rows))
            )
        )
    return (
        None if table.stored is None else weight_codes(table.moved(lambda array: array.reshape(rows), None))
    )


def _gather_coded(lowering: Lowering, node: ir.Node, rows: StoredWeights) -> None:
    """Rows of a table in flash, made float32 as they are picked."""
    table = lowering.constants.get(node.inputs[0])
    assert table is not None
    lowering.float_note(node, "its rows have scales of their own")
    indices = _indices(lowering, node, 1)
    places = _row_major(lowering, indices, (prod(indices.shape),))
    count, *inner = table.array.shape
    real = np.ascontiguousarray(table.array.reshape(count, -1))
    tensor = lowering.emit(
        GatherRows, node, [places], (prod(indices.shape), real.shape[1]), table=real, codes=rows
    )
    y = view_of(tensor, (prod(indices.shape), real.shape[1]))
    lowering.bind(node.outputs[0], lowering.builder.view_as(y, (*indices.shape, *inner)))


def gather_nd(lowering: Lowering, node: ir.Node) -> None:
    data, indices = lowering.view(node.inputs[0]), _indices(lowering, node, 1)
    batch, k = edit.attribute_int(node, "batch_dims", 0), indices.shape[-1]
    require(
        0 <= batch < indices.rank and batch + k <= data.rank and data.shape[:batch] == indices.shape[:batch],
        f"its indices of shape {list(indices.shape)} do not fit data of shape {list(data.shape)}",
    )
    named, inner = data.shape[batch : batch + k], data.shape[batch + k :]
    images, count = prod(data.shape[:batch]), prod(indices.shape[batch:-1])
    rows = _row_major(lowering, data, (images, *named, prod(inner)))
    places = _row_major(lowering, indices, (images, count, k))
    tensor = lowering.emit_like(data, Gather, node, [rows, places], (images, count, prod(inner)))
    _bind(lowering, node, tensor, (*indices.shape[:-1], *inner), data)


def gather_elements(lowering: Lowering, node: ir.Node) -> None:
    data, indices = lowering.view(node.inputs[0]), _indices(lowering, node, 1)
    axis = positive(edit.attribute_int(node, "axis", 0), data.rank)
    lowering.bind(node.outputs[0], elements_at(lowering, node, data, indices, axis))


def elements_at(lowering: Lowering, node: ir.Node, data: View, indices: View, axis: int) -> View:
    """``data`` at ``indices`` along ``axis``."""
    require(
        indices.rank == data.rank,
        f"its indices of shape {list(indices.shape)} do not fit data of shape {list(data.shape)}",
    )
    inputs = [_row_major(lowering, data), _row_major(lowering, indices)]
    tensor = lowering.emit_like(data, GatherElements, node, inputs, indices.shape, axis=axis)
    return View(tensor, view_of(tensor, indices.shape).axes, data.stored)


def scatter_elements(lowering: Lowering, node: ir.Node) -> None:
    axis = positive(edit.attribute_int(node, "axis", 0), lowering.view(node.inputs[0]).rank)
    data, updates, reduction = _scattered(lowering, node)
    indices = _indices(lowering, node, 1)
    require(
        updates.shape == indices.shape and indices.rank == data.rank,
        f"its updates of shape {list(updates.shape)} do not fit indices of shape {list(indices.shape)}",
    )
    inputs = [_row_major(lowering, view) for view in (data, indices, updates)]
    tensor = lowering.emit_like(
        data, ScatterElements, node, inputs, data.shape, axis=axis, reduction=reduction
    )
    _bind(lowering, node, tensor, data.shape, data)


def scatter_nd(lowering: Lowering, node: ir.Node) -> None:
    data, updates, reduction = _scattered(lowering, node)
    indices = _indices(lowering, node, 1)
    k = indices.shape[-1]
    named, run, count = data.shape[:k], prod(data.shape[k:]), prod(indices.shape[:-1])
    require(
        k <= data.rank and updates.shape == (*indices.shape[:-1], *data.shape[k:]),
        f"its updates of shape {list(updates.shape)} do not fit indices of shape {list(indices.shape)}",
    )
    inputs = [
        _row_major(lowering, data, (*named, run)),
        _row_major(lowering, indices, (count, k)),
        _row_major(lowering, updates, (count, run)),
    ]
    tensor = lowering.emit_like(data, Scatter, node, inputs, (*named, run), reduction=reduction)
    _bind(lowering, node, tensor, data.shape, data)


def one_hot(lowering: Lowering, node: ir.Node) -> None:
    """One value where the index is the place along the new axis, the other elsewhere."""
    depth = lowering.integers(node, 1, "depth")
    require(depth is not None and len(depth) == 1, "its depth is not one number")
    assert depth is not None
    indices = converted(lowering, node, lowering.view(node.inputs[0]), "int32")
    axis = positive(edit.attribute_int(node, "axis", -1), indices.rank + 1)
    spread = lowering.builder.view_as(indices, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    size = constant_integers(lowering, np.array(depth[0]), "int32")
    negative = elementwise(
        lowering,
        node,
        Compare,
        [spread, constant_integers(lowering, np.array(0), "int32")],
        "bool",
        kind="less",
    )
    wrapped = elementwise(lowering, node, BinaryInteger, [spread, size], "int32", kind="add")
    place = elementwise(lowering, node, Where, [negative, wrapped, spread], "int32")
    numbers = index_range(lowering, depth[0], indices.rank + 1, axis)
    here = elementwise(lowering, node, Compare, [place, numbers], "bool", kind="equal")
    values = lowering.view(node.inputs[2])
    require(values.shape == (2,), f"its values are {list(values.shape)} and not two numbers")
    off, on = (
        lowering.builder.view_as(sliced(lowering, node, values, {0: (i, i + 1, 1)}), ()) for i in (0, 1)
    )
    bind_choice(lowering, node, here, on, off)


def _sliced(lowering: Lowering, node: ir.Node, data: View, axis: int, indices: Any) -> bool:
    """Bind a Slice when the constant indices are evenly spaced; False when they are not."""
    size = data.shape[axis]
    places = [int(i) + size if i < 0 else int(i) for i in indices.reshape(-1)]
    if min(places, default=0) < 0 or max(places, default=0) >= size:
        raise Refusal(f"an index is outside of its {size} elements", "The model is damaged; export it again.")
    if indices.ndim > 1 or indices.size == 0:
        return False
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or places != list(range(places[0], places[-1] + 1, step)):
        return False
    y = sliced(lowering, node, data, {axis: (places[0], places[-1] + 1, step)})
    if indices.ndim == 0:
        y = lowering.builder.view_as(y, [size for i, size in enumerate(y.shape) if i != axis])
    lowering.bind(node.outputs[0], y)
    return True


def _indices(lowering: Lowering, node: ir.Node, index: int) -> View:
    view = lowering.view(edit.input_of(node, index))
    if view.stored is None:
        raise Refusal("its indices are not integers", "The model is damaged; export it again.")
    return integers_of(lowering, node, view)


def _scattered(lowering: Lowering, node: ir.Node) -> tuple[View, View, Reduction]:
    """Data and updates in one element type, and how they meet."""
    reduction = _REDUCTIONS[choice(node, "reduction", "none", _REDUCTIONS)]
    views = [lowering.view(node.inputs[0]), lowering.view(node.inputs[2])]
    if reduction != "none" and views[0].stored is None:
        data, updates = (lowering.builder.as_float(view) for view in views)
    elif reduction != "none":
        data, updates = (integers_of(lowering, node, view) for view in views)
        if views[0].stored in ("int8", "uint8", "bool"):
            raise Refusal(f"it combines {views[0].stored}", "Cast them to int32 before.")
    else:
        data, updates = same_kind(lowering, views)
    return data, updates, reduction


def _row_major(lowering: Lowering, view: View, shape: tuple[int, ...] | None = None) -> str:
    tensor = lowering.builder.dense(view, range(view.rank))
    return tensor if shape is None else lowering.builder.reshaped(tensor, shape)


def _bind(lowering: Lowering, node: ir.Node, tensor: str, shape: tuple[int, ...], like: View) -> None:
    lowering.bind(node.outputs[0], View(tensor, view_of(tensor, shape).axes, like.stored))
