"""int8 convolution in row form.

In NHWC a filter row is one run of ``kw * Ci`` bytes, so output pixel p of a row reads ``kh`` runs, the one of
filter row ky at ``row(ky) + p * stride * Ci``. No im2col: the tile walks those runs directly. Any width works
because the last tile of a row overlaps the one before; any channel count because the last block does.

*Direct* kernels read the input where it is. Padded layers go through a *ring* of as many padded rows as the
filter spans: each input row is copied once, padding costs no second image, and since an output row is
written only after the rows it needs are in the ring, the output may overwrite the input (``in_place``).

Dilated columns and groups break a filter row into one run per column (``segmented``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.depthwise import select_depthwise
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.ring import Ring
from irshrink.backends.tvm.kernels.tiles import Accumulators, Tile, choose_tile, pack_weights
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    constant,
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
class Geometry:
    """Which form of the kernel a layer needs; a hashable argument of the generator."""

    ring: bool
    segmented: bool

    @property
    def suffix(self) -> str:
        return ("_ring" if self.ring else "") + ("_segmented" if self.segmented else "")


def select_convolution(op: ConvInt8, program: Program, target: Target) -> KernelCall:
    """The kernel for a convolution; depthwise layers have a family of their own."""
    if op.depthwise:
        return select_depthwise(op, program, target)
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    _, _, width, channels_in = x.shape
    _, out_h, out_w, channels = y.shape
    ring = Ring.of(op.window, x.shape, y.shape, op.input_zero_point)
    geometry = Geometry(any(op.window.pads), op.groups > 1 or op.window.dilations[1] > 1)
    segments = _segments(op, geometry)
    rows_as_one = not geometry.ring and op.window.kernel == (1, 1) and op.window.strides == (1, 1)
    out_h, out_w = (1, out_h * out_w) if rows_as_one else (out_h, out_w)
    tile = choose_tile(target, out_w, channels // op.groups, segments.shape[2])
    if (channels // op.groups) % tile.channels:
        tile = replace(tile, channels=1) if op.groups > 1 else tile  # a block must not straddle groups
    epilogue = Epilogue.of(op.requantization, op.residual)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", pack_weights(segments, tile)),
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels, op.residual),
        Output(),
        out_h,
        out_w,
        -(-out_w // tile.pixels),
        channels,
        op.window.kernel[0],
        tile.steps(segments.shape[2]),
        op.window.strides[1] * channels_in,
    ]
    if geometry.segmented:
        arguments += [op.window.kernel[1], op.window.dilations[1] * channels_in]
        arguments += [channels // op.groups, channels_in // op.groups]
    row_bytes = width * channels_in
    rows = [op.window.dilations[0] * row_bytes, op.window.strides[0] * row_bytes]
    arguments += [Workspace(), *ring.arguments()] if geometry.ring else rows
    overlaps = out_w % tile.pixels != 0 or channels % tile.channels != 0
    in_place = [0] if geometry.ring and ring.in_place else []
    if op.residual is not None and not overlaps:
        in_place.append(1)
    return KernelCall(
        function=convolution(tile, geometry, epilogue),
        arguments=tuple(arguments),
        workspace_bytes=ring.nbytes + tile.overread(segments.shape[2]) if geometry.ring else 0,
        overread_bytes=0 if geometry.ring else tile.overread(segments.shape[2]),
        in_place=tuple(in_place),
    )


def _segments(op: ConvInt8, geometry: Geometry) -> np.ndarray[tuple[int, int, int], np.dtype[np.int8]]:
    """Weights as [Co, runs of one window, bytes of one run]."""
    channels, kh, kw, group_channels = op.weight.shape
    runs = (kh * kw, group_channels) if geometry.segmented else (kh, kw * group_channels)
    return op.weight.reshape(channels, *runs)


@cache
def convolution(tile: Tile, geometry: Geometry, epilogue: Epilogue) -> TirFunction:
    """The C function for one tile, geometry and epilogue; all sizes are run-time arguments."""
    name = f"conv_s8_{tile.suffix}{geometry.suffix}{epilogue.suffix}"
    extra = epilogue.parameters()
    sizes = ["out_h", "out_w", "tiles", "channels", "rows", "steps", "pixel_step"]
    segmented = ["columns", "column_step", "group_out", "group_in"] if geometry.segmented else []
    last = Ring.parameters() if geometry.ring else scalars("row_step", "out_row_step")
    with Function(name, "Convolution of int8, row form.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", tile.weight_dtype),
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            *scalars(*sizes, *segmented),
            *last,
        )
        given, rest = rest[: len(extra)], rest[len(extra) :]
        y, (out_h, out_w, tiles, channels, rows, steps, pixel_step), rest = rest[0], rest[1:8], rest[8:]
        columns, column_step, group_out, group_in = rest[:4] if geometry.segmented else (1, 0, 0, 0)
        rest = rest[len(segmented) :]
        sums = Accumulators.allocate(f, tile)
        block = f.bind("block", rows * columns * steps * tile.channels)
        with f.loop("out_y", out_h) as oy:
            ring = Ring.emit(f, rest, x, oy) if geometry.ring else None
            source = ring.rows if ring else x
            with f.loop("b", quotient(channels + (tile.channels - 1), tile.channels)) as b:
                channel = f.bind("channel", minimum(b * tile.channels, channels - tile.channels))
                first = quotient(channel, group_out) * group_in if geometry.segmented else None
                with f.loop("t", tiles) as t:
                    column = f.bind("column", minimum(t * tile.pixels, out_w - tile.pixels))
                    sums.start(bias, channel)
                    with f.loop("ky", rows) as ky:
                        row = ring.row(f, ky) if ring else oy * rest[1] + ky * rest[0]
                        start: Expr = row + column * pixel_step
                        start = f.bind("start", start + first if first is not None else start)
                        at = [start + pixel_step * p for p in range(tile.pixels)]
                        if not geometry.segmented:
                            sums.run(source, at, weight, b * block + ky * steps * tile.channels, steps)
                        else:
                            with f.loop("kx", columns) as kx:
                                w = b * block + (ky * columns + kx) * steps * tile.channels
                                sums.run(source, [a + kx * column_step for a in at], weight, w, steps)
                    for p in range(tile.pixels):
                        for c in range(tile.channels):
                            out = ((oy * out_w + column) + p) * channels + channel + c
                            epilogue.emit(f, given, sums.value(p, c), channel + c, y, out)
    return f.result

