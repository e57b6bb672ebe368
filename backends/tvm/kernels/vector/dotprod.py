"""SDOT by lane (Armv8.2-A dot products): four bytes of four channels against one word of a pixel.

A tile keeps ``channels / 4`` vectors a pixel. 16 bytes of a pixel are loaded at once; each of their words
meets the packed weights ``[block][run][word][channel][4]`` of all channels of the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32, VectorTile
from irshrink.backends.tvm.kernels.vector.results import NeonResults
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Vector registers that sums and pixels may take: 32 less one or two for weights.
_REGISTERS = 30
#: Instructions of a tile that takes all of them, for moving values out of the way.
_CROWDED = 8
#: Chunks of 16 bytes that are written out; longer runs become a loop of two chunks.
_WRITTEN_OUT = 4


@dataclass(frozen=True)
class DotProduct:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`."""

    name: str = "dot"
    lanes: int = 4
    copies_short_runs: bool = True
    header: str = "irs_neon"
    element: str = "s8"

    def stored(self, run: int) -> int:
        return -(-run // 4) * 4

    def pack(self, weight: Int8) -> Int8:
        blocks, channels, runs, run = weight.shape
        padded = np.zeros((blocks, channels, runs, self.stored(run)), np.int8)
        padded[..., :run] = weight
        words = padded.reshape(blocks, channels, runs, -1, 4)
        return np.ascontiguousarray(words.transpose(0, 2, 3, 1, 4)).reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return [
            VectorTile(p, c)
            for c in (32, 24, 20, 16, 12, 8, 4)
            for p in range(1, min(pixels, 12) + 1)
            if c <= channels and p * (c // 4 + 1) <= _REGISTERS
        ]

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        words, vectors, chunks = self.stored(run) // 4, tile.channels // 4, -(-run // 16)
        loop = 0.0 if chunks <= _WRITTEN_OUT else chunks * 2.0
        each = words * (vectors * tile.pixels + (vectors + 1) // 2) + chunks * tile.pixels + loop
        crowded = _CROWDED if tile.pixels * (vectors + 1) >= _REGISTERS else 0
        return runs * each + tile.pixels * vectors + crowded

    def sums(self, f: Function, tile: VectorTile) -> DotSums:
        return DotSums(f, tile)

    def results(self) -> type[NeonResults]:
        return NeonResults


class DotSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`; ``share`` channels are in one byte."""

    share: ClassVar[int] = 1

    def __init__(self, f: Function, tile: VectorTile) -> None:
        self.f, self.tile = f, tile
        self.acc = f.local("acc", "int32x4", tile.pixels * tile.channels // 4)

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        for v in range(self.tile.channels // 4):
            start = inline("int32x4", "irs_neon_load_i32", address(bias, channel + 4 * v))
            start = self.f.bind(f"b{v}", start)
            for p in range(self.tile.pixels):
                self.f.store(self.acc, self._at(p, v), start)

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        whole, tail = nbytes // 16, nbytes % 16
        step = 16 * self.tile.channels // self.share
        if whole <= _WRITTEN_OUT:
            for k in range(whole):
                self._chunk(x, [a + 16 * k for a in at], weight, w + step * k, 4)
        else:
            with self.f.loop("k", whole // 2) as k:
                for u in range(2):
                    self._chunk(
                        x, [a + (k * 32 + 16 * u) for a in at], weight, w + (k * (2 * step) + u * step), 4
                    )
            if whole % 2:
                self._chunk(x, [a + 16 * (whole - 1) for a in at], weight, w + step * (whole - 1), 4)
        if tail:
            self._chunk(x, [a + 16 * whole for a in at], weight, w + step * whole, -(-tail // 4))

    def _chunk(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, words: int) -> None:
        f, load = self.f, "irs_neon_load"
        pixels = [f.bind(f"x{p}", inline("int8x16", load, address(x, a))) for p, a in enumerate(at)]
        vectors = self.tile.channels // 4
        for first in range(0, words * vectors, 2):
            several = range(first, min(first + 2, words * vectors))
            loaded = self.weights(weight, w, several)
            for i, weights in zip(several, loaded, strict=True):
                lane, v = divmod(i, vectors)
                for p, pixel in enumerate(pixels):
                    at_acc = self._at(p, v)
                    acc = self.acc[i32(at_acc)]
                    total = inline("int32x4", "irs_neon_dot_lane", acc, weights, pixel, lane)
                    f.store(self.acc, at_acc, total)

    def weights(self, weight: Buffer, w: Expr, several: range) -> list[Expr]:
        """One or two neighbouring vectors of a chunk whose weights begin at ``weight[w]``."""
        f = self.f
        loaded = [
            f.bind("w", inline("int8x16", "irs_neon_load", address(weight, w + 16 * i))) for i in several
        ]
        if len(loaded) == 2:
            f.call("irs_neon_both", *loaded)
        return loaded

    def values(self, pixel: int) -> list[Expr]:
        return [self.acc[i32(self._at(pixel, v))] for v in range(self.tile.channels // 4)]

    def _at(self, pixel: int, vector: int) -> int:
        return pixel * (self.tile.channels // 4) + vector
