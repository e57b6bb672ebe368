"""VPDPBUSD (AVX-512 VNNI): four bytes of 16 or 8 channels against one word of a pixel.

The instruction multiplies unsigned by signed bytes. Pixels become unsigned by ``x ^ 0x80``, which is x + 128,
in the very instruction that spreads a word over a vector; sums start at ``bias - 128 * sum(w)`` to take that
back.
The weights lie as for dot products on Arm, ``[block][run][word][channel][4]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.vector.dotprod import DotProduct
from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32, VectorTile
from irshrink.backends.tvm.kernels.vector.x86_results import X86Results
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Vector registers, less one for a pixel.
_REGISTERS = 31
#: Words that are written out; longer runs become a loop of ``_UNROLL``.
_WRITTEN_OUT, _UNROLL = 8, 4


@dataclass(frozen=True)
class Vnni:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`."""

    lanes: int = 16
    copies_short_runs: bool = True
    header: str = "irs_x86"
    element: str = "s8"

    @property
    def name(self) -> str:
        return f"vnni{self.lanes}"

    def stored(self, run: int) -> int:
        return DotProduct().stored(run)

    def pack(self, weight: Int8) -> Int8:
        return DotProduct().pack(weight)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        sums = weight.reshape(len(weight), -1).sum(1, dtype=np.int64)
        start: Int32 = (bias.astype(np.int64) - 128 * sums).astype(np.int32)
        return start  # where it wraps, the sums wrap back

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return [
            VectorTile(p, self.lanes * v)
            for v in (4, 3, 2, 1)
            for p in range(1, min(pixels, 16) + 1)
            if self.lanes * v <= channels and p * v + v <= _REGISTERS
        ]

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        words, vectors = self.stored(run) // 4, tile.channels // self.lanes
        loop = 0.0 if words <= _WRITTEN_OUT else words * 2.0 / _UNROLL
        return runs * (words * (vectors + tile.pixels + vectors * tile.pixels) + loop) + tile.pixels * vectors

    def sums(self, f: Function, tile: VectorTile) -> VnniSums:
        return VnniSums(f, tile, self.lanes)

    def results(self) -> type[X86Results]:
        return X86Results


class VnniSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`; steps of ``unit`` bytes of a pixel.

    ``share`` channels are in one byte of the weights.
    """

    unit: ClassVar[int] = 4
    share: ClassVar[int] = 1

    def __init__(self, f: Function, tile: VectorTile, lanes: int) -> None:
        self.f, self.tile, self.lanes = f, tile, lanes
        self.vectors, self.dtype = tile.channels // lanes, f"int32x{lanes}"
        self.acc = f.local("acc", self.dtype, tile.pixels * self.vectors)

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        self.signs = self.f.bind("signs", inline(self.dtype, f"irs_x86_signs{self.lanes}"))
        for v in range(self.vectors):
            place = address(bias, channel + self.lanes * v)
            start = self.f.bind(f"b{v}", inline(self.dtype, f"irs_x86_load_i32x{self.lanes}", place))
            for p in range(self.tile.pixels):
                self.f.store(self.acc, self._at(p, v), start)

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        unit = self.unit
        steps, size = -(-nbytes // unit), unit * self.tile.channels // self.share
        looped = steps // _UNROLL * _UNROLL if steps > _WRITTEN_OUT else 0
        if looped:
            with self.f.loop("k", looped // _UNROLL) as k:
                for u in range(_UNROLL):
                    moved = [a + (k * (unit * _UNROLL) + unit * u) for a in at]
                    self.step(x, moved, weight, w + (k * (_UNROLL * size) + u * size))
        for k in range(looped, steps):
            self.step(x, [a + unit * k for a in at], weight, w + size * k)

    def step(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        """One word of every pixel."""
        f, n, weights = self.f, self.lanes, self.weights(weight, w)
        for p, place in enumerate(at):
            spread = f.bind(f"x{p}", inline(self.dtype, f"irs_x86_spread{n}", address(x, place), self.signs))
            for v, vector in enumerate(weights):
                here = self._at(p, v)
                total = inline(self.dtype, f"irs_x86_dot{n}", self.acc[i32(here)], spread, vector)
                f.store(self.acc, here, total)

    def weights(self, weight: Buffer, w: Expr) -> list[Expr]:
        """The vectors of one word."""
        f, n = self.f, self.lanes
        load = f"irs_x86_load_i32x{n}_s8"
        return [
            f.bind(f"w{v}", inline(self.dtype, load, address(weight, w + 4 * n * v)))
            for v in range(self.vectors)
        ]

    def values(self, pixel: int) -> list[Expr]:
        return [self.acc[i32(self._at(pixel, v))] for v in range(self.vectors)]

    def _at(self, pixel: int, vector: int) -> int:
        return pixel * self.vectors + vector
