"""Register tiles of the int8 dot product: the inner loop that convolution and dense layers share.

A tile computes ``pixels`` x ``channels`` accumulators. Each step consumes ``step_bytes`` input bytes of every
pixel and the matching weights of every channel, so each loaded word is used several times from registers.

| style | step | for |
|---|---|---|
| dsp   | 4 bytes: two SXTB16 and two SMLAD a word pair | Cortex-M4, M7, M33 |
| plain | 1 byte: load, load, MLA | Cortex-M3, and remainders |
| simd  | 1 byte of a pixel against 16 channels, a vector of whatever registers there are | host, 64-bit Arm |

Weights are packed ``[group][block][step][channel]``: a tile reads them in one forward run. The plain style
reads two channels of 4 bits from one byte (:func:`~irshrink.backends.tvm.kernels.packed.in_bytes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.packed import Form, in_bytes
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, cast, i32, inline, quotient
from irshrink.target import Target

Style = Literal["dsp", "plain", "simd"]

#: Channels that the vector helpers of the support header take at once.
VECTOR = 16
#: Products in a row that ``16 * a + b`` of any weights of 4 bits holds in int32.
_DEEPEST = 1 << 16


@dataclass(frozen=True)
class Tile:
    """A style and its size; a hashable argument of kernel generators.

    ``unroll`` steps are written out in the inner loop; with ``whole`` they are the whole depth, and there is
    no inner loop.
    """

    style: Style
    pixels: int
    channels: int
    unroll: int = 1
    whole: bool = False

    @property
    def step_bytes(self) -> int:
        return 4 if self.style == "dsp" else 1

    @property
    def weight_dtype(self) -> str:
        return "int32" if self.style == "dsp" else "int8"

    @property
    def suffix(self) -> str:
        unroll = f"x{self.unroll}" if self.whole else f"u{self.unroll}" if self.unroll > 1 else ""
        return f"{self.style}_{self.pixels}x{self.channels}{unroll}"

    def steps(self, depth: int) -> int:
        """Steps over ``depth`` contiguous bytes; the last may read past them, against zero weights."""
        return -(-depth // self.step_bytes)

    def overread(self, depth: int) -> int:
        """Bytes read past the end of a pixel."""
        return self.steps(depth) * self.step_bytes - depth


def choose_tile(target: Target, pixels: int, channels: int, depth: int, bits: int = 8) -> Tile:
    """The tile for ``pixels`` x ``channels`` sums of ``depth`` products (benchmarks/kernels.py).

    Args:
        bits: of the weights; two of 4 bits are read together.
    """
    if target.has("simd"):
        return Tile("simd", min(4, pixels), VECTOR if channels >= VECTOR else 1)
    style: Style = "dsp" if target.has("dsp") else "plain"
    if pixels == 1:
        size = (1, min(4, channels))
    elif target.has("thumb1"):  # eight registers: more sums would spill
        size = (1, 1) if bits == 8 else (1, min(4, channels))
    elif channels == 1:
        size = (min(4, pixels), 1)
    else:
        size = (2, 2)
    steps = Tile(style, *size).steps(depth)
    if style == "dsp" and steps <= 3:
        return Tile(style, *size, steps, whole=True)
    # a longer body spills on the dsp cores
    unroll = next(u for u in (4, 2, 1) if steps % u == 0) if style == "plain" else 1
    return Tile(style, *size, unroll)


def tile_candidates(target: Target, pixels: int, channels: int, depth: int) -> list[Tile]:
    """Every tile whose sums may stay in registers, at unrollings that divide the steps."""
    if target.has("simd"):
        width = VECTOR if channels >= VECTOR else 1
        return [Tile("simd", p, width) for p in range(1, min(8, pixels) + 1)]
    styles: tuple[Style, ...] = ("dsp", "plain") if target.has("dsp") else ("plain",)
    sizes = [
        (p, c) for p in range(1, min(6, pixels) + 1) for c in range(1, min(6, channels) + 1) if p * c <= 8
    ]
    found = []
    for style in styles:
        steps = Tile(style, 1, 1).steps(depth)
        unrolls = [(u, False) for u in (1, 2, 3, 4) if steps % u == 0]
        unrolls += [(steps, True)] if steps <= 8 else []
        found += [Tile(style, p, c, u, whole) for p, c in sizes for u, whole in unrolls]
    return found


def block_starts(channels: int, width: int) -> list[int]:
    """First channel of every block; the last block overlaps when ``width`` does not divide ``channels``."""
    return [min(start, channels - width) for start in range(0, channels, width)]


def pack_weights(weights: NDArray[np.int8], tile: Tile) -> NDArray[np.generic]:
    """Weights [group, channel, depth] as [group][block][step][channel][byte], the order of the inner loop."""
    groups, channels, depth = weights.shape
    steps = tile.steps(depth)
    padded = np.zeros((groups, channels, steps * tile.step_bytes), np.int8)
    padded[:, :, :depth] = weights
    starts = block_starts(channels, tile.channels)
    blocks = np.stack([padded[:, s : s + tile.channels] for s in starts], axis=1)
    split = blocks.reshape(groups, len(starts), tile.channels, steps, tile.step_bytes)
    packed = np.ascontiguousarray(split.transpose(0, 1, 3, 2, 4))
    return packed.view(np.int32).reshape(-1) if tile.style == "dsp" else packed.reshape(-1)


def stored_weights(weights: NDArray[np.int8], tile: Tile, bits: int) -> tuple[NDArray[np.generic], Form]:
    """:func:`pack_weights`, and how they lie in bytes: two in one where the tile reads such weights."""
    packed = pack_weights(weights, tile)
    if bits < 8 and tile.style == "plain" and tile.channels % 2 == 0 and weights.shape[2] <= _DEEPEST:
        return in_bytes(packed.view(np.int8))
    return packed, "bytes"


@dataclass
class Accumulators:
    """The accumulators of one tile and the code that feeds them.

    With weights in ``sums`` those of channels A and B, a pair, sum ``16 * a + b`` and ``b`` without biases.
    """

    f: Function
    tile: Tile
    sums: Buffer
    form: Form = "bytes"
    bias: tuple[Buffer, Expr] | None = None

    @staticmethod
    def allocate(f: Function, tile: Tile, form: Form = "bytes") -> Accumulators:
        return Accumulators(f, tile, f.local("acc", "int32", tile.pixels * tile.channels), form)

    @property
    def width(self) -> int:
        """Elements of the packed weights that a step takes."""
        return self.tile.channels if self.form == "bytes" else self.tile.channels // 2

    def start(self, bias: Buffer, channel: Expr) -> None:
        """Every accumulator begins at its channel's bias, if sums are of one channel."""
        self.bias = (bias, channel)
        for p in range(self.tile.pixels):
            if self.form == "sums":
                self._over_channels(lambda c, p=p: (self._at(p, c), i32(0)))
            else:
                self._over_channels(lambda c, p=p: (self._at(p, c), bias[channel + c]))

    def run(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, steps: Expr) -> None:
        """Feed one run of bytes: pixel p reads from byte ``at[p]``, weights from element ``w``."""
        unroll = self.tile.unroll
        if self.tile.whole:
            for u in range(unroll):
                self._step(x, at, weight, w, u)
            return
        with self.f.loop("k", quotient(steps, unroll) if unroll > 1 else steps) as k:
            for u in range(unroll):
                self._step(x, at, weight, w, k * unroll + u)

    def value(self, pixel: int, channel: Any) -> Expr:
        """The finished sum of one channel, bias included."""
        own = self.sums[self._at(pixel, channel)]
        if self.form != "sums":
            return own
        assert self.bias is not None
        bias, first = self.bias
        if channel % 2 == 0:
            own = (own - self.sums[self._at(pixel, channel + 1)]) >> 4
        return own + bias[first + channel]

    def _at(self, pixel: int, channel: Any) -> Expr:
        index = channel + pixel * self.tile.channels
        return i32(index)

    def _step(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, step: Any) -> None:
        xs, w = [p + step * self.tile.step_bytes for p in at], w + step * self.width
        if self.tile.style == "dsp":
            self._step_dsp(x, xs, weight, w)
        else:
            self._step_bytes(x, xs, weight, w)

    def _step_dsp(self, x: Buffer, xs: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        """The inputs' halves stay in registers, one weight word at a time passes by."""
        f, tile = self.f, self.tile
        halves = []
        for p, at in enumerate(xs):
            word = f.bind(f"x{p}", inline("int32", "irs_load32", address(x, at)))
            halves.append([f.bind(f"x{p}_{h}", inline("int32", f"irs_{h}", word)) for h in ("even", "odd")])
        for c in range(tile.channels):
            if c == tile.channels // 2 > 0:
                f.call("irs_fence")  # the next weights may wait: loading them now would spill sums
            word = f.bind(f"w{c}", weight[w + c])
            for half, name in enumerate(("even", "odd")):
                wh = f.bind(f"w{c}_{name}", inline("int32", f"irs_{name}", word))
                for p in range(tile.pixels):
                    at = self._at(p, c)
                    f.store(
                        self.sums, at, inline("int32", "irs_mla_dual", halves[p][half], wh, self.sums[at])
                    )

    def _step_bytes(self, x: Buffer, xs: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        f = self.f
        values = [f.bind(f"x{p}", cast("int32", x[at])) for p, at in enumerate(xs)]
        if self.tile.style == "simd" and self.tile.channels == VECTOR:
            for p, xv in enumerate(values):
                f.call("irs_mla16", address(self.sums, i32(p * VECTOR)), xv, address(weight, w))
            return
        if self.form != "bytes":
            self._step_pairs(values, weight, w)
            return
        for p, xv in enumerate(values):
            self._over_channels(
                lambda c, p=p, xv=xv: (
                    self._at(p, c),
                    self.sums[self._at(p, c)] + xv * cast("int32", weight[w + c]),
                )
            )

    def _step_pairs(self, values: Sequence[Expr], weight: Buffer, w: Expr) -> None:
        """A byte of two channels against all pixels: as it is or its upper half, and its lower half."""
        f = self.f
        for pair in range(self.width):
            both = f.bind(f"w{pair}", cast("int32", weight[w + pair]))
            low = f.bind(f"w{pair}_low", inline("int32", "irs_low_nibble", both))
            if self.form == "fields":
                both = f.bind(f"w{pair}_high", both >> 4)
            for p, x in enumerate(values):
                for c, operand in ((2 * pair, both), (2 * pair + 1, low)):
                    at = self._at(p, c)
                    f.store(self.sums, at, self.sums[at] + x * operand)

    def _over_channels(self, assign: Any) -> None:
        """A loop where the compiler shall vectorize, straight code where sums shall stay in registers."""
        if self.tile.style == "simd" and self.tile.channels > 1:
            with self.f.loop("c", self.tile.channels) as c:
                self.f.store(self.sums, *assign(c))
            return
        for c in range(self.tile.channels):
            self.f.store(self.sums, *assign(c))
