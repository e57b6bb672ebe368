"""Sliding windows of Conv and pools, as 2-D windows over [N, C, H, W] views."""

from __future__ import annotations

from math import ceil

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View
from irshrink.program.ops import Window


def image(lowering: Lowering, view: View) -> View:
    """[N, C, H, W], or [N, C, L] as [N, C, 1, L].

    Raises:
        Refusal: another rank.
    """
    if view.rank == 4:
        return view
    if view.rank == 3:
        n, c, length = view.shape
        return lowering.builder.view_as(view, (n, c, 1, length))
    raise Refusal(f"its input has {view.rank} axes", "Only 1-D and 2-D windows run on the target.")


def like_input(lowering: Lowering, view: View, rank: int) -> View:
    """An image view under the rank of the ONNX value."""
    if rank == 4:
        return view
    n, c, _, length = view.shape
    return lowering.builder.view_as(view, (n, c, length))


def resolved_window(node: ir.Node, kernel: tuple[int, ...], size: tuple[int, int]) -> Window:
    """The window of a node, ``auto_pad`` and ``ceil_mode`` resolved into pads.

    Args:
        kernel: 1 or 2 sizes.
        size: height and width of the input.

    Raises:
        Refusal: negative pads.
    """
    strides = pair(edit.attribute_ints(node, "strides") or (1,) * len(kernel))
    dilations = pair(edit.attribute_ints(node, "dilations") or (1,) * len(kernel))
    pads = edit.attribute_ints(node, "pads") or (0,) * (2 * len(kernel))
    half = len(pads) // 2
    begin, end = pair(pads[:half], 0), pair(pads[half:], 0)
    plain = Window(kernel=pair(kernel), strides=strides, dilations=dilations)
    automatic = edit.attribute_string(node, "auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = _same(plain, size, automatic == "SAME_LOWER")
    elif automatic == "VALID":
        begin, end = (0, 0), (0, 0)
    if min(*begin, *end) < 0:
        raise Refusal("its pads are negative", "Crop with a Slice instead.")
    if edit.attribute_int(node, "ceil_mode", 0):
        end = _ceiled(plain, size, begin, end)
    return Window(kernel=plain.kernel, strides=strides, dilations=dilations, pads=(*begin, *end))


def pair(values: tuple[int, ...], first: int = 1) -> tuple[int, int]:
    """Sizes along H and W; along W only for one-dimensional windows."""
    return (first, values[0]) if len(values) == 1 else (values[0], values[1])


def _same(window: Window, size: tuple[int, int], lower: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pads that give ``ceil(size / stride)`` outputs; an odd one goes behind, or with ``lower`` before."""
    totals = [
        max((ceil(n / stride) - 1) * stride + extent - n, 0)
        for n, stride, extent in zip(size, window.strides, window.extent(), strict=True)
    ]
    small = (totals[0] // 2, totals[1] // 2)
    large = (totals[0] - small[0], totals[1] - small[1])
    return (large, small) if lower else (small, large)


def _ceiled(
    window: Window, size: tuple[int, int], begin: tuple[int, int], end: tuple[int, int]
) -> tuple[int, int]:
    """End pads with which rounding down counts the outputs that ``ceil_mode`` asks for."""
    ends: list[int] = []
    for n, stride, extent, b, e in zip(size, window.strides, window.extent(), begin, end, strict=True):
        count = ceil((n + b + e - extent) / stride) + 1
        if (count - 1) * stride >= n + b:  # a window must not start behind the input
            count -= 1
        ends.append(max(e, (count - 1) * stride + extent - n - b))
    return ends[0], ends[1]
