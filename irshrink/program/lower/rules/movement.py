"""Operators that cut and join."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink
from irshrink.program.lower.fitting import positive, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import table
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules import integers
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Concat, Int8, Slice
from irshrink.program.program import Quantization


def concat(lowering: Lowering, node: ir.Node) -> None:
    """In int8 when all parts are: each through a table when its scale is not the result's."""
    if integers.computes_integers(lowering, node):
        values = [lowering.view(value) for value in node.inputs]
        axis = positive(edit.attribute_int(node, "axis", 0), values[0].rank)
        lowering.bind(node.outputs[0], joined(lowering, node, values, axis))
        return
    parts = [lowering.real(node, index) for index in range(len(node.inputs))]
    axis = positive(edit.attribute_int(node, "axis", 0), parts[0].rank)
    held = [lowering.builder.quantization(part) for part in parts]
    sink = lowering.sink(node)
    quantization = _joint_quantization(held, sink)
    tables: list[Int8 | None] = [None] * len(parts)
    if quantization is not None:
        tables = [_rescaling(own, quantization, sink) for own in held]
    elif any(own is not None for own in held):
        lowering.float_note(node, "its inputs and its output are not all quantized")
        parts = [lowering.builder.as_float(part) for part in parts]
    shape = _joined_shape(parts, axis)
    order = _shared_order(parts)
    inputs = [lowering.builder.dense(part, order) for part in parts]
    tensor = lowering.emit(
        Concat,
        node,
        inputs,
        [shape[place] for place in order],
        quantization=quantization,
        also=() if quantization is None or sink is None else sink.absorbed,
        axis=order.index(axis),
        tables=tuple(tables),
    )
    if quantization is not None and sink is not None:
        lowering.absorbed.update(sink.absorbed)
    lowering.bind(node.outputs[0], view_of(tensor, shape, order))


def _joined_shape(parts: Sequence[View], axis: int) -> list[int]:
    first = list(parts[0].shape)
    for part in parts:
        others = [*part.shape[:axis], *first[axis : axis + 1], *part.shape[axis + 1 :]]
        require(others == first, f"{first} and {list(part.shape)} cannot be joined along axis {axis}")
    first[axis] = sum(part.shape[axis] for part in parts)
    return first


def joined(lowering: Lowering, node: ir.Node, parts: Sequence[View], axis: int) -> View:
    """Values of one element type and one quantization along ``axis``."""
    shape = _joined_shape(parts, axis)
    order = _shared_order(parts)
    inputs = [lowering.builder.dense(part, order) for part in parts]
    physical = [shape[place] for place in order]
    tables = (None,) * len(parts)
    tensor = lowering.emit_like(
        parts[0], Concat, node, inputs, physical, axis=order.index(axis), tables=tables
    )
    return View(tensor, view_of(tensor, shape, order).axes, parts[0].stored)


def split(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    axis = positive(edit.attribute_int(node, "axis", 0), x.rank)
    sizes = edit.attribute_ints(node, "split") or lowering.integers(node, 1, "sizes")
    if sizes is None:
        count = len(node.outputs)
        each = -(-x.shape[axis] // count)
        sizes = (each,) * (count - 1) + (x.shape[axis] - each * (count - 1),)
    require(len(sizes) == len(node.outputs) and min(sizes) >= 0, f"its sizes are {list(sizes)}")
    require(sum(sizes) == x.shape[axis], f"its sizes {list(sizes)} do not add up to {x.shape[axis]}")
    start = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        _bind_slice(lowering, node, output, x, {axis: (start, start + size, 1)})
        start += size


def slice_(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    starts = edit.attribute_ints(node, "starts") or lowering.integers(node, 1, "starts") or ()
    ends = edit.attribute_ints(node, "ends") or lowering.integers(node, 2, "ends") or ()
    axes = (
        edit.attribute_ints(node, "axes") or lowering.integers(node, 3, "axes") or tuple(range(len(starts)))
    )
    steps = lowering.integers(node, 4, "steps") or (1,) * len(starts)
    require(len(starts) == len(ends) == len(axes) == len(steps), "it has not one bound for each axis")
    require(0 not in steps, "it makes no steps")
    ranges: dict[int, tuple[int, int, int]] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = positive(axis, x.rank)
        ranges[place] = slice(start, end, step).indices(x.shape[place])
    _bind_slice(lowering, node, node.outputs[0], x, ranges)


def _bind_slice(
    lowering: Lowering, node: ir.Node, output: ir.Value, x: View, ranges: dict[int, tuple[int, int, int]]
) -> None:
    if lowering.is_read(output):
        lowering.bind(output, sliced(lowering, node, x, ranges))


def sliced(lowering: Lowering, node: ir.Node, x: View, ranges: dict[int, tuple[int, int, int]]) -> View:
    """A copy of some indices of some axes, in the layout of ``x``."""
    full = [ranges.get(axis, (0, size, 1)) for axis, size in enumerate(x.shape)]
    shape = [len(range(*bounds)) for bounds in full]
    if prod(shape) == 0:
        raise Refusal("nothing is left of its input", "The model is damaged; export it again.")
    if shape == list(x.shape) and all(step > 0 for _, _, step in full):
        return x
    order = x.order() or tuple(range(x.rank))
    physical = [full[axis] for axis in order]
    tensor = lowering.emit_like(
        x,
        Slice,
        node,
        [lowering.builder.dense(x, order)],
        [shape[axis] for axis in order],
        starts=tuple(start for start, _, _ in physical),
        ends=tuple(end for _, end, _ in physical),
        steps=tuple(step for _, _, step in physical),
    )
    return View(tensor, view_of(tensor, shape, order).axes, x.stored)


def _joint_quantization(held: Sequence[Quantization | None], sink: Sink | None) -> Quantization | None:
    """The integers of a Concat's result: those that it is quantized to, or those that all parts share."""
    if any(own is None for own in held):
        return None
    if sink is not None:
        return sink.quantization
    return held[0] if len(set(held)) == 1 else None


def _rescaling(own: Quantization | None, wanted: Quantization, sink: Sink | None) -> Int8 | None:
    assert own is not None
    low, high = (-128, 127) if sink is None else (sink.low, sink.high)
    if own == wanted and (low, high) == (-128, 127):
        return None
    return table(lambda real: real, own, wanted, low, high)


def _shared_order(views: Sequence[View]) -> tuple[int, ...]:
    """The memory order that most of the views have already."""
    orders = [order for order in (view.order() for view in views) if order is not None]
    orders.append(tuple(range(views[0].rank)))
    return max(orders, key=lambda order: sum(view.is_dense(order) for view in views))
