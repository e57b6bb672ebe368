"""Pools and reductions."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import OUT_OF_RANGE, fits_int32, mean_multiplier, usable
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules import integers, search
from irshrink.program.lower.rules.shapes import reduced_axes
from irshrink.program.lower.rules.windows import image, like_input, resolved_window
from irshrink.program.lower.view import View, channels_last, view_of
from irshrink.program.ops import AveragePoolF32, AveragePoolInt8, MaxPool, Op, ReduceF32, Window
from irshrink.program.program import Quantization
from irshrink.program.reference.pooling import counts

_NHWC = channels_last(4)


def max_pool(lowering: Lowering, node: ir.Node) -> None:
    """In the integers of the input: the largest of them stands for the largest number."""
    x = lowering.real(node, 0)
    pixels = image(lowering, x)
    window = resolved_window(node, _kernel(node), (pixels.shape[2], pixels.shape[3]))
    y = _max(lowering, node, pixels, window)
    lowering.bind(node.outputs[0], like_input(lowering, y, x.rank))


def global_max_pool(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.real(node, 0)
    pixels = image(lowering, x)
    y = _max(lowering, node, pixels, Window(kernel=(pixels.shape[2], pixels.shape[3])))
    lowering.bind(node.outputs[0], like_input(lowering, y, x.rank))


def average_pool(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.real(node, 0)
    pixels = image(lowering, x)
    kernel = _kernel(node)
    window = resolved_window(node, kernel, (pixels.shape[2], pixels.shape[3]))
    count_padding = bool(edit.attribute_int(node, "count_include_pad", 0))
    if count_padding and edit.attribute_int(node, "ceil_mode", 0):
        raise Refusal("it counts padding and rounds its size up", "Set ceil_mode or count_include_pad to 0.")
    y = _average(lowering, node, pixels, window, count_padding)
    lowering.bind(node.outputs[0], like_input(lowering, y, x.rank))


def global_average_pool(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.real(node, 0)
    pixels = image(lowering, x)
    y = _average(lowering, node, pixels, Window(kernel=(pixels.shape[2], pixels.shape[3])), False)
    lowering.bind(node.outputs[0], like_input(lowering, y, x.rank))


def reduce(lowering: Lowering, node: ir.Node) -> None:
    """ReduceMean, ReduceMax and ReduceSum; in integers as a pool over the reduced axes."""
    if integers.computes_integers(lowering, node):
        search.reduce_integers(lowering, node)
        return
    x = lowering.real(node, 0)
    axes = reduced_axes(lowering, node, x.rank)
    if axes is None:
        lowering.bind(node.outputs[0], x)
        return
    kind: Literal["sum", "mean", "max"] = "max" if node.op_type == "ReduceMax" else "mean"
    if node.op_type == "ReduceSum":
        kind = "sum"
    quantized = lowering.builder.quantization(x) is not None
    if quantized and (kind == "max" or (kind == "mean" and lowering.sink(node) is not None)):
        y = _reduce_by_pool(lowering, node, x, axes)
    else:
        lowering.float_note(node, "its input or output is not quantized" if kind != "sum" else "it is a sum")
        y = _reduce_float(lowering, node, x, axes, kind)
    if not edit.attribute_int(node, "keepdims", 1):
        kept = [size for axis, size in enumerate(y.shape) if axis not in axes]
        y = lowering.builder.view_as(y, kept)
    lowering.bind(node.outputs[0], y)


def _max(lowering: Lowering, node: ir.Node, x: View, window: Window) -> View:
    return _pool(lowering, node, x, window, MaxPool)


def _average(lowering: Lowering, node: ir.Node, x: View, window: Window, count_padding: bool) -> View:
    held, sink = lowering.builder.quantization(x), lowering.sink(node)
    shape = _pooled(x, window)
    seen = counts(window, x.shape[2], x.shape[3], count_padding)
    if not seen.all():
        raise Refusal("a window sees nothing but padding", "Use pads smaller than the window.")
    multipliers = _mean_multipliers(held, sink, np.unique(seen))
    if isinstance(multipliers, str) or held is None or sink is None:
        lowering.float_note(node, str(multipliers))
        x = lowering.builder.as_float(x)
        return _pool(lowering, node, x, window, AveragePoolF32, count_padding=count_padding)
    tensor = lowering.emit_int8(
        AveragePoolInt8,
        node,
        [lowering.builder.dense(x, _NHWC)],
        [shape[axis] for axis in _NHWC],
        sink=sink,
        window=window,
        input_zero_point=held.zero_point,
        count_padding=count_padding,
        multipliers=multipliers,
        zero_point=sink.quantization.zero_point,
        low=sink.low,
        high=sink.high,
    )
    return view_of(tensor, shape, _NHWC)


def _mean_multipliers(
    x: Quantization | None, sink: Sink | None, counts: NDArray[np.int64]
) -> dict[int, float] | str:
    """The multiplier of a sum by how many values are in it, or why the pool must run in float."""
    if x is None or sink is None:
        return f"its {'input' if x is None else 'output'} is not quantized"
    if not fits_int32(-255 * int(counts.max()), 255 * int(counts.max())):
        return "its accumulator could overflow 32 bits"
    found = {int(n): mean_multiplier(x.scale, sink.quantization.scale, int(n)) for n in counts}
    return found if usable(np.array(list(found.values()), np.float32)) else OUT_OF_RANGE


def _pool(lowering: Lowering, node: ir.Node, x: View, window: Window, kind: type[Op], **fields: Any) -> View:
    """An operator over a window whose output has the numbers' format of its input."""
    shape = _pooled(x, window)
    source = lowering.builder.dense(x, _NHWC)
    physical = [shape[axis] for axis in _NHWC]
    held = lowering.builder.quantization(x)
    tensor = lowering.emit(kind, node, [source], physical, quantization=held, window=window, **fields)
    return view_of(tensor, shape, _NHWC)


def _pooled(x: View, window: Window) -> tuple[int, int, int, int]:
    n, c, height, width = x.shape
    shape = (n, c, *window.output(height, width))
    if prod(shape) <= 0:
        raise Refusal("its window is larger than its input", "Give the model larger inputs.")
    return shape


def _kernel(node: ir.Node) -> tuple[int, ...]:
    kernel = edit.attribute_ints(node, "kernel_shape")
    if kernel is None or len(kernel) not in (1, 2):
        raise Refusal("its window is not 1-D or 2-D", "Only 1-D and 2-D pools run on the target.")
    return kernel


def _reduce_by_pool(lowering: Lowering, node: ir.Node, x: View, axes: tuple[int, ...]) -> View:
    """The tensor as an image: the axes before the reduced ones as N, the reduced ones as H, the rest as C."""
    order = x.order()
    if order is None or not _neighbours(order, axes, x.shape):
        order = (*[axis for axis in range(x.rank) if axis not in axes], *axes)
    places = [place for place, axis in enumerate(order) if axis in axes]
    outer, inner = order[: places[0]], order[places[-1] + 1 :]
    n, h, c = (prod(x.shape[axis] for axis in group) for group in (outer, axes, inner))
    tensor = lowering.builder.dense(x, order)
    pixels = view_of(lowering.builder.reshaped(tensor, (n, h, 1, c)), (n, c, h, 1), _NHWC)
    window = Window(kernel=(h, 1))
    if node.op_type == "ReduceMax":
        y = _max(lowering, node, pixels, window)
    else:
        y = _average(lowering, node, pixels, window, False)
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    return view_of(y.tensor, shape, order)


def _neighbours(order: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether no axis that is kept (and larger than 1) lies in memory between reduced ones."""
    places = [place for place, axis in enumerate(order) if axis in axes]
    between = order[places[0] : places[-1] + 1]
    return all(axis in axes or shape[axis] == 1 for axis in between)


def _reduce_float(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    axes: tuple[int, ...],
    kind: Literal["sum", "mean", "max"],
) -> View:
    order = x.order() or tuple(range(x.rank))
    source = lowering.builder.dense(lowering.builder.as_float(x), order)
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    physical = tuple(place for place, axis in enumerate(order) if axis in axes)
    reduced = [shape[axis] for axis in order]
    tensor = lowering.emit(ReduceF32, node, [source], reduced, kind=kind, axes=physical)
    return view_of(tensor, shape, order)
