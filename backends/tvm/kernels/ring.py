"""A ring of padded input rows, the line buffer of depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irshrink.backends.tvm.kernels.call import Argument
from irshrink.backends.tvm.kernels.overlap import rows_distance
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    first_of_share,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import Window
from irshrink.program.stripes import Reach

_SCALARS = (
    "in_rows", "row_bytes", "pad_top", "pad_left", "pad_right", "pad_value",
    "span", "fresh", "row_stride", "dilation", "ring_row", "remembered",
)  # fmt: skip


@dataclass(frozen=True)
class Ring:
    """Sizes of a ring for one layer, in bytes and rows.

    Attributes:
        span: rows that one window reaches over, which is the number of rows kept.
        fresh: rows that are new for each further output row.
        distance: how far before the input the output has to begin so that its row y overwrites only rows
            that are in the ring; bytes, negative if it may begin behind.
    """

    in_rows: int
    row_bytes: int
    top: int
    left: int
    right: int
    pad_value: int
    span: int
    fresh: int
    row_stride: int
    dilation: int
    distance: int

    @property
    def nbytes(self) -> int:
        return self.span * (self.left + self.row_bytes + self.right)

    @staticmethod
    def of(window: Window, x: Sequence[int], y: Sequence[int], pad_value: int) -> Ring:
        """The ring for a window over ``x`` [1,H,W,Ci] that gives ``y`` [1,Ho,Wo,Co]."""
        _, height, width, channels = x
        top, left, _, right = window.pads
        span, stride = window.extent()[0], window.strides[0]
        reads = (
            (window.extent()[1] + (y[2] - 1) * window.strides[1]) - left - width
        )  # columns right of the input
        read = [max(oy * stride - top + span, 0) for oy in range(y[1])]
        return Ring(
            in_rows=height,
            row_bytes=width * channels,
            top=top,
            left=left * channels,
            right=max(right, reads, 0) * channels,
            pad_value=pad_value,
            span=span,
            fresh=min(stride, span),
            row_stride=stride,
            dilation=window.dilations[0],
            distance=rows_distance(x, y, read),
        )

    @property
    def reach(self) -> Reach:
        """The rows of the input that an output row is the first to need."""
        return Reach(self.span, self.row_stride, self.top, kept=True)

    def arguments(self) -> list[Argument]:
        """Values of :meth:`parameters`, after the workspace."""
        return [
            self.in_rows, self.row_bytes, self.top, self.left, self.right, self.pad_value,
            self.span, self.fresh, self.row_stride, self.dilation, 0, 0,
        ]  # fmt: skip

    @staticmethod
    def parameters() -> list[Parameter]:
        return [write("ring", "int8"), *scalars(*_SCALARS)]

    @staticmethod
    def emit(f: Function, given: Sequence[Any], x: Buffer, oy: Expr) -> RingRows:
        """Copy the rows that output row ``oy`` is the first to need.

        The call's first row is that of the image's padded row ``ring_row``; ``remembered`` rows of its window
        are in the ring from the call before.
        """
        rows, values = given[0], dict(zip(_SCALARS, given[1:], strict=True))
        row_bytes, left, right, span = (values[k] for k in ("row_bytes", "pad_left", "pad_right", "span"))
        pitch = f.bind("pitch", left + row_bytes + right)
        top = f.bind("first_row", oy * values["row_stride"])
        old = f.bind("old", select(first_of_share(oy), values["remembered"], span - values["fresh"]))
        with f.loop("r", span - old) as r:
            row = f.bind("row", top + old + r)
            place = f.bind("place", remainder(values["ring_row"] + row, span) * pitch)
            f.call(
                "irs_pad_row", address(rows, place), address(x, 0), row - values["pad_top"],
                values["in_rows"], row_bytes, left, right, values["pad_value"],
            )  # fmt: skip
        slot = f.bind("slot", remainder(values["ring_row"] + top, span))
        return RingRows(rows, pitch, slot, span, values["dilation"])


@dataclass(frozen=True)
class RingRows:
    """A filled ring, as the kernel sees it while it computes one output row."""

    rows: Buffer
    pitch: Expr
    slot: Expr
    span: Expr
    dilation: Expr

    def row(self, f: Function, ky: Any) -> Expr:
        """Byte offset of filter row ``ky``'s input row."""
        slot = f.bind("wrapped", self.slot + self.dilation * ky)
        return select(slot >= self.span, slot - self.span, slot) * self.pitch
