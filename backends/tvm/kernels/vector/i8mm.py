"""SMMLA (the extension i8mm): eight bytes of two pixels against eight bytes of two channels.

A vector of sums holds two pixels x two channels. 16 bytes of two neighbouring pixels become two vectors that
hold 8 bytes of both; each meets the packed weights ``[block][run][eight bytes][pair of channels][2][8]``.
Finished sums of two vectors are brought together to four channels of one pixel. An instruction does twice the
work of SDOT, for a ZIP beside every load: where a tile has few channels, SDOT stays ahead, and the tile says
which of the two its sums are taken by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irshrink.backends.tvm.kernels.vector.dotprod import DotProduct
from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32, VectorTile
from irshrink.backends.tvm.kernels.vector.results import NeonResults
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Vector registers that sums and pixels may take: 32 less two for weights.
_REGISTERS = 30
#: Chunks of 16 bytes that are written out; longer runs become a loop of two chunks.
_WRITTEN_OUT = 4


@dataclass(frozen=True)
class I8mm(DotProduct):
    """Cores with both instructions: tiles of either; ``for_tile`` is the micro-kernel of one of them."""

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return super().tiles(pixels, channels) + MatrixProduct().tiles(pixels, channels)

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        return self.for_tile(tile).instructions(tile, runs, run)

    @staticmethod
    def for_tile(tile: VectorTile) -> DotProduct | MatrixProduct:
        return MatrixProduct() if tile.products == "matrix" else DotProduct()


@dataclass(frozen=True)
class MatrixProduct:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`."""

    name: str = "matrix"
    lanes: int = 4
    copies_short_runs: bool = True
    header: str = "irs_neon"
    element: str = "s8"

    def stored(self, run: int) -> int:
        return -(-run // 8) * 8

    def pack(self, weight: Int8) -> Int8:
        blocks, channels, runs, run = weight.shape
        padded = np.zeros((blocks, channels, runs, self.stored(run)), np.int8)
        padded[..., :run] = weight
        eights = padded.reshape(blocks, channels, runs, -1, 8)
        return np.ascontiguousarray(eights.transpose(0, 2, 3, 1, 4)).reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        sizes = ((p, c) for c in (24, 20, 16, 12, 8, 4) for p in range(2, min(pixels, 14) + 1))
        return [
            VectorTile(p, c, products="matrix")
            for p, c in sizes
            if c <= channels and -(-p // 2) * (c // 2 + 2) <= _REGISTERS
        ]

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        pairs, channels = -(-tile.pixels // 2), tile.channels
        whole, half = run // 16, run % 16
        chunk = tile.pixels + 2 * pairs + channels // 2 + pairs * channels
        tail = 0.0
        if half:
            eights = 1 if half <= 8 else 2
            tail = tile.pixels + eights * (pairs + channels // 4 + pairs * channels // 2)
        loop = 0.0 if whole <= _WRITTEN_OUT else whole * 2.0
        begin_and_end = pairs * channels // 2 + channels // 2 + tile.pixels * channels // 4
        return runs * (whole * chunk + tail + loop) + begin_and_end

    def sums(self, f: Function, tile: VectorTile) -> MatrixSums:
        return MatrixSums(f, tile)

    def results(self) -> type[NeonResults]:
        return NeonResults


class MatrixSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`."""

    def __init__(self, f: Function, tile: VectorTile) -> None:
        self.f, self.tile = f, tile
        self.pairs, self.vectors = -(-tile.pixels // 2), tile.channels // 2
        self.acc = f.local("acc", "int32x4", self.pairs * self.vectors)

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        for v in range(self.vectors):
            start = inline("int32x4", "irs_neon_load_two", address(bias, channel + 2 * v))
            start = self.f.bind(f"b{v}", start)
            for p in range(self.pairs):
                self.f.store(self.acc, self._at(p, v), start)

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        whole, tail = nbytes // 16, nbytes % 16
        step = 16 * self.tile.channels
        if whole <= _WRITTEN_OUT:
            for k in range(whole):
                self._chunk(x, [a + 16 * k for a in at], weight, w + step * k)
        else:
            with self.f.loop("k", whole // 2) as k:
                for u in range(2):
                    moved = [a + (k * 32 + 16 * u) for a in at]
                    self._chunk(x, moved, weight, w + (k * (2 * step) + u * step))
            if whole % 2:
                self._chunk(x, [a + 16 * (whole - 1) for a in at], weight, w + step * (whole - 1))
        if tail > 8:
            self._chunk(x, [a + 16 * whole for a in at], weight, w + step * whole)
        elif tail:
            pixels = self._loaded(x, [a + 16 * whole for a in at])
            self._eight(self._paired(pixels, "low"), weight, w + step * whole)

    def _chunk(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        pixels = self._loaded(x, at)
        both = [self._paired(pixels, half) for half in ("low", "high")]
        for half, pairs in enumerate(both):
            self._eight(pairs, weight, w + 8 * self.tile.channels * half)

    def _loaded(self, x: Buffer, at: Sequence[Expr]) -> list[Expr]:
        return [
            self.f.bind(f"x{p}", inline("int8x16", "irs_neon_load", address(x, a))) for p, a in enumerate(at)
        ]

    def _paired(self, pixels: Sequence[Expr], half: str) -> list[Expr]:
        """Eight bytes of every two pixels; the last one goes with itself where it has no neighbour."""
        pairs = [(pixels[p], pixels[min(p + 1, len(pixels) - 1)]) for p in range(0, len(pixels), 2)]
        return [
            self.f.bind(f"{half}{i}", inline("int8x16", f"irs_neon_pair_{half}", *pair))
            for i, pair in enumerate(pairs)
        ]

    def _eight(self, pixels: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        """Eight bytes of all pixels and channels."""
        f = self.f
        for first in range(0, self.vectors, 2):
            both = (first, first + 1)
            loaded = [
                f.bind("w", inline("int8x16", "irs_neon_load", address(weight, w + 16 * v))) for v in both
            ]
            f.call("irs_neon_both", *loaded)
            for v, weights in zip(both, loaded, strict=True):
                for p, pixel in enumerate(pixels):
                    here = self._at(p, v)
                    total = inline("int32x4", "irs_neon_matrix", self.acc[i32(here)], pixel, weights)
                    f.store(self.acc, here, total)

    def values(self, pixel: int) -> list[Expr]:
        half = "high" if pixel % 2 else "low"
        pairs = [self.acc[i32(self._at(pixel // 2, v))] for v in range(self.vectors)]
        return [
            inline("int32x4", f"irs_neon_channels_{half}", pairs[v], pairs[v + 1])
            for v in range(0, self.vectors, 2)
        ]

    def _at(self, pair: int, vector: int) -> int:
        return pair * self.vectors + vector
