"""VPMADDWD (AVX2): pairs of bytes, widened to 16 bits, of 8 channels against one pair of a pixel.

Two products of widened bytes and their sum are exact in 32 bits for every x and w. VPMADDUBSW takes bytes as
they are, but its sums saturate at 16 bits.
The weights lie ``[block][run][pair][channel][2]`` as bytes and are widened as they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.vector.columns import VnniColumns
from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32, VectorTile
from irshrink.backends.tvm.kernels.vector.vnni import VnniSums
from irshrink.backends.tvm.kernels.vector.x86_results import X86Results
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Vector registers, less what holds products and a pixel.
_REGISTERS = 14


@dataclass(frozen=True)
class Avx2:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`."""

    lanes: int = 8
    copies_short_runs: bool = True
    header: str = "irs_x86"
    element: str = "s8"
    name: str = "avx2"

    def stored(self, run: int) -> int:
        return -(-run // 2) * 2

    def pack(self, weight: Int8) -> Int8:
        blocks, channels, runs, run = weight.shape
        padded = np.zeros((blocks, channels, runs, self.stored(run)), np.int8)
        padded[..., :run] = weight
        pairs = padded.reshape(blocks, channels, runs, -1, 2).transpose(0, 2, 3, 1, 4)
        return np.ascontiguousarray(pairs).reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return [
            VectorTile(p, 8 * v)
            for v in (4, 3, 2, 1)
            for p in range(1, min(pixels, _REGISTERS) + 1)
            if 8 * v <= channels and p * v + v <= _REGISTERS
        ]

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        pairs, vectors = self.stored(run) // 2, tile.channels // 8
        return runs * pairs * (vectors + 2.5 * tile.pixels + 2 * vectors * tile.pixels)

    def sums(self, f: Function, tile: VectorTile) -> Avx2Sums:
        return Avx2Sums(f, tile, 8)

    def results(self) -> type[X86Results]:
        return X86Results


class Avx2Sums(VnniSums):
    """Steps of two bytes."""

    unit: ClassVar[int] = 2

    def step(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        f, weights = self.f, self.weights(weight, w)
        for p, place in enumerate(at):
            pair = f.bind(f"x{p}", inline(self.dtype, "irs_x86_pair8", address(x, place)))
            for v, vector in enumerate(weights):
                here = self._at(p, v)
                f.store(
                    self.acc, here, inline(self.dtype, "irs_x86_pairs8", self.acc[i32(here)], pair, vector)
                )

    def weights(self, weight: Buffer, w: Expr) -> list[Expr]:
        return [
            self.f.bind(f"w{v}", inline(self.dtype, "irs_x86_widen8", address(weight, w + 16 * v)))
            for v in range(self.vectors)
        ]


@dataclass(frozen=True)
class Avx2Columns(VnniColumns):
    """Depthwise taps: two rows of one column of the window in every lane."""

    lanes: int = 8
    each: ClassVar[int] = 2
    functions: ClassVar[tuple[str, str, str]] = ("widen{}", "rows{}", "pairs{}")
    most_kept: ClassVar[int] = 6
    registers: ClassVar[int] = 11

    @property
    def name(self) -> str:
        return "avx2"

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias
