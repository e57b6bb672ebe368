"""SMULL, SMLAL2, SADALP (Armv8.0-A): 16 products in 8 lanes of 16 bits, then added in pairs to 32 bits.

Two products share a lane of 16 bits, which holds them for every x as long as ``|w0| + |w1| <= 255``: only two
weights of -128 side by side exceed that, and then every product is widened on its own. A tile keeps one
vector of partial sums for every pixel and channel; they are added across when the tile is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32, VectorTile
from irshrink.backends.tvm.kernels.vector.results import NeonResults
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Vector registers that sums and pixels may take: 32 less weights and products.
_REGISTERS = 29
_WRITTEN_OUT = 4


@dataclass(frozen=True)
class Neon:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`.

    ``pairs``: two products share a lane.
    """

    pairs: bool = True
    lanes: int = 4
    copies_short_runs: bool = True
    header: str = "irs_neon"
    element: str = "s8"

    @staticmethod
    def of(weight: Int8) -> Neon:
        return Neon(pairs=int(weight.min()) > -128)

    @property
    def name(self) -> str:
        return "neon" if self.pairs else "neon_widened"

    def stored(self, run: int) -> int:
        return -(-run // 8) * 8

    def pack(self, weight: Int8) -> Int8:
        blocks, channels, runs, run = weight.shape
        padded = np.zeros((blocks, channels, runs, self.stored(run)), np.int8)
        padded[..., :run] = weight
        whole = self.stored(run) // 16 * 16
        parts = [padded[..., i : i + 16] for i in range(0, whole, 16)]
        parts += [padded[..., whole:]] if whole < self.stored(run) else []
        # [block, channel, run, byte] of every chunk -> [block, run][chunk][channel][byte]
        packed = [p.transpose(0, 2, 1, 3).reshape(blocks, runs, -1) for p in parts]
        return np.ascontiguousarray(np.concatenate(packed, axis=2)).reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return [
            VectorTile(p, c)
            for c in (16, 12, 8, 4)
            for p in range(1, min(pixels, 6) + 1)
            if c <= channels and p * (c + 1) <= _REGISTERS
        ]

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        whole, half = self.stored(run) // 16, self.stored(run) % 16 // 8
        multiply = 3 if self.pairs else 4
        chunk = tile.channels * (multiply * tile.pixels + 0.5) + tile.pixels
        loop = 0.0 if whole <= _WRITTEN_OUT else whole * 2.0
        tail = half * (tile.channels * (2 * tile.pixels + 1) + tile.pixels)
        return runs * (whole * chunk + tail + loop) + tile.pixels * tile.channels

    def sums(self, f: Function, tile: VectorTile) -> NeonSums:
        return NeonSums(f, tile, self.pairs)

    def results(self) -> type[NeonResults]:
        return NeonResults


class NeonSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`; ``share`` channels are in one byte."""

    share: ClassVar[int] = 1

    def __init__(self, f: Function, tile: VectorTile, pairs: bool) -> None:
        self.f, self.tile, self.pairs = f, tile, pairs
        self.acc = f.local("acc", "int32x4", tile.pixels * tile.channels)
        self._bias: list[Expr] = []

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        load = "irs_neon_load_i32"
        self._bias = [
            inline("int32x4", load, address(bias, channel + c)) for c in range(0, self.tile.channels, 4)
        ]
        if fed_first:
            return
        for i in range(self.tile.pixels * self.tile.channels):
            self.f.store(self.acc, i, inline("int32x4", "irs_neon_zero"))

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        rest = nbytes % 16
        whole, half = nbytes // 16 + (rest > 8), 0 < rest <= 8
        step = 16 * self.tile.channels // self.share
        ahead = whole if whole <= _WRITTEN_OUT else 2 - whole % 2 if first else whole % 2
        for k in range(ahead):
            self._chunk(x, [a + 16 * k for a in at], weight, w + step * k, first and k == 0)
        if ahead < whole:
            with self.f.loop("k", (whole - ahead) // 2) as k:
                for u in range(2):
                    moved = [a + (k * 32 + 16 * (u + ahead)) for a in at]
                    self._chunk(x, moved, weight, w + (k * (2 * step) + (u + ahead) * step), False)
        if half:
            self._half(x, [a + 16 * whole for a in at], weight, w + step * whole, first and whole == 0)

    def _chunk(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, first: bool) -> None:
        f, load = self.f, "irs_neon_load"
        pixels = [f.bind(f"x{p}", inline("int8x16", load, address(x, a))) for p, a in enumerate(at)]
        for start in range(0, self.tile.channels, 2):
            both = self.weights(weight, w, start)
            for c, weights in zip((start, start + 1), both, strict=True):
                for p, pixel in enumerate(pixels):
                    self._multiply(p, c, pixel, weights, first)

    def weights(self, weight: Buffer, w: Expr, channel: int) -> list[Expr]:
        """The chunks of two neighbouring channels; those of all begin at ``weight[w]``."""
        f, load = self.f, "irs_neon_load"
        places = [address(weight, w + 16 * c) for c in (channel, channel + 1)]
        both = [f.bind("w", inline("int8x16", load, place)) for place in places]
        f.call("irs_neon_both", *both)
        return both

    def half_weights(self, weight: Buffer, w: Expr) -> Iterator[Expr]:
        """Half a chunk of every channel, each loaded when it is asked for."""
        for c in range(self.tile.channels):
            yield self.f.bind("w", inline("int8x8", "irs_neon_load8", address(weight, w + 8 * c)))

    def _multiply(self, p: int, c: int, pixel: Expr, weights: Expr, first: bool) -> None:
        """16 products of one pixel and channel."""
        if self.pairs:
            self._add(p, c, inline("int16x8", "irs_neon_products", pixel, weights), first)
            return
        for half in ("low", "high"):
            products = inline("int16x8", f"irs_neon_products_{half}", pixel, weights)
            self._add(p, c, products, first and half == "low")

    def _half(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, first: bool) -> None:
        f, load = self.f, "irs_neon_load8"
        pixels = [f.bind(f"x{p}", inline("int8x8", load, address(x, a))) for p, a in enumerate(at)]
        for c, weights in enumerate(self.half_weights(weight, w)):
            for p, pixel in enumerate(pixels):
                self._add(p, c, inline("int16x8", "irs_neon_products8", pixel, weights), first)

    def _add(self, p: int, c: int, products: Expr, first: bool) -> None:
        at = p * self.tile.channels + c
        if first:
            total = inline("int32x4", "irs_neon_pairs", products)
        else:
            total = inline("int32x4", "irs_neon_add_pairs", self.acc[i32(at)], products)
        self.f.store(self.acc, at, total)

    def values(self, pixel: int) -> list[Expr]:
        values = []
        for v, bias in enumerate(self._bias):
            at = pixel * self.tile.channels + 4 * v
            across = inline("int32x4", "irs_neon_sums", *(self.acc[i32(at + i)] for i in range(4)))
            values.append(inline("int32x4", "irs_neon_add", across, bias))
        return values
