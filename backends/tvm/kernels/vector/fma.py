"""Fused multiply-add of float32: 64-bit Arm by lane, x86-64 with AVX-512 from memory.

Geometry counts bytes: a run of n numbers has 4 n bytes. Weights are packed ``[block][run][k][channel]``: each
step takes one number of every pixel and all channels, in the order that the sums are defined in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.vector.micro import TileKernel, VectorTile
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline

#: Steps of four numbers (Arm) or of one (x86) that are written out; longer runs become a loop.
_WRITTEN_OUT = 4


def as_stored(numbers: NDArray[Any]) -> NDArray[Any]:
    """Constants as a kernel has them: float32, or the bits of float16."""
    flat = np.ascontiguousarray(numbers)
    return flat.view(np.int16) if flat.dtype == np.float16 else flat.astype(np.float32)


@dataclass(frozen=True)
class Fma:
    """What all share; see :class:`~irshrink.backends.tvm.kernels.vector.micro.TileKernel`."""

    lanes: int
    header: str
    copies_short_runs: bool = False
    element: str = "f32"

    @property
    def name(self) -> str:
        return f"fma{self.lanes}"

    @property
    def nbytes(self) -> int:
        """Of a number."""
        return int(self.element[1:]) // 8

    @property
    def dtype(self) -> str:
        """Of a vector."""
        return f"float{self.element[1:]}x{self.lanes}"

    @property
    def form(self) -> str:
        """A vector in the names of functions."""
        return f"{self.element}x{self.lanes}"

    @property
    def functions(self) -> str:
        """Prefix of the C functions that compute."""
        return self.header

    def stored(self, run: int) -> int:
        return run

    def pack(self, weight: NDArray[Any]) -> NDArray[np.int8]:
        """Weights [block, channel, run, k] in the order of the inner loop, as bytes."""
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(-1).view(np.int8)

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        """Sizes whose sums stay in registers, none larger than the layer."""
        vectors = range(min(channels // self.lanes, 8), 0, -1)
        sizes = ((p, v) for v in vectors for p in range(1, min(pixels, 14) + 1))
        return [VectorTile(p, v * self.lanes) for p, v in sizes if self.registers(p, v) <= 32]

    def registers(self, pixels: int, vectors: int) -> int:
        """Vector registers that a tile takes."""
        return (pixels + 1) * (vectors + 1)


class FmaKernel(TileKernel, Protocol):
    """A tile kernel that :class:`Fma` is the beginning of."""

    @property
    def nbytes(self) -> int: ...

    @property
    def dtype(self) -> str: ...

    @property
    def form(self) -> str: ...

    @property
    def functions(self) -> str: ...

    def pack(self, weight: NDArray[Any]) -> NDArray[np.int8]:
        """See :class:`Fma`."""


@dataclass(frozen=True)
class NeonFma(Fma):
    """FMLA by lane: four numbers of a pixel are loaded at once, each meets the weights of its step."""

    lanes: int = 4
    header: str = "irs_neon"

    def registers(self, pixels: int, vectors: int) -> int:
        return pixels * (vectors + 1) + 2

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        steps, vectors = run // 4, tile.channels // self.lanes
        loop = 0.0 if run // 16 <= _WRITTEN_OUT else steps * 0.75
        each = steps * vectors * (tile.pixels + 0.5) + -(-steps // 4) * tile.pixels + loop
        return runs * each + tile.pixels * vectors

    def sums(self, f: Function, tile: VectorTile) -> NeonFmaSums:
        return NeonFmaSums(f, tile, self)


@dataclass(frozen=True)
class X86Fma(Fma):
    """VFMADD with a number from memory, spread by the instruction."""

    lanes: int = 16
    header: str = "irs_x86"

    def registers(self, pixels: int, vectors: int) -> int:
        return (pixels + 1) * vectors + 1

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        steps, vectors = run // 4, tile.channels // self.lanes
        loop = 0.0 if steps <= _WRITTEN_OUT else steps * 0.5
        return runs * (steps * vectors * (tile.pixels + 1) + loop) + tile.pixels * vectors

    def sums(self, f: Function, tile: VectorTile) -> X86FmaSums:
        return X86FmaSums(f, tile, self)


class FmaSums:
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`."""

    def __init__(self, f: Function, tile: VectorTile, micro: Fma) -> None:
        self.f, self.tile, self.micro = f, tile, micro
        self.vectors, self.dtype = tile.channels // micro.lanes, micro.dtype
        self.acc = f.local("acc", self.dtype, tile.pixels * self.vectors)

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        for v in range(self.vectors):
            place = address(bias, channel + self.micro.lanes * v)
            name = f"{self.micro.functions}_load_{self.micro.form}"
            start = self.f.bind(f"b{v}", inline(self.dtype, name, place))
            for p in range(self.tile.pixels):
                self.f.store(self.acc, self.at(p, v), start)

    def start_at_zero(self) -> None:
        """Instead of ``start``, where the bias is added later."""
        zero = self.f.bind("zero", inline(self.dtype, f"{self.micro.functions}_zero_{self.micro.form}"))
        for place in range(self.tile.pixels * self.vectors):
            self.f.store(self.acc, place, zero)

    def values(self, pixel: int) -> list[Expr]:
        return [self.acc[i32(self.at(pixel, v))] for v in range(self.vectors)]

    def at(self, pixel: int, vector: int) -> int:
        return pixel * self.vectors + vector

    def _floats(self, buffer: Buffer, at: Expr) -> Expr:
        """A vector of numbers that lie among bytes."""
        return inline(self.dtype, f"{self.micro.functions}_floats{self.micro.lanes}", address(buffer, at))


class NeonFmaSums(FmaSums):
    """Steps of four numbers, and what is left."""

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        whole, tail, step = nbytes // 16, nbytes % 16 // 4, 16 * self.tile.channels
        if whole <= _WRITTEN_OUT:
            for k in range(whole):
                self._steps(x, [a + 16 * k for a in at], weight, w + step * k, 4)
        else:
            with self.f.loop("k", whole) as k:
                self._steps(x, [a + k * 16 for a in at], weight, w + k * step, 4)
        if tail:
            self._steps(x, [a + 16 * whole for a in at], weight, w + step * whole, tail)

    def _steps(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, steps: int) -> None:
        f = self.f
        pixels = [f.bind(f"x{p}", self._floats(x, a)) for p, a in enumerate(at)]
        for lane in range(steps):
            f.call("irs_fence")  # loading further weights early would spill sums
            for v in range(self.vectors):
                weights = f.bind("w", self._floats(weight, w + (4 * self.tile.channels * lane + 16 * v)))
                for p, pixel in enumerate(pixels):
                    here = self.at(p, v)
                    acc = self.acc[i32(here)]
                    f.store(
                        self.acc, here, inline(self.dtype, "irs_neon_fma_lane", acc, weights, pixel, lane)
                    )


class X86FmaSums(FmaSums):
    """Steps of one number."""

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        steps, step = nbytes // 4, 4 * self.tile.channels
        looped = steps // _WRITTEN_OUT * _WRITTEN_OUT if steps > _WRITTEN_OUT else 0
        if looped:
            with self.f.loop("k", looped // _WRITTEN_OUT) as k:
                for u in range(_WRITTEN_OUT):
                    moved = [a + (k * (4 * _WRITTEN_OUT) + 4 * u) for a in at]
                    self._step(x, moved, weight, w + (k * (_WRITTEN_OUT * step) + u * step))
        for k in range(looped, steps):
            self._step(x, [a + 4 * k for a in at], weight, w + step * k)

    def _step(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        f, n = self.f, self.micro.lanes
        weights = [f.bind(f"w{v}", self._floats(weight, w + 4 * n * v)) for v in range(self.vectors)]
        for p, place in enumerate(at):
            number = f.bind(f"x{p}", inline(self.dtype, f"irs_x86_spread_f32x{n}", address(x, place)))
            for v, vector in enumerate(weights):
                here = self.at(p, v)
                total = inline(self.dtype, f"irs_x86_fma{n}", self.acc[i32(here)], number, vector)
                f.store(self.acc, here, total)
