"""int8 depthwise convolution: a few channels of a few pixels at a time, one tap after the other.

Rows always come from a ring, so that the output may overwrite the input: a depthwise layer then needs one
image and a few rows instead of two images.

A tap of the dsp style is one word of four channels: two SXTB16 split it into pairs, and SMLABB / SMLATT add
each channel's product to its own accumulator. The weights' halves serve all pixels of the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.ring import Ring
from irshrink.backends.tvm.kernels.tiles import Style, block_starts
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    cast,
    constant,
    inline,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvInt8
from irshrink.program.program import Program
from irshrink.target import Target


@dataclass(frozen=True)
class DepthwiseTile:
    """``pixels`` x ``channels`` accumulators; ``columns`` of the filter are unrolled (0: a loop)."""

    style: Style
    pixels: int
    channels: int
    columns: int = 0

    @property
    def suffix(self) -> str:
        return f"{self.style}_{self.pixels}x{self.channels}" + (f"_k{self.columns}" if self.columns else "")


def select_depthwise(op: ConvInt8, program: Program, target: Target) -> KernelCall:
    """The depthwise kernel for this layer; other channel multipliers than 1 go one channel at a time."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    _, out_h, out_w, channels = y.shape
    multiplier = channels // x.shape[3]
    tile = _choose(target, out_w, channels, multiplier, op.window.kernel[1])
    ring = Ring.of(op.window, x.shape, y.shape, op.input_zero_point)
    epilogue = Epilogue.of(op.requantization, op.residual)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", _pack(op.weight[:, :, :, 0], tile)),
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels, op.residual),
        Output(),
        *(out_h, out_w, -(-out_w // tile.pixels), channels, multiplier, *op.window.kernel),
        op.window.strides[1] * x.shape[3],
        op.window.dilations[1] * x.shape[3],
        Workspace(),
        *ring.arguments(),
    ]
    overlaps = out_w % tile.pixels != 0 or channels % tile.channels != 0
    in_place = [0] if ring.in_place else []
    if op.residual is not None and not overlaps:
        in_place.append(1)
    return KernelCall(
        function=depthwise(tile, epilogue),
        arguments=tuple(arguments),
        workspace_bytes=ring.nbytes,
        in_place=tuple(in_place),
    )


def _choose(target: Target, out_w: int, channels: int, multiplier: int, columns: int) -> DepthwiseTile:
    if target.has("simd") and channels >= 16 and multiplier == 1:
        return DepthwiseTile("simd", 1, 16)
    if target.has("dsp") and channels >= 4 and multiplier == 1:
        return DepthwiseTile("dsp", min(2, out_w), 4, columns if columns <= 5 else 0)
    return DepthwiseTile("plain", min(4, out_w), 1)


def _pack(taps: NDArray[np.int8], tile: DepthwiseTile) -> NDArray[np.generic]:
    """Weights [C, kh, kw] as [block][ky][kx][channel], words of four channels for dsp."""
    blocks = np.stack([taps[s : s + tile.channels] for s in block_starts(len(taps), tile.channels)])
    packed = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1)).reshape(-1)
    return packed.view(np.int32) if tile.style == "dsp" else packed


@cache
def depthwise(tile: DepthwiseTile, epilogue: Epilogue) -> TirFunction:
    """The C function for one tile and epilogue; all sizes are run-time arguments."""
    extra = epilogue.parameters()
    sizes = ("out_h", "out_w", "tiles", "channels", "multiplier_in", "rows", "columns", "pixel_step", "column_step")
    with Function(f"depthwise_s8_{tile.suffix}{epilogue.suffix}", "Depthwise convolution of int8.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", "int32" if tile.style == "dsp" else "int8"),
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            *scalars(*sizes),
            *Ring.parameters(),
        )
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        out_h, out_w, tiles, channels, multiplier, rows, columns, pixel_step, column_step = rest[:9]
        columns = tile.columns or columns
        taps = _Taps(f, tile, weight, f.local("acc", "int32", tile.pixels * tile.channels))
        with f.loop("out_y", out_h) as oy:
            ring = Ring.emit(f, rest[9:], x, oy)
            with f.loop("b", quotient(channels + (tile.channels - 1), tile.channels)) as b:
                channel = f.bind("channel", minimum(b * tile.channels, channels - tile.channels))
                source = quotient(channel, multiplier) if tile.channels == 1 else channel
                with f.loop("t", tiles) as t:
                    column = f.bind("column", minimum(t * tile.pixels, out_w - tile.pixels))
                    taps.start(bias, channel)
                    with f.loop("ky", rows) as ky:
                        start = f.bind("start", ring.row(f, ky) + column * pixel_step + source)
                        w = f.bind("w", (b * rows + ky) * columns)
                        taps.row(ring.rows, start, pixel_step, column_step, w, columns)
                    taps.finish(given, epilogue, y, (oy * out_w + column) * channels + channel, channels, channel)
    return f.result


@dataclass
class _Taps:
    """Accumulators of one tile and the code for one filter row."""

    f: Function
    tile: DepthwiseTile
    weight: Buffer
    sums: Buffer

    def start(self, bias: Buffer, channel: Expr) -> None:
        for p in range(self.tile.pixels):
            self._each(lambda c, p=p: (self._at(p, c), bias[channel + c]))

    def row(self, x: Buffer, start: Expr, pixel_step: Expr, column_step: Expr, w: Expr, columns: Any) -> None:
        """All taps of one filter row; unrolled when the tile knows how many there are."""
        if not self.tile.columns:
            with self.f.loop("kx", columns) as kx:
                self._tap(x, start + kx * column_step, pixel_step, w + kx)
            return
        for kx in range(self.tile.columns):
            self._tap(x, start + column_step * kx, pixel_step, w + kx)

    def finish(
        self, given: Any, epilogue: Epilogue, y: Buffer, out: Expr, pixel_out: Expr, channel: Expr
    ) -> None:
        """Store the tile; ``pixel_out`` is the distance of two pixels in the output."""
        for p in range(self.tile.pixels):
            for c in range(self.tile.channels):
                acc = self.sums[self._at(p, c)]
                epilogue.emit(self.f, given, acc, channel + c, y, out + pixel_out * p + c)

    def _tap(self, x: Buffer, at: Expr, pixel_step: Expr, w: Expr) -> None:
        if self.tile.style == "dsp":
            self._tap_dsp(x, at, pixel_step, w)
            return
        for p in range(self.tile.pixels):
            place = at + pixel_step * p
            self._each(
                lambda c, p=p, place=place: (
                    self._at(p, c),
                    self.sums[self._at(p, c)]
                    + cast("int32", x[place + c]) * cast("int32", self.weight[w * self.tile.channels + c]),
                )
            )

    def _tap_dsp(self, x: Buffer, at: Expr, pixel_step: Expr, w: Expr) -> None:
        f = self.f
        word = f.bind("w4", self.weight[w])
        words = [
            f.bind(f"x{p}", inline("int32", "irs_load32", address(x, at + pixel_step * p)))
            for p in range(self.tile.pixels)
        ]
        for half, channels in (("even", (0, 2)), ("odd", (1, 3))):
            wh = f.bind(f"w_{half}", inline("int32", f"irs_{half}", word))
            for p, xw in enumerate(words):
                xh = f.bind(f"x{p}_{half}", inline("int32", f"irs_{half}", xw))
                for part, c in zip(("low", "high"), channels, strict=True):
                    i = self._at(p, c)
                    f.store(self.sums, i, inline("int32", f"irs_mla_{part}", xh, wh, self.sums[i]))

    def _at(self, pixel: int, channel: Any) -> Any:
        return channel + pixel * self.tile.channels

    def _each(self, assign: Any) -> None:
        if self.tile.style == "simd":
            with self.f.loop("c", self.tile.channels) as c:
                self.f.store(self.sums, *assign(c))
            return
        for c in range(self.tile.channels):
            self.f.store(self.sums, *assign(c))
