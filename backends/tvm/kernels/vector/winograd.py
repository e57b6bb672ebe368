"""float32 or float16 convolution of 3x3 windows by Winograd's F(2x2, 3x3), a few tiles of a row at a time.

Some neighbouring tiles, of one or several rows, are transformed into 16 matrices [tile, channel in] of a
workspace; then, for each block of output channels, 16 products of matrices by the micro-kernel of dense
layers give 16 matrices [tile, channel out], which are transformed into results. Columns of the input that two
tiles share are transformed once. The transformed weights are read once for all tiles that are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.tiles import block_starts
from irshrink.backends.tvm.kernels.vector.convolution import ELEMENTS, SUMS
from irshrink.backends.tvm.kernels.vector.float_results import FloatResults
from irshrink.backends.tvm.kernels.vector.fma import FmaKernel, as_stored
from irshrink.backends.tvm.kernels.vector.geometry import Rows, RowView
from irshrink.backends.tvm.kernels.vector.micro import VectorTile, blocks_of
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    all_of,
    constant,
    inline,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvF16, ConvF32, Window
from irshrink.program.program import Program
from irshrink.program.winograd import (
    BIAS_AT,
    STEP,
    TILE,
    transformed_input,
    transformed_output,
    transformed_weights,
)

_POSITIONS = TILE * TILE
_SIZES = ("out_h", "out_w", "ci", "co", "pitch", "scratch")
#: Bytes of transformed tiles and sums, which should stay near the first cache; up to ``_FEW`` tiles are held
#: whatever they take, so that weights are not read for each.
_MOST_BYTES, _FEW, _MOST_HELD = 48 << 10, 8, 32
#: What 64 bytes of weights cost beside their loads, in instructions: they seldom are in the first cache.
_LINE = 2


@dataclass(frozen=True)
class WinogradTile:
    """A schedule: ``down`` x ``across`` tiles are held; registers take ``pixels`` of them x ``channels``."""

    down: int
    across: int
    pixels: int
    channels: int

    @property
    def held(self) -> int:
        return self.down * self.across


@dataclass(frozen=True)
class Form:
    """What of a layer is part of the code; a hashable argument of the generator."""

    micro: FmaKernel
    tile: WinogradTile
    rows: Rows
    ci: int
    cut: tuple[bool, bool]
    results: FloatResults

    @property
    def suffix(self) -> str:
        tile, cut = self.tile, "".join(a for a, is_cut in zip("hw", self.cut, strict=True) if is_cut)
        shape = (
            f"{tile.down}x{tile.across}_{tile.pixels}x{tile.channels}_ci{self.ci}{'_cut' * bool(cut)}{cut}"
        )
        return f"{self.micro.name}_{shape}{self.rows.suffix}{self.results.suffix}"


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer: channels in and out, tiles down and across."""

    ci: int
    co: int
    tiles: tuple[int, int]


def layer_of(op: ConvF32 | ConvF16, program: Program) -> Layer:
    """The layer of a convolution of one image."""
    _, out_h, out_w, co = program.tensors[op.output].shape
    return Layer(op.weight.shape[3], co, (-(-out_h // STEP), -(-out_w // STEP)))


def candidates(layer: Layer, micro: FmaKernel, threads: int) -> list[WinogradTile]:
    """The schedules of a layer; every thread has some rows of tiles, where there are so many."""
    down, across = (_parts(n) for n in layer.tiles)
    if threads > 1:
        down = [n for n in down if n == 1 or 2 * threads * n <= layer.tiles[0]]
    tiles = [
        WinogradTile(d, a, t.pixels, t.channels)
        for t in micro.tiles(_MOST_HELD, layer.co)
        for d in down
        for a in across
        if d * a % t.pixels == 0 and d * a <= _MOST_HELD
    ]

    def fits(tile: WinogradTile) -> bool:
        return (
            tile.held <= _FEW
            or _POSITIONS * micro.nbytes * tile.held * (layer.ci + tile.channels) <= _MOST_BYTES
        )

    return [tile for tile in tiles if fits(tile)]


def _parts(n: int) -> list[int]:
    """``n`` in equal parts, the last one smaller at most."""
    return sorted({-(-n // parts) for parts in range(1, n + 1)})


def instructions(layer: Layer, micro: FmaKernel, tile: WinogradTile) -> float:
    """An estimate for the whole layer."""
    down, across = layer.tiles
    vectors = tile.channels // micro.lanes
    seen = -(-layer.ci // micro.lanes) * tile.down * (8 * (2 * tile.across + 2) + 32 * tile.across + 10)
    register_tile = VectorTile(tile.pixels, tile.channels)
    product = micro.instructions(register_tile, 1, micro.nbytes * layer.ci) + tile.pixels * vectors + 8
    weights = layer.ci * tile.channels * micro.nbytes / 64 * _LINE
    block = _POSITIONS * (tile.held // tile.pixels * product + weights) + tile.held * (vectors * 55 + 4)
    times = -(-down // tile.down) * -(-across // tile.across)
    return times * (seen + -(-layer.co // tile.channels) * (block + 10) + 20)


def select(
    op: ConvF32 | ConvF16, program: Program, micro: FmaKernel, threads: int, tile: WinogradTile | None
) -> KernelCall:
    """The kernel for a convolution that is computed so."""
    _, height, width, ci = program.tensors[op.inputs[0]].shape
    _, out_h, out_w, co = program.tensors[op.output].shape
    layer = layer_of(op, program)
    if tile is None:
        tile = min(candidates(layer, micro, threads), key=lambda t: instructions(layer, micro, t))
    window = Window(kernel=(TILE, TILE), strides=(STEP, STEP), pads=op.window.pads)
    step = STEP * tile.down
    cut = (out_h % step != 0, out_w % STEP != 0)
    rows = Rows(any(window.pads) or any(cut), step + TILE - STEP, step + TILE - STEP, step, 1)
    x, y = (1, height, width, micro.nbytes * ci), (1, out_h, out_w, micro.nbytes * co)
    pitch, ring = rows.sizes(window, x, layer.tiles[1], 0)
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    results = FloatResults(micro.functions, micro.lanes, low != -inf, high != inf, micro.element)
    form = Form(micro, tile, rows, ci, cut, results)
    u = transformed_weights(op.weight).transpose(1, 0, 2)
    starts = block_starts(co, tile.channels)
    bias = np.zeros((_POSITIONS, co), op.bias.dtype)
    bias[BIAS_AT] = op.bias
    scratch = -(-rows.nbytes(pitch) // 64) * 64
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", micro.pack(blocks_of(starts, u, tile.channels))),
        Constant("bias", as_stored(bias.reshape(-1))),
        *results.arguments(low, high),
        Output(),
        *(out_h, out_w, ci, co, pitch, scratch),
        Workspace(),
        *ring,
    ]
    return KernelCall(
        function=convolution(form),
        arguments=tuple(arguments),
        workspace_bytes=scratch + _POSITIONS * micro.nbytes * tile.held * (ci + tile.channels),
        overread_bytes=16,
        distances=((0, rows.distance(window, x, y, step)),) if rows.padded else (),
        specialized=True,
        schedule=tile,
    )


@cache
def convolution(form: Form) -> TirFunction:
    """The C function of one form."""
    extra, ring = form.results.parameters(), form.rows.parameters()[1:]
    element = form.micro.element
    name, doc = (
        f"winograd_{element}_{form.suffix}",
        f"Convolution of {ELEMENTS[element]}, 3x3 by tiles of 2x2.",
    )
    with Function(name, doc) as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"), constant("weight", "int8"), constant("bias", SUMS[element]), *extra,
            write("y", "int8"), *scalars(*_SIZES), write("work", "int8"), *ring,
        )  # fmt: skip
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        n, (work, *rest) = dict(zip(_SIZES, rest, strict=False)), rest[len(_SIZES) :]
        held, step = form.tile.across, STEP * form.tile.down
        with f.share("part_y", quotient(n["out_h"] + (step - 1), step)) as ty:
            view = form.rows.emit(f, form.micro.header, [work, *rest], x, n["pitch"], ty)
            across = f.bind("across", quotient(n["out_w"] + 1, STEP))
            with f.loop("t", quotient(across + (held - 1), held)) as t:
                first = f.bind("first", minimum(t * held, across - held))
                body = _Body(f, form, given, weight, bias, work, y, n)
                body.see(view, first)
                body.blocks(ty, first)
    return f.result


@dataclass
class _Body:
    """What is done for the tiles from ``first`` on."""

    f: Function
    form: Form
    given: list[Any]
    weight: Buffer
    bias: Buffer
    work: Buffer
    y: Buffer
    n: dict[str, Expr]

    def see(self, view: RowView, first: Expr) -> None:
        """The transformed tiles, [position][tile][channel in]."""
        f, form, lanes = self.f, self.form, self.form.micro.lanes
        pixel, across = form.ci * self.nbytes, form.tile.across
        table = view.table(f)
        with f.loop("down", form.tile.down) as down, f.loop("c", -(-form.ci // lanes)) as c:
            channel = f.bind("at_channel", minimum(c * lanes, form.ci - lanes) * self.nbytes)
            start = f.bind("at_x", first * (STEP * pixel) + channel)
            rows = [f.bind(f"at_row{i}", table[down * STEP + i] + start) for i in range(TILE)]
            to = f.bind("to", self.n["scratch"] + channel + down * (across * pixel))
            columns: list[list[Expr]] = []
            for t in range(across):
                while len(columns) < STEP * t + TILE:
                    place = pixel * len(columns)
                    d = [f.bind("d", self._floats(view.source, row + place)) for row in rows]
                    columns.append(transformed_input(d, self._minus, self._plus))
                f.call("irs_fence")
                for i in range(TILE):
                    line = [columns[STEP * t + j][i] for j in range(TILE)]
                    for j, value in enumerate(transformed_input(line, self._minus, self._plus)):
                        self._keep(to + ((TILE * i + j) * form.tile.held + t) * pixel, value)

    def blocks(self, ty: Expr, first: Expr) -> None:
        """Products and results, one block of output channels after the other."""
        f, n, tile = self.f, self.n, self.form.tile
        with f.loop("b", quotient(n["co"] + (tile.channels - 1), tile.channels)) as b:
            channel = f.bind("channel", minimum(b * tile.channels, n["co"] - tile.channels))
            sums = f.bind("sums", n["scratch"] + _POSITIONS * tile.held * self.form.ci * self.nbytes)
            with f.loop("position", _POSITIONS) as position:
                self._products(b, channel, position, sums)
            shared = self.form.results.begin(f, self.given, channel, tile.channels)
            with f.loop("down", tile.down) as down, f.loop("across", tile.across) as across:
                row = f.bind("row", (ty * tile.down + down) * STEP)
                column = f.bind("column", (first + across) * STEP)
                start = f.bind("start", sums + (down * tile.across + across) * (tile.channels * self.nbytes))
                self._results(shared, row, column, channel, start)

    def _products(self, block: Expr, channel: Expr, position: Expr, to: Expr) -> None:
        """The sums of one position of all tiles."""
        f, form, n = self.f, self.form, self.n
        tile, lanes, depth = form.tile, form.micro.lanes, form.ci * self.nbytes
        w = f.bind("w", (block * _POSITIONS + position) * (depth * tile.channels))
        v = f.bind("v", n["scratch"] + position * (tile.held * depth))
        with f.loop("part", tile.held // tile.pixels) as part:
            sums = form.micro.sums(f, VectorTile(tile.pixels, tile.channels))
            sums.start(self.bias, position * n["co"] + channel, True)
            at = f.bind("at", v + part * (tile.pixels * depth))
            sums.run(
                self.work, [at + depth * p for p in range(tile.pixels)], self.weight, w, depth, first=True
            )
            end = f.bind(
                "end", to + (position * tile.held + part * tile.pixels) * (tile.channels * self.nbytes)
            )
            for p in range(tile.pixels):
                for i, value in enumerate(sums.values(p)):
                    self._keep(end + (p * tile.channels + i * lanes) * self.nbytes, value)

    def _results(self, shared: Any, row: Expr, column: Expr, channel: Expr, sums: Expr) -> None:
        """The four results of a tile from its sums."""
        f, form, n, lanes = self.f, self.form, self.n, self.form.micro.lanes
        step = form.tile.held * form.tile.channels * self.nbytes
        to = f.bind("at_y", (row * n["out_w"] + column) * n["co"] + channel)
        for v in range(form.tile.channels // lanes):
            f.call("irs_fence")
            start = sums + self.nbytes * lanes * v
            down = []
            for j in range(TILE):
                places = [start + (TILE * i + j) * step for i in range(TILE)]
                m = [f.bind("m", self._floats(self.work, place)) for place in places]
                down.append(transformed_output(m, self._minus, self._plus))
            for i in range(STEP):
                across = transformed_output([down[j][i] for j in range(TILE)], self._minus, self._plus)
                for j, value in enumerate(across):
                    at = to + (n["out_w"] * i + j) * n["co"] + lanes * v
                    with self._inside(row + i, column + j, j):
                        form.results.store(f, shared, [([value], at)], self.y)

    @contextmanager
    def _inside(self, row: Expr, column: Expr, second: int) -> Iterator[None]:
        """Only where a result belongs to the output."""
        conditions = [row < self.n["out_h"]] if self.form.cut[0] else []
        conditions += [column < self.n["out_w"]] if self.form.cut[1] and second else []
        if not conditions:
            yield
            return
        with self.f.when(all_of(*conditions)):
            yield

    def _plus(self, a: Expr, b: Expr) -> Expr:
        return self.f.bind("sum", inline(self._dtype, self._name("plus"), a, b))

    def _minus(self, a: Expr, b: Expr) -> Expr:
        return self.f.bind("difference", inline(self._dtype, self._name("minus"), a, b))

    def _floats(self, buffer: Buffer, at: Expr) -> Expr:
        return inline(
            self._dtype, f"{self.form.micro.functions}_floats{self.form.micro.lanes}", address(buffer, at)
        )

    def _keep(self, at: Expr, value: Expr) -> None:
        self.f.call(self._name("store"), address(self.work, at), value)

    def _name(self, what: str) -> str:
        return f"{self.form.micro.functions}_{what}_{self.form.micro.form}"

    @property
    def _dtype(self) -> str:
        return self.form.micro.dtype

    @property
    def nbytes(self) -> int:
        """Of a number."""
        return self.form.micro.nbytes
