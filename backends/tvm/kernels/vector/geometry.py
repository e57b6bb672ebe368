"""Where the bytes of a window lie: the input itself, or a ring of padded rows."""

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
    i32,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import Window

#: Vectors may be loaded this far past the end of what is needed.
SLACK = 16

_RING = ("in_rows", "row_bytes", "pad_top", "pad_left", "pad_right", "pad_value")


@dataclass(frozen=True)
class Rows:
    """The rows that output row ``oy`` looks at; a frozen dataclass, an argument of generators.

    Without padding they are rows of the input. With padding they are copied, each once, into a ring of as
    many padded rows as one window spans.

    Attributes:
        count: rows of the filter.
        span: rows that a window reaches over, which is the number of rows kept.
        stride, dilation: along the column, in rows.
    """

    padded: bool
    count: int
    span: int
    stride: int
    dilation: int

    @staticmethod
    def of(window: Window) -> Rows:
        padded, span = any(window.pads), window.extent()[0]
        return Rows(padded, window.kernel[0], span, window.strides[0], window.dilations[0])

    @property
    def suffix(self) -> str:
        dilation = f"d{self.dilation}" if self.dilation > 1 and self.count > 1 else ""
        return f"_h{self.count}s{self.stride}{dilation}{'_padded' if self.padded else ''}"

    def sizes(
        self, window: Window, x: Sequence[int], out_w: int, pad_value: int
    ) -> tuple[int, list[Argument]]:
        """Bytes from row to row, and the values of :meth:`parameters` after the workspace."""
        _, height, width, channels = x
        if not self.padded:
            return width * channels, []
        top, left, _, _ = window.pads
        reach = window.extent()[1] + (out_w - 1) * window.strides[1]
        right = max(reach - left - width, 0)
        values = [height, width * channels, top, left * channels, right * channels, pad_value]
        return (left + width + right) * channels, [*values]

    def distance(self, window: Window, x: Sequence[int], y: Sequence[int], down: int = 1) -> int:
        """How far before the input the output has to begin: rows are copied before ``down`` rows are written.

        Channels of ``x`` [N,H,W,Ci] and ``y`` [N,Ho,Wo,Co] count bytes.
        """
        first = [row // down * self.stride - window.pads[0] for row in range(y[1])]
        return rows_distance(x, y, [max(row + self.span, 0) for row in first])

    def nbytes(self, pitch: int) -> int:
        """Of the workspace."""
        return self.span * pitch + SLACK if self.padded else 0

    def parameters(self) -> list[Parameter]:
        return [write("ring", "int8"), *scalars(*_RING)] if self.padded else []

    def emit(
        self, f: Function, header: str, given: Sequence[Any], x: Buffer, pitch: Expr, oy: Expr | None
    ) -> RowView:
        """Make the rows of output row ``oy``, the variable of a ``share`` loop, or of the only one ready."""
        first = True if oy is None else first_of_share(oy)
        oy = i32(0) if oy is None else oy
        if not self.padded:
            start = f.bind("first_row", oy * (self.stride * pitch))
            rows = [start + pitch * (self.dilation * ky) for ky in range(self.count)]
            return RowView(x, [f.bind(f"row{ky}", row) for ky, row in enumerate(rows)])
        ring, v = given[0], dict(zip(_RING, given[1:], strict=True))
        top = f.bind("first_row", oy * self.stride)
        kept = max(self.span - self.stride, 0)
        old = i32(0) if first is True else f.bind("old", select(first, 0, kept))
        with f.loop("r", self.span - old) as r:
            row = f.bind("row", top + old + r)
            f.call(
                f"{header}_pad_row", address(ring, remainder(row, self.span) * pitch), address(x, 0),
                row - v["pad_top"], *(v[name] for name in _RING if name != "pad_top"),
            )  # fmt: skip
        slot = f.bind("slot", remainder(top, self.span))
        rows = []
        for ky in range(self.count):
            place = f.bind("place", slot + self.dilation * ky)
            wrapped = select(place >= self.span, place - self.span, place)
            rows.append(f.bind(f"row{ky}", wrapped * pitch))
        return RowView(ring, rows)


@dataclass(frozen=True)
class RowView:
    """Rows of one output row: byte offsets in ``source``, one for each row of the filter."""

    source: Buffer
    rows: list[Expr]

    def table(self, f: Function) -> Buffer:
        """The offsets in an array, for loops over them."""
        table = f.local("rows", "int32", len(self.rows))
        for ky, row in enumerate(self.rows):
            f.store(table, i32(ky), row)
        return table
