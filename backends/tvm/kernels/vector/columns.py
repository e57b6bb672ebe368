"""Depthwise taps by VPDPBUSD: up to four rows of one column of the window in every lane.

A *column* is 16 (or 8) channels of up to four rows of the source, turned so that every lane holds the rows of
one channel. It is made once and serves all pixels of the tile whose windows meet it. Bytes become unsigned
as in ``vnni``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32
from irshrink.backends.tvm.kernels.vector.vnni import Vnni
from irshrink.backends.tvm.kernels.vector.x86_results import X86Results
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, inline
from irshrink.program.ops import Window

#: Instructions that turn a column of one to four rows.
_TURN = {1: 2, 2: 5, 3: 6, 4: 7}


@dataclass(frozen=True)
class VnniColumns:
    """See :class:`~irshrink.backends.tvm.kernels.vector.taps.Taps`; windows of ``rows`` x ``columns``.

    Attributes:
        each: rows that share a vector.
        functions: that load weights, make a column of rows, multiply and add.
        most_kept: vectors of weights that are kept in registers over a row.
        registers: for sums and those.
    """

    rows: int
    columns: int
    lanes: int = 16
    header: str = "irs_x86"
    each: ClassVar[int] = 4
    functions: ClassVar[tuple[str, str, str]] = ("load_i32x{}_s8", "column{}", "dot{}")
    most_kept: ClassVar[int] = 14
    registers: ClassVar[int] = 25

    @property
    def name(self) -> str:
        return f"vnni{self.lanes}"

    @property
    def stacks(self) -> list[range]:
        """Rows that share a vector."""
        return [range(ky, min(ky + self.each, self.rows)) for ky in range(0, self.rows, self.each)]

    def stored(self) -> int:
        return self.each * len(self.stacks) * self.columns

    def pack(self, weight: Int8) -> Int8:
        blocks, channels, _ = weight.shape
        packed = np.zeros((blocks, self.columns, len(self.stacks), channels, self.each), np.int8)
        taps = weight.reshape(blocks, channels, self.rows, self.columns)
        for q, rows in enumerate(self.stacks):
            packed[:, :, q, :, : len(rows)] = taps[:, :, rows.start : rows.stop].transpose(0, 3, 1, 2)
        return packed.reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return Vnni().bias(bias, weight)

    def tiles(self, pixels: int) -> range:
        kept = self.stored() // self.each
        return range(1, min(pixels, self.registers - (kept if kept <= self.most_kept else 0), 16) + 1)

    def instructions(self, window: Window, pixels: int) -> float:
        stride, dilation = window.strides[1], window.dilations[1]
        met = {p * stride + kx * dilation for p in range(pixels) for kx in range(self.columns)}
        turning = len(met) * sum(_TURN[len(rows)] for rows in self.stacks)
        return turning + pixels * (self.columns * len(self.stacks) + 8)

    def begin(
        self, f: Function, weight: Buffer, w: Expr, bias: Buffer, channel: Expr, channels: int
    ) -> VnniColumnSums:
        dtype = f"int32x{self.lanes}"

        def vector(i: int) -> Expr:
            place = address(weight, w + self.each * channels * i)
            return f.bind(f"w{i}", inline(dtype, self.function(0), place))

        count = self.stored() // self.each
        kept = [vector(i) for i in range(count)] if count <= self.most_kept else None
        start = f.bind("b", inline(dtype, f"irs_x86_load_i32x{self.lanes}", address(bias, channel)))
        return VnniColumnSums(f, self, lambda i: kept[i] if kept else vector(i), start)

    def function(self, which: int) -> str:
        """The C function that ``functions`` names."""
        return f"irs_x86_{self.functions[which].format(self.lanes)}"

    def results(self) -> type[X86Results]:
        return X86Results


@dataclass
class VnniColumnSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.taps.TapSums`."""

    f: Function
    taps: VnniColumns
    weight: Any
    start: Expr

    def sums(self, x: Buffer, places: Sequence[Sequence[tuple[Any, Expr]]]) -> list[list[Expr]]:
        f, taps, dtype = self.f, self.taps, f"int32x{self.taps.lanes}"
        totals = [self.start for _ in places]
        for columns in self._columns(places):
            for q, rows in enumerate(taps.stacks):
                name = f"{taps.function(1)}_{len(rows)}"
                parts = [address(x, columns[0][2][ky * taps.columns][1]) for ky in rows]
                column = f.bind("column", inline(dtype, name, *parts))
                for p, kx, _ in columns:
                    w = self.weight(kx * len(taps.stacks) + q)
                    total = inline(dtype, taps.function(2), totals[p], column, w)
                    totals[p] = f.bind("total", total)
        return [[total] for total in totals]

    def _columns(self, places: Sequence[Sequence[tuple[Any, Expr]]]) -> list[list[tuple[int, int, Any]]]:
        """For every column of the source: pixel, column of its window, and the places from there on."""
        met: dict[int, list[tuple[int, int, Any]]] = {}
        for p, taps in enumerate(places):
            for kx in range(self.taps.columns):
                (_, column), _ = taps[kx]
                met.setdefault(column, []).append((p, kx, taps[kx:]))
        return [met[column] for column in sorted(met)]
