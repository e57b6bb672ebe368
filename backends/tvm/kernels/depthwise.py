"""int8 depthwise convolution: a few channels of a few neighbouring pixels at a time.

Rows come from a ring, so that the output may overwrite the input: a depthwise layer then needs one image and
a few rows instead of two images.

The dsp style takes four channels in two passes, bytes 0 and 2 of each word, then bytes 1 and 3: SXTB16 gives
a pair of channels, SMLABB and SMLATT add each one's product to its own accumulator. A word of the input
serves every pixel of the tile whose window it lies in, so stride and dilation along the row are arguments of
the generator. Two passes cost the loads twice; one would need more accumulators than there are registers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.ring import Ring, RingRows
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
from irshrink.program.ops import ConvInt8, Window
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target


@dataclass(frozen=True)
class DepthwiseTile:
    """``pixels`` x ``channels`` outputs at a time; a hashable argument of the generator.

    ``rows`` and ``columns`` of the filter are written out where they are not 0; ``stride`` and ``dilation``
    are those along the row, for the dsp style.
    """

    style: Style
    pixels: int
    channels: int
    rows: int = 0
    columns: int = 0
    stride: int = 1
    dilation: int = 1

    def sizes(self) -> list[str]:
        """The sizes that are run-time arguments of the kernel, in order."""
        names = ["out_h", "out_w", "tiles", "channels", "pixel_step"]
        names += ["multiplier_in"] if self.channels == 1 else []
        names += ["rows"] if not self.rows else []
        names += ["columns"] if not self.columns else []
        return names + (["column_step"] if self.style != "dsp" or not self.columns else [])

    @property
    def suffix(self) -> str:
        text = f"{self.style}_{self.pixels}x{self.channels}"
        if self.style != "dsp":
            return f"{text}_k{self.rows}x{self.columns}" if self.rows and self.columns else text
        dilation = f"d{self.dilation}" if self.dilation > 1 else ""
        return f"{text}_k{self.rows or 'n'}x{self.columns}s{self.stride}{dilation}"


def select_depthwise(
    op: ConvInt8, program: Program, target: Target, schedule: DepthwiseTile | None = None
) -> KernelCall:
    """The depthwise kernel for one image; channel multipliers above 1 go one channel at a time."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    _, out_h, out_w, channels = y.shape
    multiplier = channels // x.shape[3]
    tile = schedule or _choose(target, out_w, channels, multiplier, op.window)
    ring = Ring.of(op.window, x.shape, y.shape, op.input_zero_point)
    epilogue = Epilogue.of(op.requantization, op.residual)
    sizes = {
        "out_h": out_h,
        "out_w": out_w,
        "tiles": -(-out_w // tile.pixels),
        "channels": channels,
        "pixel_step": op.window.strides[1] * x.shape[3],
        "multiplier_in": multiplier,
        "rows": op.window.kernel[0],
        "columns": op.window.kernel[1],
        "column_step": op.window.dilations[1] * x.shape[3],
    }
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", _pack(op.weight[:, :, :, 0], tile)),
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels, op.residual),
        Output(),
        *(sizes[name] for name in tile.sizes()),
        Workspace(),
        *ring.arguments(),
    ]
    overlaps = out_w % tile.pixels != 0 or channels % tile.channels != 0
    distances, reaches = [(0, ring.distance)], [ring.reach]
    if op.residual is not None:
        distances.append((1, out_w * channels))
        reaches.append(Reach())
    return KernelCall(
        function=depthwise(tile, epilogue),
        arguments=tuple(arguments),
        workspace_bytes=ring.nbytes,
        in_place=(1,) if op.residual is not None and not overlaps else (),
        distances=tuple(distances),
        rows=RowCall(tuple(reaches), out_rows="out_h", in_rows="in_rows", pad_top="pad_top", ring=True),
        schedule=tile,
    )


def depthwise_candidates(op: ConvInt8, program: Program, target: Target) -> list[DepthwiseTile]:
    """The rule's style in all its sizes."""
    _, _, out_w, channels = program.tensors[op.output].shape
    multiplier = channels // program.tensors[op.inputs[0]].shape[3]
    rule = _choose(target, out_w, channels, multiplier, op.window)
    widths = range(1, min(5, out_w) + 1)
    if rule.style == "plain":
        sizes = dict.fromkeys(((0, 0), (rule.rows, rule.columns)))
        return [replace(rule, pixels=p, rows=r, columns=c) for p in widths for r, c in sizes]
    written_out = {0, rule.rows, op.window.kernel[0]} if rule.style == "dsp" else {0}
    return [replace(rule, pixels=p, rows=r) for p in widths for r in sorted(written_out)]


def _choose(target: Target, out_w: int, channels: int, multiplier: int, window: Window) -> DepthwiseTile:
    if target.has("simd") and channels >= 16 and multiplier == 1:
        return DepthwiseTile("simd", 1, 16)
    rows, columns = window.kernel
    if target.has("dsp") and channels >= 4 and multiplier == 1 and columns <= 7:
        written_out = rows if rows * columns <= 9 else 0
        return DepthwiseTile(
            "dsp", min(3, out_w), 4, written_out, columns, window.strides[1], window.dilations[1]
        )
    if rows * columns <= 9:
        # loops around one product take more than the product; further pixels spill their sums
        return DepthwiseTile("plain", 1, 1, rows, columns)
    return DepthwiseTile("plain", min(4, out_w), 1)


def _pack(taps: NDArray[np.int8], tile: DepthwiseTile) -> NDArray[np.generic]:
    """Weights [C, kh, kw] as [block][ky][kx][channel], words of four channels for dsp."""
    blocks = np.stack([taps[s : s + tile.channels] for s in block_starts(len(taps), tile.channels)])
    packed = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1)).reshape(-1)
    return packed.view(np.int32) if tile.style == "dsp" else packed


@cache
def depthwise(tile: DepthwiseTile, epilogue: Epilogue) -> TirFunction:
    """The C function for one tile and epilogue; the remaining sizes are run-time arguments."""
    extra, names = epilogue.parameters(), tile.sizes()
    with Function(f"depthwise_s8_{tile.suffix}{epilogue.suffix}", "Depthwise convolution of int8.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", "int32" if tile.style == "dsp" else "int8"),
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            *scalars(*names),
            *Ring.parameters(),
        )
        given, (y, *sizes) = rest[: len(extra)], rest[len(extra) :]
        n = dict(zip(names, sizes, strict=False))
        body = _Body(f, tile, epilogue, given, weight, bias, y, n)
        with f.share("out_y", n["out_h"]) as oy:
            ring = Ring.emit(f, sizes[len(names) :], x, oy)
            rows = [f.bind(f"row{ky}", ring.row(f, ky)) for ky in range(tile.rows)]
            with f.loop("b", quotient(n["channels"] + (tile.channels - 1), tile.channels)) as b:
                channel = f.bind("channel", minimum(b * tile.channels, n["channels"] - tile.channels))
                with f.loop("t", n["tiles"]) as t:
                    column = f.bind("column", minimum(t * tile.pixels, n["out_w"] - tile.pixels))
                    out = f.bind("out", (oy * n["out_w"] + column) * n["channels"] + channel)
                    body.tile(ring, rows, b, column, channel, out)
    return f.result


@dataclass
class _Body:
    """The inside of the loops."""

    f: Function
    kind: DepthwiseTile
    epilogue: Epilogue
    given: list[Any]
    weight: Buffer
    bias: Buffer
    y: Buffer
    n: dict[str, Expr]

    def tile(
        self, ring: RingRows, rows: list[Expr], block: Expr, column: Expr, channel: Expr, out: Expr
    ) -> None:
        """``pixels`` x ``channels`` outputs from ``y[out]`` on."""
        passes = ((0, 2), (1, 3)) if self.kind.style == "dsp" else (range(self.kind.channels),)
        source = quotient(channel, self.n["multiplier_in"]) if self.kind.channels == 1 else channel
        first = self.f.bind("first", column * self.n["pixel_step"] + source)
        for number, channels in enumerate(passes):
            sums = self.f.local(f"acc{number}", "int32", self.kind.pixels * len(channels))
            self._start(sums, channels, channel)
            self._rows(ring, rows, block, first, sums, number)
            self._finish(sums, channels, channel, out)

    def _start(self, sums: Buffer, channels: Any, channel: Expr) -> None:
        for p in range(self.kind.pixels):
            for i, c in enumerate(channels):
                self.f.store(sums, p * len(channels) + i, self.bias[channel + c])

    def _rows(
        self, ring: RingRows, rows: list[Expr], block: Expr, first: Expr, sums: Buffer, number: int
    ) -> None:
        taps = self._taps_dsp if self.kind.style == "dsp" else self._taps_bytes
        if rows:
            for ky, row in enumerate(rows):
                taps(ring.rows, row + first, (block * len(rows) + ky) * self.kind.columns, sums, number)
            return
        with self.f.loop("ky", self.n["rows"]) as ky:
            start = self.f.bind("start", ring.row(self.f, ky) + first)
            w = self.f.bind("w", (block * self.n["rows"] + ky) * (self.kind.columns or self.n["columns"]))
            taps(ring.rows, start, w, sums, number)

    def _taps_dsp(self, x: Buffer, start: Expr, w: Expr, sums: Buffer, number: int) -> None:
        """One filter row: every input word is loaded once and serves all windows it lies in."""
        f, kind = self.f, self.kind
        half = ("even", "odd")[number]
        step = quotient(self.n["pixel_step"], kind.stride) if kind.stride > 1 else self.n["pixel_step"]
        step = f.bind("step", step)
        taps = [inline("int32", f"irs_{half}", self.weight[w + k]) for k in range(kind.columns)]
        taps = [f.bind(f"w{k}", tap) for k, tap in enumerate(taps)]
        uses: dict[int, list[tuple[int, int]]] = {}
        for p in range(kind.pixels):
            for k in range(kind.columns):
                uses.setdefault(p * kind.stride + k * kind.dilation, []).append((p, k))
        for place in sorted(uses):
            word = inline("int32", "irs_load32", address(x, start + step * place))
            value = f.bind(f"x{place}", inline("int32", f"irs_{half}", word))
            for p, k in uses[place]:
                for i, part in enumerate(("low", "high")):
                    at = p * 2 + i
                    f.store(sums, at, inline("int32", f"irs_mla_{part}", value, taps[k], sums[at]))

    def _taps_bytes(self, x: Buffer, start: Expr, w: Expr, sums: Buffer, number: int) -> None:
        kind, n = self.kind, self.n
        with self.f.loop("kx", kind.columns or n["columns"]) as kx:
            for p in range(kind.pixels):
                place = start + kx * n["column_step"] + n["pixel_step"] * p
                if kind.style == "simd":
                    with self.f.loop("c", kind.channels) as c:
                        self._byte(sums, c + p * kind.channels, x[place + c], (w + kx) * kind.channels + c)
                else:
                    self._byte(sums, p, x[place], w + kx)

    def _byte(self, sums: Buffer, at: Any, x: Expr, w: Expr) -> None:
        self.f.store(sums, at, sums[at] + cast("int32", x) * cast("int32", self.weight[w]))

    def _finish(self, sums: Buffer, channels: Any, channel: Expr, out: Expr) -> None:
        for p in range(self.kind.pixels):
            for i, c in enumerate(channels):
                at = out + self.n["channels"] * p + c
                acc = sums[p * len(channels) + i]
                self.epilogue.emit(self.f, self.given, acc, channel + c, self.y, at)
