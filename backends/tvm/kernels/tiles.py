"""Register tiles of the int8 dot product: the inner loop that convolution and dense layers share.

A tile computes ``pixels`` x ``channels`` accumulators. Each step consumes ``step_bytes`` input bytes of every
pixel and the matching weights of every channel, so each loaded word is used several times from registers.

| style | step | for |
|---|---|---|
| dsp   | 4 bytes: two SXTB16 and two SMLAD a word pair | Cortex-M4, M7, M33 |
| plain | 1 byte: load, load, MLA | Cortex-M3, and remainders |
| simd  | 1 byte of a pixel against 16 channels, a loop that compilers vectorize | host |

Weights are packed ``[block][segment][step][channel]``: a tile reads them in one forward run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, cast, i32, inline, quotient
from irshrink.target import Target

Style = Literal["dsp", "plain", "simd"]


@dataclass(frozen=True)
class Tile:
    """A style and its size; a hashable argument of kernel generators."""

    style: Style
    pixels: int
    channels: int
    unroll: int = 1

    @property
    def step_bytes(self) -> int:
        return 4 if self.style == "dsp" else 1

    @property
    def weight_dtype(self) -> str:
        return "int32" if self.style == "dsp" else "int8"

    @property
    def suffix(self) -> str:
        unroll = f"u{self.unroll}" if self.unroll > 1 else ""
        return f"{self.style}_{self.pixels}x{self.channels}{unroll}"

    def steps(self, segment_bytes: int) -> int:
        """Steps over one contiguous run of input bytes; the last may read past it, against zero weights."""
        return -(-segment_bytes // self.step_bytes)

    def overread(self, segment_bytes: int) -> int:
        """Bytes read past the end of a segment."""
        return self.steps(segment_bytes) * self.step_bytes - segment_bytes


def choose_tile(target: Target, pixels: int, channels: int, segment_bytes: int) -> Tile:
    """The tile for an output of ``pixels`` x ``channels``; measured in benchmarks/kernels.py."""
    if target.has("simd"):
        return Tile("simd", min(4, pixels), 16 if channels >= 16 else 1)
    style: Style = "dsp" if target.has("dsp") else "plain"
    if pixels == 1:
        size = (1, min(4, channels))
    elif channels == 1:
        size = (min(4, pixels), 1)
    else:
        size = (2, 2)
    steps = Tile(style, *size).steps(segment_bytes)
    unroll = next(u for u in (4, 2, 1) if steps % u == 0) if style == "plain" else 2 - steps % 2
    return Tile(style, *size, unroll)


def block_starts(channels: int, width: int) -> list[int]:
    """First channel of every block; the last block overlaps when ``width`` does not divide ``channels``."""
    return [min(start, channels - width) for start in range(0, channels, width)]


def pack_weights(segments: NDArray[np.int8], tile: Tile) -> NDArray[np.generic]:
    """Weights [channel, segment, bytes] in the order in which a tile reads them."""
    channels, count, nbytes = segments.shape
    steps = tile.steps(nbytes)
    padded = np.zeros((channels, count, steps * tile.step_bytes), np.int8)
    padded[:, :, :nbytes] = segments
    blocks = np.stack([padded[s : s + tile.channels] for s in block_starts(channels, tile.channels)])
    split = blocks.reshape(len(blocks), tile.channels, count, steps, tile.step_bytes)
    packed = np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4))
    return packed.view(np.int32).reshape(-1) if tile.style == "dsp" else packed.reshape(-1)


@dataclass
class Accumulators:
    """The accumulators of one tile and the code that feeds them."""

    f: Function
    tile: Tile
    sums: Buffer

    @staticmethod
    def allocate(f: Function, tile: Tile) -> Accumulators:
        return Accumulators(f, tile, f.local("acc", "int32", tile.pixels * tile.channels))

    def start(self, bias: Buffer, channel: Expr) -> None:
        """Every accumulator begins at its channel's bias."""
        for p in range(self.tile.pixels):
            self._over_channels(lambda c, p=p: (self._at(p, c), bias[channel + c]))

    def run(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, steps: Expr) -> None:
        """Feed one segment: pixel p reads from byte ``at[p]``, weights from element ``w``."""
        unroll, tile = self.tile.unroll, self.tile
        with self.f.loop("k", quotient(steps, unroll) if unroll > 1 else steps) as k:
            for u in range(unroll):
                step = k * unroll + u
                xs = [p + step * tile.step_bytes for p in at]
                self._step(x, xs, weight, w + step * tile.channels)

    def value(self, pixel: int, channel: Any) -> Expr:
        return self.sums[self._at(pixel, channel)]

    def _at(self, pixel: int, channel: Any) -> Expr:
        index = channel + pixel * self.tile.channels
        return i32(index)

    def _step(self, x: Buffer, xs: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        if self.tile.style == "dsp":
            self._step_dsp(x, xs, weight, w)
        else:
            self._step_bytes(x, xs, weight, w)

    def _step_dsp(self, x: Buffer, xs: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        f, tile = self.f, self.tile
        words = [f.bind(f"x{p}", inline("int32", "irs_load32", address(x, at))) for p, at in enumerate(xs)]
        weights = [f.bind(f"w{c}", weight[w + c]) for c in range(tile.channels)]
        for half in ("even", "odd"):
            ws = [f.bind(f"w{c}_{half}", inline("int32", f"irs_{half}", v)) for c, v in enumerate(weights)]
            for p in range(tile.pixels):
                xh = f.bind(f"x{p}_{half}", inline("int32", f"irs_{half}", words[p]))
                for c in range(tile.channels):
                    at = self._at(p, c)
                    f.store(self.sums, at, inline("int32", "irs_mla_dual", xh, ws[c], self.sums[at]))

    def _step_bytes(self, x: Buffer, xs: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        f = self.f
        values = [f.bind(f"x{p}", cast("int32", x[at])) for p, at in enumerate(xs)]
        for p, xv in enumerate(values):
            self._over_channels(
                lambda c, p=p, xv=xv: (
                    self._at(p, c),
                    self.sums[self._at(p, c)] + xv * cast("int32", weight[w + c]),
                )
            )

    def _over_channels(self, assign: Any) -> None:
        """A loop where the compiler shall vectorize, straight code where sums shall stay in registers."""
        if self.tile.style == "simd" and self.tile.channels > 1:
            with self.f.loop("c", self.tile.channels) as c:
                self.f.store(self.sums, *assign(c))
            return
        for c in range(self.tile.channels):
            self.f.store(self.sums, *assign(c))
