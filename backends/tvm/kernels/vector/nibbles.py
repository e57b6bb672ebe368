"""Weights of 4 bits in vectors: two channels share a byte, ``16 * A + B``.

A vector of such bytes is multiplied as it is, which sums ``16 * a + b``, and shifted left by 4, which sums
``16 * b``. Where weights of -8 are no such bytes, upper and lower halves are both taken out. That needs
neither memory nor a pass over the weights, for some instructions a result. Layers of few pixels have it,
whose weights are read a few times only; for all others unpacking first is cheaper
(:func:`~irshrink.backends.tvm.kernels.packed.unpacked_first`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irshrink.backends.tvm.kernels.packed import SUFFIXES
from irshrink.backends.tvm.kernels.vector.avx2 import Avx2, Avx2Sums
from irshrink.backends.tvm.kernels.vector.dotprod import DotProduct, DotSums
from irshrink.backends.tvm.kernels.vector.layer import Layer
from irshrink.backends.tvm.kernels.vector.micro import Int8, MicroKernel, VectorTile
from irshrink.backends.tvm.kernels.vector.neon import Neon, NeonSums
from irshrink.backends.tvm.kernels.vector.vnni import Vnni, VnniSums
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline
from irshrink.target import Target

#: Products in a row that ``16 * a + b`` of any weights of 4 bits holds in int32.
_DEEPEST = 1 << 16
#: Products in a row, for each pixel, from which on results cost less than unpacking would.
_DEEP = 8


def nibble_kernel(target: Target, weight: Int8, layer: Layer) -> MicroKernel | None:
    """The micro-kernel for weights [channel, ...] of 4 bits; None where unpacking first is better."""
    pixels, depth = layer.out[0] * layer.out[1], weight[0].size
    if _DEEP * pixels > depth or depth > _DEEPEST:
        return None
    kernel = _kernel(target, layer.group_out, bool((weight == -8).any()))
    return kernel if kernel is not None and kernel.tiles(1, layer.group_out) else None


def _kernel(target: Target, channels: int, fields: bool) -> MicroKernel | None:
    suffix = SUFFIXES["fields" if fields else "sums"]
    if target.has("vnni"):
        return NibbleVnni(16 if channels >= 32 else 8, fields=fields)
    if target.has("avx2"):
        return NibbleAvx2(name=f"avx2{suffix}", fields=fields)
    if not target.triple.startswith("aarch64-") or not target.has("neon"):
        return None
    if target.has("dotprod"):
        return NibbleDot(name=f"dot{suffix}", fields=fields)
    return NibbleNeon(name=f"neon{suffix}", fields=fields)


def shared_bytes(packed: Int8, width: int, fields: bool) -> Int8:
    """Neighbouring vectors of ``width`` bytes as one; B is unsigned with ``fields``."""
    first, second = packed.reshape(-1, 2, width).transpose(1, 0, 2).astype(np.int16)
    both: Int8 = (16 * first + (second & 15 if fields else second)).astype(np.int8)
    return both.reshape(-1)


def even_tiles(tiles: list[VectorTile], width: int) -> list[VectorTile]:
    """Those whose channels are a multiple of ``width``."""
    return [tile for tile in tiles if tile.channels % width == 0]


@dataclass(frozen=True)
class NibbleDot(DotProduct):
    """SDOT; vectors of four channels share bytes."""

    name: str = "dot_w4"
    fields: bool = False
    bits: ClassVar[int] = 4

    def stored(self, run: int) -> int:
        return super().stored(run) // 2

    def pack(self, weight: Int8) -> Int8:
        return shared_bytes(DotProduct().pack(weight), 16, self.fields)

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return even_tiles(super().tiles(pixels, channels), 8)

    def sums(self, f: Function, tile: VectorTile) -> NibbleDotSums:
        return NibbleDotSums(f, tile, self.fields)


class NibbleDotSums(DotSums):
    share: ClassVar[int] = 2

    def __init__(self, f: Function, tile: VectorTile, fields: bool) -> None:
        super().__init__(f, tile)
        self._fields = fields

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        self._bias = _neon_biases(bias, channel, self.tile)
        for i in range(self.tile.pixels * self.tile.channels // 4):
            self.f.store(self.acc, i, inline("int32x4", "irs_neon_zero"))

    def weights(self, weight: Buffer, w: Expr, several: range) -> list[Expr]:
        f, both = self.f, _neon_bytes(self.f, weight, w + 8 * several.start)
        high = f.bind("high", inline("int8x16", "irs_shared_high", both)) if self._fields else both
        return [high, f.bind("low", inline("int8x16", "irs_shared_low", both))]

    def values(self, pixel: int) -> list[Expr]:
        sums = super().values(pixel)
        parts = [part for i in range(0, len(sums), 2) for part in self._parts(*sums[i : i + 2])]
        return [inline("int32x4", "irs_neon_add", *both) for both in zip(parts, self._bias, strict=True)]

    def _parts(self, both: Expr, low: Expr) -> list[Expr]:
        b = self.f.bind("b", inline("int32x4", "irs_shared_second", low))
        if self._fields:
            return [inline("int32x4", "irs_shared_second", both), b]
        return [inline("int32x4", "irs_shared_first", both, b), b]


@dataclass(frozen=True)
class NibbleNeon(Neon):
    """SMULL and SMLAL2; neighbouring channels share bytes. No operand is -128, so two fit in 16 bits."""

    name: str = "neon_w4"
    fields: bool = False
    bits: ClassVar[int] = 4

    def stored(self, run: int) -> int:
        return super().stored(run) // 2

    def pack(self, weight: Int8) -> Int8:
        _, channels, runs, run = weight.shape
        whole = run // 16 * 16 + (16 if run % 16 > 8 else 0)
        parts = []
        for block in weight:
            for number in range(runs):
                for first, width in [(k, 16) for k in range(0, whole, 16)] + [(whole, 8)] * (whole < run):
                    chunk = np.zeros((channels, width), np.int8)
                    given = block[:, number, first : first + width]
                    chunk[:, : given.shape[1]] = given
                    parts.append(shared_bytes(chunk.reshape(-1), width, self.fields))
        return np.concatenate(parts)

    def sums(self, f: Function, tile: VectorTile) -> NibbleNeonSums:
        return NibbleNeonSums(f, tile, self.fields)


class NibbleNeonSums(NeonSums):
    share: ClassVar[int] = 2

    def __init__(self, f: Function, tile: VectorTile, fields: bool) -> None:
        super().__init__(f, tile, True)
        self._fields = fields

    def weights(self, weight: Buffer, w: Expr, channel: int) -> list[Expr]:
        return self._operands("int8x16", "", _neon_bytes(self.f, weight, w + 8 * channel))

    def half_weights(self, weight: Buffer, w: Expr) -> Iterator[Expr]:
        for c in range(0, self.tile.channels, 2):
            both = self.f.bind("w", inline("int8x8", "irs_neon_load8", address(weight, w + 4 * c)))
            yield from self._operands("int8x8", "8", both)

    def values(self, pixel: int) -> list[Expr]:
        if not self._fields:
            for at in range(pixel * self.tile.channels, (pixel + 1) * self.tile.channels, 2):
                both, low = self.acc[i32(at)], self.acc[i32(at + 1)]
                self.f.store(self.acc, at + 1, inline("int32x4", "irs_shared_second", low))
                self.f.store(self.acc, at, inline("int32x4", "irs_shared_first", both, low))
        return super().values(pixel)

    def _operands(self, dtype: str, suffix: str, both: Expr) -> list[Expr]:
        f = self.f
        if not self._fields:
            return [both, f.bind("low", inline(dtype, f"irs_shared_low{suffix}", both))]
        names = [f"irs_shared_{half}_field{suffix}" for half in ("high", "low")]
        return [f.bind("w", inline(dtype, name, both)) for name in names]


@dataclass(frozen=True)
class NibbleVnni(Vnni):
    """VPDPBUSD; vectors of ``lanes`` channels share bytes."""

    fields: bool = False
    bits: ClassVar[int] = 4

    @property
    def name(self) -> str:
        return f"{super().name}{'_w4f' if self.fields else '_w4'}"

    def stored(self, run: int) -> int:
        return super().stored(run) // 2

    def pack(self, weight: Int8) -> Int8:
        return shared_bytes(DotProduct().pack(weight), 4 * self.lanes, self.fields)

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return even_tiles(super().tiles(pixels, channels), 2 * self.lanes)

    def sums(self, f: Function, tile: VectorTile) -> NibbleVnniSums:
        return NibbleVnniSums(f, tile, self.lanes, self.fields)


class _X86Sums(VnniSums):
    """Sums without biases, and their parts."""

    share: ClassVar[int] = 2

    def __init__(self, f: Function, tile: VectorTile, lanes: int, fields: bool) -> None:
        super().__init__(f, tile, lanes)
        self.fields = fields

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        super().start(bias, channel, fed_first)
        load = f"irs_x86_load_i32x{self.lanes}"
        places = [address(bias, channel + self.lanes * v) for v in range(self.vectors)]
        self._bias = [inline(self.dtype, load, place) for place in places]
        for i in range(self.tile.pixels * self.vectors):
            self.f.store(self.acc, i, inline(self.dtype, f"irs_shared_zero{self.lanes}"))

    def values(self, pixel: int) -> list[Expr]:
        f, n, sums = self.f, self.lanes, super().values(pixel)
        parts = []
        for both, low in zip(sums[::2], sums[1::2], strict=True):
            b = f.bind("b", inline(self.dtype, f"irs_shared_second{n}", low))
            if self.fields:
                parts += [inline(self.dtype, f"irs_shared_second{n}", both), b]
            else:
                parts += [inline(self.dtype, f"irs_shared_first{n}", both, b), b]
        biased = zip(parts, self._bias, strict=True)
        return [inline(self.dtype, f"irs_shared_add{n}", part, bias) for part, bias in biased]


class NibbleVnniSums(_X86Sums):
    def weights(self, weight: Buffer, w: Expr) -> list[Expr]:
        f, n, found = self.f, self.lanes, []
        for v in range(self.vectors // 2):
            place = address(weight, w + 4 * n * v)
            both = f.bind(f"w{v}", inline(self.dtype, f"irs_x86_load_i32x{n}_s8", place))
            high = inline(self.dtype, f"irs_shared_high{n}", both) if self.fields else both
            low = inline(self.dtype, f"irs_shared_low{n}", both)
            found += [f.bind(f"w{v}_high", high), f.bind(f"w{v}_low", low)]
        return found


@dataclass(frozen=True)
class NibbleAvx2(Avx2):
    """VPMADDWD; vectors of eight channels share bytes."""

    name: str = "avx2_w4"
    fields: bool = False
    bits: ClassVar[int] = 4

    def stored(self, run: int) -> int:
        return super().stored(run) // 2

    def pack(self, weight: Int8) -> Int8:
        return shared_bytes(Avx2().pack(weight), 16, self.fields)

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return even_tiles(super().tiles(pixels, channels), 16)

    def sums(self, f: Function, tile: VectorTile) -> NibbleAvx2Sums:
        return NibbleAvx2Sums(f, tile, 8, self.fields)


class NibbleAvx2Sums(_X86Sums, Avx2Sums):
    def weights(self, weight: Buffer, w: Expr) -> list[Expr]:
        f, found = self.f, []
        for v in range(self.vectors // 2):
            both = f.bind(f"w{v}", inline(self.dtype, "irs_x86_widen8", address(weight, w + 16 * v)))
            high = inline(self.dtype, "irs_shared_widened_high8", both) if self.fields else both
            low = inline(self.dtype, "irs_shared_widened8", both)
            found += [f.bind(f"w{v}_high", high), f.bind(f"w{v}_low", low)]
        return found


def _neon_biases(bias: Buffer, channel: Expr, tile: VectorTile) -> list[Expr]:
    places = [address(bias, channel + c) for c in range(0, tile.channels, 4)]
    return [inline("int32x4", "irs_neon_load_i32", place) for place in places]


def _neon_bytes(f: Function, weight: Buffer, w: Expr) -> Expr:
    return f.bind("w", inline("int8x16", "irs_neon_load", address(weight, w)))
