"""int8 convolution and dense layers: a tile of pixels x channels over runs of contiguous bytes.

In NHWC a row of the filter is ``kw * Ci`` contiguous bytes of the input, and the pixel to the right starts
``stride * Ci`` bytes later: a window is ``kh`` runs, no copy needed (*rows*). A pointwise layer is one run
over all pixels of the image, a dense layer one pixel. Dilation along the row and groups cut a row into ``kw``
runs.

Runs of few bytes would waste most of a vector; there the windows of a tile are first copied into ``kh * kw *
Ci`` contiguous bytes each (*patch*), and all channels read the copy.

The last tile of a row and the last block of channels overlap the ones before, so any size works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.tiles import block_starts
from irshrink.backends.tvm.kernels.vector.geometry import SLACK, Rows, RowView
from irshrink.backends.tvm.kernels.vector.i8mm import I8mm
from irshrink.backends.tvm.kernels.vector.layer import (
    Layer,
    Share,
    best_tile,
    distances,
    instructions,
    shared_by,
    tiles_of,
)
from irshrink.backends.tvm.kernels.vector.micro import (
    Int8,
    MicroKernel,
    Sums,
    TileKernel,
    VectorTile,
    blocks_of,
    end_row,
)
from irshrink.backends.tvm.kernels.vector.nibbles import nibble_kernel
from irshrink.backends.tvm.kernels.vector.requantize import reachable
from irshrink.backends.tvm.kernels.vector.results import Results
from irshrink.backends.tvm.kernels.vector.sets import fitted, leaner, micro_kernel
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    i32,
    minimum,
    quotient,
    read,
    remainder,
    scalars,
    write,
)
from irshrink.program.ops import ConvInt8, DenseInt8, Requantization
from irshrink.program.program import Program
from irshrink.target import Target

#: What kernels compute on, and what holds a bias, by the short name of the element type.
ELEMENTS = {"s8": "int8", "f16": "float16", "f32": "float32"}
SUMS = {"s8": "int32", "f16": "int16", "f32": "float32"}

#: Runs of a window that are written out; more become a loop over the rows of the filter.
_WRITTEN_OUT = 6


@dataclass(frozen=True)
class Form:
    """What of a layer is part of the code; a hashable argument of the generator."""

    micro: TileKernel
    tile: VectorTile
    rows: Rows
    columns: int
    run: int
    groups: bool
    share: Share
    results: Results

    @property
    def suffix(self) -> str:
        columns = f"x{self.columns}" if self.columns > 1 else ""
        groups = "_groups" if self.groups else ""
        share = "" if self.share == "rows" else f"_by_{self.share}"
        geometry = f"{self.rows.suffix}{columns}_r{self.run}{groups}{share}"
        return f"{self.micro.name}_{self.tile.suffix}{geometry}{self.results.suffix}"


def candidates(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> list[VectorTile]:
    """The tiles this family has for an operator; empty where it does not cover it."""
    layer = Layer.of(op, program)
    micro = covered(op, target, layer)
    return [] if micro is None else tiles_of(micro, layer)


def covered(op: ConvInt8 | DenseInt8, target: Target, layer: Layer) -> MicroKernel | None:
    """The micro-kernel for an operator; None where the general kernels have it."""
    if not isinstance(op.requantization, Requantization):
        return None
    if isinstance(op, ConvInt8) and (op.depthwise or (op.residual is not None and op.residual.shift < 1)):
        return None
    groups = op.groups if isinstance(op, ConvInt8) else 1
    nibbles = nibble_kernel(target, op.weight, layer) if op.weight_bits < 8 else None
    if nibbles is not None:
        return nibbles
    micro = micro_kernel(target, op.weight, groups)
    if micro is None:
        return None
    return micro if len(op.weight) // groups >= micro.lanes else None


def select(
    op: ConvInt8 | DenseInt8, program: Program, target: Target, tile: VectorTile | None = None
) -> KernelCall | None:
    """The kernel for one image of a convolution, or for a dense layer; None where ``covered`` says so."""
    layer = Layer.of(op, program)
    micro = covered(op, target, layer)
    if micro is None:
        return None
    if tile is not None:
        return _call(op, _fitted(op, micro, layer, tile), layer, tile)
    tile = best_tile(micro, layer)
    lean = leaner(micro, tiles_of(micro, layer))
    if lean and op.weight_bits == 8:
        other = min(lean, key=lambda t: instructions(micro, layer, t))
        form = _fitted(op, micro, layer, other)
        if form != micro:
            return _call(op, form, layer, other)
    return _call(op, _fitted(op, micro, layer, tile), layer, tile)


def _fitted(op: ConvInt8 | DenseInt8, micro: MicroKernel, layer: Layer, tile: VectorTile) -> MicroKernel:
    if op.weight_bits < 8 and not isinstance(micro, I8mm):
        return micro  # packed weights have no room for what a fitted form writes between them
    return fitted(micro, tile, _blocks(op, layer, tile))


def _blocks(op: ConvInt8 | DenseInt8, layer: Layer, tile: VectorTile) -> Int8:
    """Weights [block, channel, run, byte]."""
    rows, columns, run = layer.runs(tile.source)
    starts = block_starts(layer.group_out, tile.channels)
    grouped = op.weight.reshape(layer.groups, layer.group_out, rows * columns, run)
    return np.concatenate([blocks_of(starts, group, tile.channels) for group in grouped])


def _call(op: ConvInt8 | DenseInt8, micro: MicroKernel, layer: Layer, tile: VectorTile) -> KernelCall:
    assert isinstance(op.requantization, Requantization)
    residual = op.residual if isinstance(op, ConvInt8) else None
    results, arguments = micro.results().of(op.requantization, reachable(op.weight, op.bias), residual)
    weight, bias = micro.pack(_blocks(op, layer, tile)), micro.bias(op.bias, op.weight)
    return layer_call(micro, layer, tile, results, [weight, bias], arguments)


def layer_call(
    micro: TileKernel,
    layer: Layer,
    tile: VectorTile,
    results: Results,
    constants: Sequence[NDArray[Any]],
    result_arguments: Sequence[Argument],
) -> KernelCall:
    """The call for a layer; ``constants`` are the packed weights and the bias as ``micro`` wants them."""
    out_h, out_w, channels = layer.out
    window, step = layer.window, layer.x[3]
    _, parts, run = layer.runs("rows")
    rows = Rows.of(window)
    pitch, ring = rows.sizes(window, layer.x, out_w, layer.pad_value)
    form = Form(micro, tile, rows, parts, run, layer.groups > 1, shared_by(layer, tile), results)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", constants[0], getattr(micro, "bits", 8)),
        Constant("bias", constants[1]),
        *result_arguments,
        Output(),
        *(out_h, out_w, channels, pitch, window.strides[1] * step, window.dilations[1] * step),
        *([layer.groups, layer.group_in] if form.groups else []),
        *([Workspace(), *ring] if rows.padded else []),
    ]
    return KernelCall(
        function=convolution(form),
        arguments=tuple(arguments),
        workspace_bytes=rows.nbytes(pitch),
        overread_bytes=16,
        distances=distances(rows, layer, tile, Input(1) in result_arguments),
        specialized=True,
        schedule=tile,
    )


@cache
def convolution(form: Form) -> TirFunction:
    """The C function of one form; its sizes are parameters, constants where the call is specialized."""
    extra, ring_parameters = form.results.parameters(), form.rows.parameters()
    sizes = ["out_h", "out_w", "channels", "pitch", "pixel_step", "column_step"]
    sizes += ["groups", "group_in"] if form.groups else []
    element = form.micro.element
    with Function(f"conv_{element}_{form.suffix}", f"Convolution of {ELEMENTS[element]} in vectors.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"), constant("weight", "int8"), constant("bias", SUMS[element]), *extra,
            write("y", "int8"), *scalars(*sizes), *ring_parameters,
        )  # fmt: skip
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        n, ring = dict(zip(sizes, rest, strict=False)), rest[len(sizes) :]
        body = _Body(f, form, given, weight, bias, y, n)
        if form.share == "rows":
            with f.share("out_y", n["out_h"]) as oy:
                body.row(form.rows.emit(f, form.micro.header, ring, x, n["pitch"], oy), oy)
        else:
            body.row(form.rows.emit(f, form.micro.header, ring, x, n["pitch"], None), i32(0))
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
        """One output row, tile by tile, group by group."""
        f, form, n = self.f, self.form, self.n
        pixels, copied = form.tile.pixels, form.tile.source == "patch"
        patch = f.local("patch", "int8", pixels * self._patch_pitch() + SLACK) if copied else None
        looped = not copied and len(view.rows) * form.columns > _WRITTEN_OUT
        table = view.table(f) if looped else None
        with self._walk("tiles", "t", n["out_w"], pixels) as t:
            column = f.bind("column", minimum(t * pixels, n["out_w"] - pixels))
            start = f.bind("start", column * n["pixel_step"])
            out = f.bind("out", (oy * n["out_w"] + column) * n["channels"])
            if not form.groups:
                self._blocks(_Place(view, table, patch, start, out), None, n["channels"])
                return
            group_out = f.bind("group_out", quotient(n["channels"], n["groups"]))
            with f.loop("g", n["groups"]) as g:
                place = _Place(view, table, patch, start + g * n["group_in"], out)
                self._blocks(place, g, group_out)

    def _walk(self, share: Share, name: str, extent: Expr, step: int) -> AbstractContextManager[Expr]:
        """Over tiles or blocks, shared by threads if these are what the form shares."""
        count = quotient(extent + (step - 1), step)
        if self.form.share != share:
            return self.f.loop(name, count)
        return self.f.share(name, count, joined=remainder(extent, step) != 0)

    def _blocks(self, place: _Place, group: Expr | None, group_out: Expr) -> None:
        """All channels of one group for one tile of pixels."""
        f, width = self.f, self.form.tile.channels
        if place.patch is not None:
            self._copy_windows(place, place.patch)
        with self._walk("blocks", "b", group_out, width) as b:
            inside = minimum(b * width, group_out - width)
            channel = f.bind("channel", inside if group is None else group * group_out + inside)
            block = b
            if group is not None:
                block = f.bind("block", group * quotient(group_out + (width - 1), width) + b)
            self._tile(place, block, channel)

    def _tile(self, place: _Place, block: Expr, channel: Expr) -> None:
        """``pixels`` x ``channels`` results."""
        f, form, n = self.f, self.form, self.n
        sums = form.micro.sums(f, form.tile)
        w = f.bind("w", block * (self._block_bytes()))
        if place.patch is not None:
            sums.start(self.bias, channel, True)
            at = [i32(p * self._patch_pitch()) for p in range(form.tile.pixels)]
            sums.run(place.patch, at, self.weight, w, self._depth(), first=True)
        else:
            self._runs(sums, place, w, channel)
        shared = form.results.begin(f, self.given, channel, form.tile.channels)
        pixels, step = form.tile.pixels, form.results.together(form.tile.channels // form.micro.lanes)
        for first in range(0, pixels, step):
            f.call("irs_fence")  # compilers would take all pixels at once, and run out of registers
            group = range(first, min(first + step, pixels))
            ends = [f.bind("at", place.out + n["channels"] * p + channel) for p in group]
            values = [sums.values(p) for p in group]
            form.results.store(f, shared, list(zip(values, ends, strict=True)), self.y)

    def _runs(self, sums: Sums, place: _Place, w: Expr, channel: Expr) -> None:
        """All runs of the windows where they lie."""
        f, form, n = self.f, self.form, self.n
        run_bytes = form.micro.stored(form.run) * form.tile.channels

        def feed(row: Expr, kx: Any, number: Any, first: bool) -> None:
            start = f.bind("at_x", row + place.start + n["column_step"] * kx)
            at = [start + n["pixel_step"] * p for p in range(form.tile.pixels)]
            source = place.view.source
            sums.run(source, at, self.weight, w + number * run_bytes, form.run, first=first)

        rows, columns = place.view.rows, form.columns
        if place.table is None:
            sums.start(self.bias, channel, True)
            for ky, row in enumerate(rows):
                for kx in range(columns):
                    feed(row, kx, ky * columns + kx, ky + kx == 0)
                end_row(sums)
        elif columns == 1:
            sums.start(self.bias, channel, True)
            feed(rows[0], 0, 0, True)
            end_row(sums)
            with f.loop("ky", len(rows) - 1) as ky:
                feed(place.table[ky + 1], 0, ky + 1, False)
                end_row(sums)
        else:
            sums.start(self.bias, channel, False)
            with f.loop("ky", len(rows)) as ky:
                with f.loop("kx", columns) as kx:
                    feed(place.table[ky], kx, ky * columns + kx, False)
                end_row(sums)

    def _copy_windows(self, place: _Place, patch: Buffer) -> None:
        """The windows of the tile, one after the other; every copy may overrun what the next one writes."""
        f, form, n = self.f, self.form, self.n
        for p in range(form.tile.pixels):
            to = p * self._patch_pitch()
            for row in place.view.rows:
                for kx in range(form.columns):
                    start = row + place.start + n["column_step"] * kx + n["pixel_step"] * p
                    for offset, width in _pieces(form.run):
                        source = address(place.view.source, start + offset)
                        f.call(f"{form.micro.header}_move{width}", address(patch, i32(to + offset)), source)
                    to += form.run

    def _depth(self) -> int:
        return self.form.rows.count * self.form.columns * self.form.run

    def _patch_pitch(self) -> int:
        return -(-self._depth() // 4) * 4

    def _block_bytes(self) -> int:
        """Packed weights of one block of channels."""
        form, stored = self.form, self.form.micro.stored
        one = (
            stored(self._depth())
            if form.tile.source == "patch"
            else stored(form.run) * (form.rows.count * form.columns)
        )
        return one * form.tile.channels


@dataclass(frozen=True)
class _Place:
    """Where one tile of one group reads and writes."""

    view: RowView
    table: Buffer | None
    patch: Buffer | None
    start: Expr
    out: Expr


def _pieces(run: int) -> Iterator[tuple[int, int]]:
    """Moves of 16, 8 or 4 bytes that cover ``run`` bytes and perhaps some more."""
    offset = 0
    while run - offset >= 16:
        yield offset, 16
        offset += 16
    if offset < run:
        yield offset, next(width for width in (4, 8, 16) if run - offset <= width)
