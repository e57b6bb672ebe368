"""Reductions over any axes, and sums along one."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import positive
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules import integers, search
from irshrink.program.lower.rules.floating import binary_f32, reduce_f32, unary_f32
from irshrink.program.lower.rules.pooling import average, largest
from irshrink.program.lower.rules.shapes import reduced_axes
from irshrink.program.lower.view import View, channels_last, view_of
from irshrink.program.ops import CumSumF32, ReduceKind, TableInt8, Window

KINDS: dict[str, ReduceKind] = {
    "ReduceL1": "l1",
    "ReduceL2": "sumsquare",
    "ReduceLogSum": "sum",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sumsquare",
}
_NHWC = channels_last(4)


def reduce(lowering: Lowering, node: ir.Node) -> None:
    """Maximum, minimum, sum and mean in integers as pools over the reduced axes; the rest in float."""
    if integers.computes_integers(lowering, node):
        search.reduce_integers(lowering, node)
        return
    x = lowering.real(node, 0)
    axes = reduced_axes(lowering, node, x.rank)
    if axes is None:
        lowering.bind(node.outputs[0], x)
        return
    reason = _why_float(lowering, node, x)
    if reason is None:
        y = _by_pool(lowering, node, x, axes)
    else:
        lowering.float_note(node, reason)
        y = _float(lowering, node, lowering.builder.as_float(x), axes)
    if not edit.attribute_int(node, "keepdims", 1):
        kept = [size for axis, size in enumerate(y.shape) if axis not in axes]
        y = lowering.builder.view_as(y, kept)
    lowering.bind(node.outputs[0], y)


def cumulative_sum(lowering: Lowering, node: ir.Node) -> None:
    """Along one constant axis, in float."""
    x = lowering.floating(node, 0)
    axis = lowering.integers(node, 1, "axis")
    if axis is None or len(axis) != 1:
        raise Refusal("its axis is missing", "The model is damaged; export it again.")
    lowering.float_note(node, "it has no integer form")
    order = x.order() or tuple(range(x.rank))
    tensor = lowering.emit(
        CumSumF32,
        node,
        [lowering.builder.dense(x, order)],
        [x.shape[place] for place in order],
        axis=order.index(positive(axis[0], x.rank)),
        exclusive=bool(edit.attribute_int(node, "exclusive", 0)),
        reverse=bool(edit.attribute_int(node, "reverse", 0)),
    )
    lowering.bind(node.outputs[0], view_of(tensor, x.shape, order))


def _why_float(lowering: Lowering, node: ir.Node, x: View) -> str | None:
    if node.op_type not in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum"):
        return "it has no integer form"
    if lowering.builder.quantization(x) is None:
        return "its input is not quantized"
    if node.op_type in ("ReduceMean", "ReduceSum") and lowering.sink(node) is None:
        return "its output is not quantized"
    return None


def _float(lowering: Lowering, node: ir.Node, x: View, axes: tuple[int, ...]) -> View:
    if node.op_type == "ReduceLogSumExp":
        top = reduce_f32(lowering, node, x, "max", axes)
        powers = unary_f32(lowering, node, binary_f32(lowering, node, "sub", x, top), "exp")
        total = reduce_f32(lowering, node, powers, "sum", axes)
        return binary_f32(lowering, node, "add", unary_f32(lowering, node, total, "log"), top)
    y = reduce_f32(lowering, node, x, KINDS[node.op_type], axes)
    if node.op_type == "ReduceL2":
        return unary_f32(lowering, node, y, "sqrt")
    return unary_f32(lowering, node, y, "log") if node.op_type == "ReduceLogSum" else y


def _by_pool(lowering: Lowering, node: ir.Node, x: View, axes: tuple[int, ...]) -> View:
    """The tensor as an image: the axes before the reduced ones as N, the reduced ones as H, the rest as C."""
    order = x.order()
    if order is None or not _neighbours(order, axes, x.shape):
        order = (*[axis for axis in range(x.rank) if axis not in axes], *axes)
    places = [place for place, axis in enumerate(order) if axis in axes]
    outer, inner = order[: places[0]], order[places[-1] + 1 :]
    n, h, c = (prod(x.shape[axis] for axis in group) for group in (outer, axes, inner))
    tensor = lowering.builder.dense(x, order)
    pixels = view_of(lowering.builder.reshaped(tensor, (n, h, 1, c)), (n, c, h, 1), _NHWC)
    y = _POOLS[node.op_type](lowering, node, pixels, Window(kernel=(h, 1)))
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    return view_of(y.tensor, shape, order)


def _smallest(lowering: Lowering, node: ir.Node, x: View, window: Window) -> View:
    """The largest of ``-1 - q``, which maps the integers onto each other in the other direction."""
    return _turned(lowering, node, largest(lowering, node, _turned(lowering, node, x), window))


def _turned(lowering: Lowering, node: ir.Node, x: View) -> View:
    shape, held = lowering.builder.shape(x.tensor), lowering.builder.quantization(x)
    table = np.arange(127, -129, -1).astype(np.int8)
    return x.on(lowering.emit(TableInt8, node, [x.tensor], shape, quantization=held, table=table))


def _total(lowering: Lowering, node: ir.Node, x: View, window: Window) -> View:
    return average(lowering, node, x, window, total=True)


_POOLS: dict[str, Callable[[Lowering, ir.Node, View, Window], View]] = {
    "ReduceMax": largest,
    "ReduceMean": average,
    "ReduceMin": _smallest,
    "ReduceSum": _total,
}


def _neighbours(order: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether no axis that is kept (and larger than 1) lies in memory between reduced ones."""
    places = [place for place, axis in enumerate(order) if axis in axes]
    between = order[places[0] : places[-1] + 1]
    return all(axis in axes or shape[axis] == 1 for axis in between)
