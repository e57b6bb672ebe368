"""int8 depthwise convolution: 16 (or 8) channels of a few neighbouring pixels at a time.

Rows come from the input or from a ring of padded rows. How the taps of a tile are multiplied and added is the
*taps* micro-kernel of the instruction set; the last tile of a row and the last block of channels overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.tiles import block_starts
from irshrink.backends.tvm.kernels.vector.geometry import Rows, RowView
from irshrink.backends.tvm.kernels.vector.layer import Layer, distances
from irshrink.backends.tvm.kernels.vector.micro import VectorTile, blocks_of
from irshrink.backends.tvm.kernels.vector.requantize import reachable
from irshrink.backends.tvm.kernels.vector.results import Results
from irshrink.backends.tvm.kernels.vector.sets import taps_kernel
from irshrink.backends.tvm.kernels.vector.taps import Taps
from irshrink.backends.tvm.tir import (
    Buffer,
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
from irshrink.program.ops import ConvInt8, Requantization
from irshrink.program.program import Program
from irshrink.target import Target


@dataclass(frozen=True)
class VectorDepthwiseTile:
    """``pixels`` x ``channels`` outputs at a time: a schedule."""

    pixels: int
    channels: int


@dataclass(frozen=True)
class Form:
    """What of a layer is part of the code; a hashable argument of the generator."""

    taps: Taps
    tile: VectorDepthwiseTile
    rows: Rows
    columns: int
    stride: int
    dilation: int
    results: Results

    @property
    def suffix(self) -> str:
        tile = f"{self.tile.pixels}x{self.tile.channels}"
        dilation = f"d{self.dilation}" if self.dilation > 1 else ""
        columns = f"_w{self.columns}s{self.stride}{dilation}"
        return f"{self.taps.name}_{tile}{self.rows.suffix}{columns}{self.results.suffix}"


def candidates(op: ConvInt8, program: Program, target: Target) -> list[VectorDepthwiseTile]:
    """The tiles this family has for a depthwise layer; empty where it does not cover it."""
    if not covered(op, program, target):
        return []
    _, _, out_w, channels = program.tensors[op.output].shape
    return _tiles(op, target, out_w, channels)


def _tiles(op: ConvInt8, target: Target, out_w: int, channels: int) -> list[VectorDepthwiseTile]:
    widths = ((c, taps_kernel(target, op.weight, c)) for c in (16, 8) if c <= channels)
    return [VectorDepthwiseTile(p, c) for c, taps in widths if taps is not None for p in taps.tiles(out_w)]


def _taps(op: ConvInt8, target: Target, channels: int) -> Taps:
    taps = taps_kernel(target, op.weight, channels)
    assert taps is not None
    return taps


def covered(op: ConvInt8, program: Program, target: Target) -> bool:
    """Whether this family has a kernel: one output channel for each of at least eight input channels."""
    channels = program.tensors[op.inputs[0]].shape[3]
    return (
        isinstance(op.requantization, Requantization)
        and (op.residual is None or op.residual.shift >= 1)
        and channels == len(op.weight)
        and channels >= 8
        and taps_kernel(target, op.weight, 8) is not None
    )


def select(
    op: ConvInt8, program: Program, target: Target, tile: VectorDepthwiseTile | None = None
) -> KernelCall | None:
    """The kernel for one image of a depthwise convolution; None where ``covered`` says so."""
    if not covered(op, program, target):
        return None
    assert isinstance(op.requantization, Requantization)
    x, (_, out_h, out_w, channels) = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    tile = tile or _choose(op, target, out_w, channels)
    taps = _taps(op, target, tile.channels)
    rows = Rows.of(op.window)
    pitch, ring = rows.sizes(op.window, x, out_w, op.input_zero_point)
    results, result_arguments = taps.results().of(
        op.requantization, reachable(op.weight, op.bias), op.residual
    )
    form = Form(taps, tile, rows, op.window.kernel[1], op.window.strides[1], op.window.dilations[1], results)
    blocks = blocks_of(block_starts(channels, tile.channels), op.weight[..., 0], tile.channels)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", taps.pack(blocks.reshape(*blocks.shape[:2], -1))),
        Constant("bias", taps.bias(op.bias, op.weight)),
        *result_arguments,
        Output(),
        *(out_h, out_w, channels, pitch),
        *([Workspace(), *ring] if rows.padded else []),
    ]
    return KernelCall(
        function=depthwise(form),
        arguments=tuple(arguments),
        workspace_bytes=rows.nbytes(pitch),
        distances=distances(rows, Layer.of(op, program), VectorTile(out_w, 1), op.residual is not None),
        specialized=True,
        schedule=tile,
    )


def _choose(op: ConvInt8, target: Target, out_w: int, channels: int) -> VectorDepthwiseTile:
    """Neighbouring pixels share columns; fewer at a time where the overlap of the last tile costs more."""

    def instructions(tile: VectorDepthwiseTile) -> float:
        tiles = -(-out_w // tile.pixels) * -(-channels // tile.channels)
        return tiles * (6 + _taps(op, target, tile.channels).instructions(op.window, tile.pixels))

    return min(_tiles(op, target, out_w, channels), key=instructions)


@cache
def depthwise(form: Form) -> TirFunction:
    """The C function of one form; its sizes are parameters, constants where the call is specialized."""
    extra, ring_parameters = form.results.parameters(), form.rows.parameters()
    sizes = ["out_h", "out_w", "channels", "pitch"]
    with Function(f"depthwise_s8_{form.suffix}", "Depthwise convolution of int8 in vectors.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"), constant("weight", "int8"), constant("bias", "int32"), *extra,
            write("y", "int8"), *scalars(*sizes), *ring_parameters,
        )  # fmt: skip
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        n, ring = dict(zip(sizes, rest, strict=False)), rest[len(sizes) :]
        body = _Body(f, form, given, weight, bias, y, n)
        with f.share("out_y", n["out_h"]) as oy:
            body.row(form.rows.emit(f, form.taps.header, ring, x, n["pitch"], oy), oy)
    return f.result


@dataclass
class _Body:
    """The inside of the loop over output rows."""

    f: Function
    form: Form
    given: list[Any]
    weight: Buffer
    bias: Buffer
    y: Buffer
    n: dict[str, Expr]

    def row(self, view: RowView, oy: Expr) -> None:
        """One output row: blocks of channels outside, whose weights stay in registers."""
        f, form, n = self.f, self.form, self.n
        pixels, width = form.tile.pixels, form.tile.channels
        with f.loop("b", quotient(n["channels"] + (width - 1), width)) as b:
            channel = f.bind("channel", minimum(b * width, n["channels"] - width))
            w = b * (form.taps.stored() * width)
            weights = form.taps.begin(f, self.weight, w, self.bias, channel, width)
            shared = form.results.begin(f, self.given, channel, width)
            with f.loop("t", quotient(n["out_w"] + (pixels - 1), pixels)) as t:
                column = f.bind("column", minimum(t * pixels, n["out_w"] - pixels))
                start = f.bind("start", column * (n["channels"] * form.stride) + channel)
                out = f.bind("out", (oy * n["out_w"] + column) * n["channels"] + channel)
                sums = weights.sums(view.source, self._places(view, start))
                ends = [out + n["channels"] * p for p in range(len(sums))]
                step = form.results.together(len(sums[0]))
                for p in range(0, len(sums), step):
                    group = list(zip(sums[p : p + step], ends[p : p + step], strict=True))
                    form.results.store(f, shared, group, self.y)

    def _places(self, view: RowView, start: Expr) -> list[list[tuple[Any, Expr]]]:
        """Of every pixel and tap: a key equal for equal places, and the place in the source."""
        form, channels = self.form, self.n["channels"]
        places = []
        for p in range(form.tile.pixels):
            taps: list[tuple[Any, Expr]] = []
            for ky, row in enumerate(view.rows):
                for kx in range(form.columns):
                    column = p * form.stride + kx * form.dilation
                    taps.append(((ky, column), row + start + channels * column))
            places.append(taps)
        return places
