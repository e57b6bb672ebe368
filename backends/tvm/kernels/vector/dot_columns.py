"""Depthwise taps by SDOT: up to four rows of one column of the window in every lane.

A *column* is 8 channels of up to four rows of the source, turned so that every lane of 32 bits holds the rows
of one channel: two vectors of 4 channels. It is made once and serves all pixels of the tile whose windows
meet it. Windows of more than four rows take several passes over the columns; no rule chooses that, because
the columns of a pass and the sums of few pixels fill the registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32
from irshrink.backends.tvm.kernels.vector.results import NeonResults
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, inline
from irshrink.program.ops import Window

#: Channels of a column, and the vectors that hold them.
CHANNELS, _VECTORS = 8, 2
#: Vectors of weights that are kept in registers over a row, and registers for sums beside them.
_KEPT, _REGISTERS = 8, 27
#: Instructions that load and turn a column of one to four rows.
_TURN = {1: 4, 2: 5, 3: 7, 4: 8}


@dataclass(frozen=True)
class DotColumns:
    """See :class:`~irshrink.backends.tvm.kernels.vector.taps.Taps`; windows of ``rows`` x ``columns``."""

    rows: int
    columns: int
    header: str = "irs_neon"

    @property
    def name(self) -> str:
        return "dot"

    @property
    def quads(self) -> list[range]:
        """Rows that share a vector."""
        return [range(ky, min(ky + 4, self.rows)) for ky in range(0, self.rows, 4)]

    @property
    def _vectors(self) -> int:
        return len(self.quads) * self.columns * _VECTORS

    def stored(self) -> int:
        return 4 * len(self.quads) * self.columns

    def pack(self, weight: Int8) -> Int8:
        """[block][quad][column][channel][row]."""
        blocks, channels, _ = weight.shape
        packed = np.zeros((blocks, len(self.quads), self.columns, channels, 4), np.int8)
        taps = weight.reshape(blocks, channels, self.rows, self.columns)
        for q, rows in enumerate(self.quads):
            packed[:, q, :, :, : len(rows)] = taps[:, :, rows.start : rows.stop].transpose(0, 3, 1, 2)
        return packed.reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int) -> range:
        kept = self._vectors if self._vectors <= _KEPT else 2
        return range(1, min(pixels, (_REGISTERS - kept) // _VECTORS) + 1)

    def instructions(self, window: Window, pixels: int) -> float:
        stride, dilation = window.strides[1], window.dilations[1]
        met = len({p * stride + kx * dilation for p in range(pixels) for kx in range(self.columns)})
        if self._vectors > _KEPT:  # all columns of a pass and all sums do not fit
            return inf
        turning = met * sum(_TURN[len(rows)] for rows in self.quads)
        return turning + pixels * (self._vectors + 2 + 10)

    def begin(
        self, f: Function, weight: Buffer, w: Expr, bias: Buffer, channel: Expr, channels: int
    ) -> DotColumnSums:
        def vector(i: int) -> Expr:
            return f.bind(f"w{i}", inline("int8x16", "irs_neon_load", address(weight, w + 16 * i)))

        kept = [vector(i) for i in range(self._vectors)] if self._vectors <= _KEPT else None
        start = [
            f.bind(f"b{v}", inline("int32x4", "irs_neon_load_i32", address(bias, channel + 4 * v)))
            for v in range(_VECTORS)
        ]
        return DotColumnSums(f, self, lambda i: kept[i] if kept else vector(i), start, kept is not None)

    def results(self) -> type[NeonResults]:
        return NeonResults


@dataclass
class DotColumnSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.taps.TapSums`."""

    f: Function
    taps: DotColumns
    weight: Any
    start: list[Expr]
    kept: bool

    def sums(self, x: Buffer, places: Sequence[Sequence[tuple[Any, Expr]]]) -> list[list[Expr]]:
        totals = [list(self.start) for _ in places]
        met = self._met(places)
        for q, rows in enumerate(self.taps.quads):
            if self.kept:  # a column is used up at once
                for users in met.values():
                    column = self._column(x, users[0][2], rows)
                    for p, kx, _ in users:
                        self._add(totals, p, column, self._weights(q, kx))
                continue
            columns = {place: self._column(x, users[0][2], rows) for place, users in met.items()}
            for kx in range(self.taps.columns):
                weights = self._weights(q, kx)
                for place, users in met.items():
                    for p, at, _ in users:
                        if at == kx:
                            self._add(totals, p, columns[place], weights)
        return totals

    def _weights(self, quad: int, kx: int) -> list[Expr]:
        first = (quad * self.taps.columns + kx) * _VECTORS
        return [self.weight(first + v) for v in range(_VECTORS)]

    def _add(self, totals: list[list[Expr]], p: int, column: list[Expr], weights: list[Expr]) -> None:
        for v in range(_VECTORS):
            total = inline("int32x4", "irs_neon_dot", totals[p][v], column[v], weights[v])
            totals[p][v] = self.f.bind("total", total)

    def _column(self, x: Buffer, places: Sequence[tuple[Any, Expr]], rows: range) -> list[Expr]:
        """Two vectors of 4 channels; rows that there are not repeat others, and meet zero weights."""
        f = self.f
        loaded = [
            f.bind("row", inline("int8x8", "irs_neon_load8", address(x, places[ky * self.taps.columns][1])))
            for ky in rows
        ]
        pairs = [
            f.bind("pair", inline("int8x16", "irs_neon_zip", loaded[i], loaded[min(i + 1, len(loaded) - 1)]))
            for i in range(0, len(loaded), 2)
        ]
        return [
            f.bind("column", inline("int8x16", f"irs_neon_zip_{half}", pairs[0], pairs[-1]))
            for half in ("low", "high")
        ]

    def _met(self, places: Sequence[Sequence[tuple[Any, Expr]]]) -> dict[int, list[tuple[int, int, Any]]]:
        """For every column of the source: pixel, column of its window, and the places from there on."""
        met: dict[int, list[tuple[int, int, Any]]] = {}
        for p, taps in enumerate(places):
            for kx in range(self.taps.columns):
                (_, column), _ = taps[kx]
                met.setdefault(column, []).append((p, kx, taps[kx:]))
        return {column: met[column] for column in sorted(met)}
