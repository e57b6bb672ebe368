"""Pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import OUT_OF_RANGE, fits_int32, mean_multiplier, usable
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.floating import binary_f32, unary_f32
from irshrink.program.lower.rules.int16 import wide_average
from irshrink.program.lower.rules.padding import padded
from irshrink.program.lower.rules.power import powered
from irshrink.program.lower.rules.windows import Span, image, like_input, spans, window
from irshrink.program.lower.view import View, channels_last, view_of
from irshrink.program.ops import AveragePoolF32, AveragePoolInt8, MaxPool, Op, Window
from irshrink.program.program import Quantization
from irshrink.program.reference.pooling import counts

_NHWC = channels_last(4)

#: Pools [N, C, H, W] over a window.
Pooled = Callable[[View, Window], View]


def max_pool(lowering: Lowering, node: ir.Node) -> None:
    """In the integers of the input: the largest of them stands for the largest number."""
    x = lowering.real(node, 0)
    y = _pooled_axes(lowering, x, _spans(node, x), partial(largest, lowering, node))
    lowering.bind(node.outputs[0], y)


def global_max_pool(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.real(node, 0)
    lowering.bind(node.outputs[0], _pooled_whole(lowering, x, partial(largest, lowering, node)))


def average_pool(lowering: Lowering, node: ir.Node) -> None:
    """Over three axes in float: the average of averages would round twice."""
    x = lowering.real(node, 0)
    counts_padding = bool(edit.attribute_int(node, "count_include_pad", 0))
    axes = _spans(node, x)
    if counts_padding and any(span.extra for span in axes):
        x, axes = _padded_first(lowering, node, x, axes)
        counts_padding = False
    if len(axes) > 2:
        lowering.float_note(node, "its window has three axes")
        x = lowering.builder.as_float(x)
    averaged = partial(average, lowering, node, count_padding=counts_padding)
    lowering.bind(node.outputs[0], _pooled_axes(lowering, x, axes, averaged))


def global_average_pool(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.real(node, 0)
    lowering.bind(node.outputs[0], _pooled_whole(lowering, x, partial(average, lowering, node)))


def lp_pool(lowering: Lowering, node: ir.Node) -> None:
    """``(sum |x|**p)**(1/p)`` over windows: an average times what it averages over, and its root."""
    x, p = lowering.floating(node, 0), edit.attribute_int(node, "p", 2)
    lowering.float_note(node, "it has no integer form")
    powers = powered(lowering, node, unary_f32(lowering, node, x, "abs") if p % 2 else x, p)
    averaged = partial(average, lowering, node, count_padding=True)
    if node.op_type == "GlobalLpPool":
        count, mean = prod(x.shape[2:]), _pooled_whole(lowering, powers, averaged)
    else:
        axes = _spans(node, x)
        count = prod(span.kernel for span in axes)
        mean = _pooled_axes(lowering, powers, axes, averaged)
    total = binary_f32(lowering, node, "mul", mean, np.array(count, np.float32))
    lowering.bind(node.outputs[0], powered(lowering, node, total, 1 / p))


def _spans(node: ir.Node, x: View) -> list[Span]:
    kernel = edit.attribute_ints(node, "kernel_shape")
    if kernel is None or len(kernel) not in (1, 2, 3) or len(kernel) != x.rank - 2:
        raise Refusal(
            "its window has not one to three axes", "Only 1-D, 2-D and 3-D pools run on the target."
        )
    return spans(node, kernel, x.shape[2:])


def _pooled_axes(lowering: Lowering, x: View, axes: list[Span], pooled: Pooled) -> View:
    """[N, C, L] or [N, C, H, W] at once; [N, C, D, H, W] over H and W, then over D."""
    if len(axes) < 3:
        spatial = window(*([Span(1)] * (2 - len(axes)) + axes))
        return like_input(lowering, pooled(image(lowering, x), spatial), x.rank)
    view_as, (n, c, depth, height, width) = lowering.builder.view_as, x.shape
    slices = view_as(x.transposed((0, 2, 1, 3, 4)), (n * depth, c, height, width))
    flat = pooled(slices, window(axes[1], axes[2]))
    height, width = flat.shape[2:]
    volume = view_as(flat, (n, depth, c, height, width)).transposed((0, 2, 1, 3, 4))
    y = pooled(view_as(volume, (n, c, depth, height * width)), window(axes[0], Span(1)))
    return view_as(y, (n, c, y.shape[2], height, width))


def _pooled_whole(lowering: Lowering, x: View, pooled: Pooled) -> View:
    """[N, C, 1...] of [N, C, ...]."""
    if x.rank < 3:
        raise Refusal(f"its input has {x.rank} axes", "It must be [N, C, ...].")
    pixels = x if x.rank == 4 else lowering.builder.view_as(x, (*x.shape[:2], prod(x.shape[2:]), 1))
    y = pooled(pixels, Window(kernel=(pixels.shape[2], pixels.shape[3])))
    return lowering.builder.view_as(y, (*x.shape[:2], *(1,) * (x.rank - 2)))


def _padded_first(lowering: Lowering, node: ir.Node, x: View, axes: list[Span]) -> tuple[View, list[Span]]:
    """Padding that counts becomes part of the input; what ``ceil_mode`` adds behind it does not count."""
    borders = {2 + i: (span.before, span.behind) for i, span in enumerate(axes)}
    held = lowering.builder.quantization(x)
    grown = padded(lowering, node, x, borders, 0.0 if held is None else float(held.zero_point))
    return grown, [replace(span, before=0, behind=0) for span in axes]


def largest(lowering: Lowering, node: ir.Node, x: View, window: Window) -> View:
    """Max pool of [N, C, H, W]."""
    return _pool(lowering, node, x, window, MaxPool)


def average(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    window: Window,
    *,
    count_padding: bool = False,
    total: bool = False,
) -> View:
    """Average pool of [N, C, H, W] in int8 if it can be; with ``total`` the sum (in int8 only)."""
    held, sink = lowering.builder.quantization(x), lowering.sink(node)
    shape = _pooled(x, window)
    seen = counts(window, x.shape[2], x.shape[3], count_padding)
    if not seen.all():
        raise Refusal("a window sees nothing but padding", "Use pads smaller than the window.")
    if not total:
        tensor = wide_average(
            lowering, node, x, lowering.builder.dense(x, _NHWC), [shape[axis] for axis in _NHWC],
            window=window, counts=np.unique(seen), count_padding=count_padding,
        )  # fmt: skip
        if tensor is not None:
            return view_of(tensor, shape, _NHWC)
    multipliers = mean_multipliers(held, sink, np.unique(seen), total=total)
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


def mean_multipliers(
    x: Quantization | None, sink: Sink | None, counts: NDArray[np.int64], *, total: bool = False
) -> dict[int, float] | str:
    """The multiplier of a sum by how many values are in it, or why the pool must run in float."""
    if x is None or sink is None:
        return f"its {'input' if x is None else 'output'} is not quantized"
    if not fits_int32(-255 * int(counts.max()), 255 * int(counts.max())):
        return "its accumulator could overflow 32 bits"
    y = sink.quantization.scale
    found = {int(n): mean_multiplier(x.scale, y, 1 if total else int(n)) for n in counts}
    return found if usable(np.array(list(found.values()), np.float32)) else OUT_OF_RANGE


def _pool(lowering: Lowering, node: ir.Node, x: View, window: Window, kind: type[Op], **fields: Any) -> View:
    """An operator over a window whose output has the numbers' format of its input."""
    shape = _pooled(x, window)
    source = lowering.builder.dense(x, _NHWC)
    physical = [shape[axis] for axis in _NHWC]
    tensor = lowering.emit_like(x, kind, node, [source], physical, window=window, **fields)
    return view_of(tensor, shape, _NHWC)


def _pooled(x: View, window: Window) -> tuple[int, int, int, int]:
    n, c, height, width = x.shape
    shape = (n, c, *window.output(height, width))
    if prod(shape) <= 0:
        raise Refusal("its window is larger than its input", "Give the model larger inputs.")
    return shape
