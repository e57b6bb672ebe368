"""ArgMax, ArgMin, TopK, and reductions of integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import positive
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import integers_of, narrowed
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.lower.rules.indexing import elements_at
from irshrink.program.lower.rules.shapes import reduced_axes
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import ArgReduce, ReduceInteger, TopK

_INTEGER: dict[str, Literal["sum", "prod", "max", "min"]] = {
    "ReduceSum": "sum",
    "ReduceProd": "prod",
    "ReduceMax": "max",
    "ReduceMin": "min",
}


def arg_reduce(lowering: Lowering, node: ir.Node) -> None:
    """On stored integers where the numbers are quantized: their order is the same."""
    x = lowering.view(node.inputs[0])
    axis = positive(edit.attribute_int(node, "axis", 0), x.rank)
    source, order = _in_memory(lowering, x)
    shape = [1 if place == axis else size for place, size in enumerate(x.shape)]
    tensor = lowering.emit(
        ArgReduce, node, [source], [shape[place] for place in order], dtype="int32",
        kind="max" if node.op_type == "ArgMax" else "min", axis=order.index(axis),
        last=bool(edit.attribute_int(node, "select_last_index", 0)),
    )  # fmt: skip
    y = View(tensor, view_of(tensor, shape, order).axes, "int64")
    if not edit.attribute_int(node, "keepdims", 1):
        y = lowering.builder.view_as(y, [size for place, size in enumerate(shape) if place != axis])
    lowering.bind(node.outputs[0], y)


def top_k(lowering: Lowering, node: ir.Node) -> None:
    """The indices, and the values at them."""
    x = lowering.view(node.inputs[0])
    axis = positive(edit.attribute_int(node, "axis", -1), x.rank)
    count = lowering.integers(node, 1, "k") or (edit.attribute_int(node, "k", 0),)
    if not 0 < count[0] <= x.shape[axis]:
        raise Refusal(f"it takes {count[0]} of {x.shape[axis]} elements", "Give it a k that fits.")
    source = lowering.builder.dense(x, range(x.rank))
    shape = [count[0] if place == axis else size for place, size in enumerate(x.shape)]
    largest = bool(edit.attribute_int(node, "largest", 1))
    tensor = lowering.emit(TopK, node, [source], shape, dtype="int32", axis=axis, k=count[0], largest=largest)
    indices = View(tensor, view_of(tensor, shape).axes, "int64")
    if lowering.is_read(node.outputs[0]):
        lowering.bind(node.outputs[0], elements_at(lowering, node, x, indices, axis))
    if len(node.outputs) > 1:
        lowering.bind(node.outputs[1], indices)


def reduce_integers(lowering: Lowering, node: ir.Node) -> None:
    """ReduceSum, ReduceProd, ReduceMax and ReduceMin of integers and truth values."""
    given = lowering.view(node.inputs[0])
    kind = _INTEGER.get(node.op_type)
    if kind is None:
        raise Refusal("it has no integer form", "Cast its input to float32 before.")
    x = integers_of(lowering, node, given)
    if x.stored == "bool":
        x = converted(lowering, node, x, "int32")
    axes = reduced_axes(lowering, node, x.rank)
    if axes is None:
        lowering.bind(node.outputs[0], given)
        return
    source, order = _in_memory(lowering, x)
    shape = [1 if place in axes else size for place, size in enumerate(x.shape)]
    physical = tuple(place for place, axis in enumerate(order) if axis in axes)
    tensor = lowering.emit(
        ReduceInteger,
        node,
        [source],
        [shape[axis] for axis in order],
        dtype="int32",
        kind=kind,
        axes=physical,
    )
    y = replace(view_of(tensor, shape, order), stored=x.stored)
    if not edit.attribute_int(node, "keepdims", 1):
        y = lowering.builder.view_as(y, [size for axis, size in enumerate(shape) if axis not in axes])
    if given.stored == "bool":
        lowering.bind(node.outputs[0], converted(lowering, node, y, "bool"))
    else:
        lowering.bind(node.outputs[0], narrowed(lowering, node, y, str(given.stored)))


def _in_memory(lowering: Lowering, x: View) -> tuple[str, tuple[int, ...]]:
    """The tensor in the view's own memory order, and that order."""
    order = x.order() or tuple(range(x.rank))
    return lowering.builder.dense(x, order), order
