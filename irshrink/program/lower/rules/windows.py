"""Sliding windows of Conv and pools, as 2-D windows over [N, C, H, W] views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Span:
    """A window along one axis.

    Attributes:
        before, behind: padding.
        extra: padding further behind, which ``ceil_mode`` asks for and no average counts.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    behind: int = 0
    extra: int = 0

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1


def spans(node: ir.Node, kernel: Sequence[int], sizes: Sequence[int]) -> list[Span]:
    """The window of a node along each spatial axis, ``auto_pad`` and ``ceil_mode`` resolved.

    Args:
        sizes: of the input along the same axes.

    Raises:
        Refusal: negative pads.
    """
    ones = (1,) * len(kernel)
    strides = edit.attribute_ints(node, "strides") or ones
    dilations = edit.attribute_ints(node, "dilations") or ones
    pads = edit.attribute_ints(node, "pads") or (0,) * (2 * len(kernel))
    automatic = edit.attribute_string(node, "auto_pad", "NOTSET")
    found = []
    for i, size in enumerate(sizes):
        span = Span(kernel[i], strides[i], dilations[i], pads[i], pads[len(kernel) + i])
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            span = _same(span, size, automatic == "SAME_LOWER")
        elif automatic == "VALID":
            span = replace(span, before=0, behind=0)
        if min(span.before, span.behind) < 0:
            raise Refusal("its pads are negative", "Crop with a Slice instead.")
        found.append(_ceiled(span, size) if edit.attribute_int(node, "ceil_mode", 0) else span)
    return found


def window(rows: Span, columns: Span) -> Window:
    """Both spans as one window over H and W."""
    return Window(
        kernel=(rows.kernel, columns.kernel),
        strides=(rows.stride, columns.stride),
        dilations=(rows.dilation, columns.dilation),
        pads=(rows.before, columns.before, rows.behind + rows.extra, columns.behind + columns.extra),
    )


def resolved_window(node: ir.Node, kernel: Sequence[int], size: tuple[int, int]) -> Window:
    """The window of a node of one (W only) or two spatial axes; see :func:`spans`.

    Args:
        kernel: 1 or 2 sizes.
        size: height and width of the input.
    """
    return window(*([Span(1)] * (2 - len(kernel)) + spans(node, kernel, size[-len(kernel) :])))


def pair(values: tuple[int, ...], first: int = 1) -> tuple[int, int]:
    """Numbers for H and W; for W only of one-dimensional windows."""
    return (first, values[0]) if len(values) == 1 else (values[0], values[1])


def _same(span: Span, size: int, lower: bool) -> Span:
    """Pads that give ``ceil(size / stride)`` outputs; an odd one goes behind, or with ``lower`` before."""
    total = max((ceil(size / span.stride) - 1) * span.stride + span.extent - size, 0)
    small, large = total // 2, total - total // 2
    return replace(span, before=large if lower else small, behind=small if lower else large)


def _ceiled(span: Span, size: int) -> Span:
    """With padding behind so that rounding down counts the outputs that ``ceil_mode`` asks for."""
    whole = size + span.before + span.behind
    count = ceil((whole - span.extent) / span.stride) + 1
    if (count - 1) * span.stride >= size + span.before:  # a window must not start behind the input
        count -= 1
    return replace(span, extra=max(0, (count - 1) * span.stride + span.extent - whole))
