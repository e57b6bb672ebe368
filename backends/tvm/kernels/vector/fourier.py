"""float32 convolution with long rows of weights, by Fourier transforms along the row.

Each padded row of the input becomes ``pairs`` complex signals of ``length`` values, transformed in place and
kept in a ring of as many rows as the windows of one part span. At every frequency the products over rows of
the filter and input channels are a product of real matrices, by the micro-kernel of dense layers: a complex
factor is two inputs, a complex sum two outputs. What comes back from the inverse transform is stored from the
segments that are not wrapped around. Vectors hold channels throughout; two stages of a transform share a
load and a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.overlap import rows_distance
from irshrink.backends.tvm.kernels.vector.float_results import FloatResults
from irshrink.backends.tvm.kernels.vector.fma import NeonFma, X86Fma
from irshrink.backends.tvm.kernels.vector.micro import VectorTile
from irshrink.backends.tvm.kernels.vector.transform import Transform
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    first_of_share,
    inline,
    maximum,
    minimum,
    quotient,
    read,
    remainder,
    scalars,
    write,
)
from irshrink.backends.tvm.tir import (
    select as either,
)
from irshrink.program.fourier import Segments, spectrum, twiddles
from irshrink.program.ops import ConvF32
from irshrink.program.program import Program

_SIZES = ("out_h", "out_w", "in_rows", "row_bytes", "pad_top", "pad_left", "pad_right")
#: Bytes of spectra and sums that are held at once, more or less.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class FourierTile:
    """A schedule: registers take ``down`` rows of ``across`` pairs x ``channels`` parts of sums."""

    down: int
    across: int
    channels: int


@dataclass(frozen=True)
class Form:
    """What of a layer is part of the code; a hashable argument of the generator."""

    micro: NeonFma | X86Fma
    lanes: int
    tile: FourierTile
    segments: Segments
    channels: tuple[int, int]
    rows: tuple[int, int, int]
    pitch: int
    results: FloatResults

    @property
    def suffix(self) -> str:
        t, s, (ci, co), (kh, sh, dh) = self.tile, self.segments, self.channels, self.rows
        tile = f"{t.down}x{t.across}x{t.channels}_{ci}to{co}"
        rows = f"h{kh}s{sh}d{dh}_p{self.pitch}"
        signals = f"{self.lanes}_n{s.length}s{s.step}p{s.pairs}"
        return f"{self.micro.name}_{signals}_{tile}_{rows}{self.results.suffix}"

    @property
    def kept(self) -> int:
        """Rows of spectra that the windows of one part span."""
        kh, sh, dh = self.rows
        return (self.tile.down - 1) * sh + (kh - 1) * dh + 1

    @property
    def signal_bytes(self) -> int:
        """Of the spectrum of one pair."""
        return self.segments.length * 2 * self.channels[0] * 4

    @property
    def places(self) -> tuple[int, int, int]:
        """Where spectra and sums begin in the workspace, and its size."""
        spectra = -(-self.pitch // 64) * 64
        sums = spectra + self.kept * self.segments.pairs * self.signal_bytes
        count = self.tile.down * self.segments.pairs * self.segments.length
        return spectra, sums, sums + count * self.tile.channels * 4


def candidates(op: ConvF32, program: Program, micro: NeonFma | X86Fma) -> list[FourierTile]:
    """The schedules of a layer."""
    _, out_h, out_w, co = program.tensors[op.output].shape
    segments = Segments.of(op.fourier, op.window.kernel[1], out_w)
    held = segments.length * segments.pairs * 4
    return [
        FourierTile(down, t.pixels // down, t.channels)
        for t in micro.tiles(out_h * segments.pairs, 2 * co)
        for down in range(1, min(out_h, t.pixels) + 1)
        if t.pixels % down == 0
        and t.pixels // down <= segments.pairs
        and 2 * co % t.channels == 0
        and t.channels % (2 * lanes_of(op, micro)) == 0
        and (down == 1 or down * held * (2 * op.weight.shape[3] + t.channels) <= _MOST_BYTES)
    ]


def lanes_of(op: ConvF32, micro: NeonFma | X86Fma) -> int:
    """Channels in a vector of a transform: all that there are of 16, 8 or 4 that divide both numbers."""
    channels = (len(op.weight), op.weight.shape[3])
    widths = (16, 8) if micro.header == "irs_x86" else (4,)
    return next(n for n in widths if not any(c % n for c in channels))


def instructions(op: ConvF32, program: Program, micro: NeonFma | X86Fma, tile: FourierTile) -> float:
    """An estimate of the products; transforms are the same for all schedules."""
    _, out_h, out_w, co = program.tensors[op.output].shape
    segments = Segments.of(op.fourier, op.window.kernel[1], out_w)
    register_tile = VectorTile(tile.down * tile.across, tile.channels)
    runs, run = op.window.kernel[0], 2 * op.weight.shape[3] * 4
    one = micro.instructions(register_tile, runs, run) + tile.down * tile.across * (runs + 2) + 10
    tiles = -(-segments.pairs // tile.across) * -(-out_h // tile.down) * (2 * co // tile.channels)
    return tiles * segments.length * one


def select(
    op: ConvF32, program: Program, micro: NeonFma | X86Fma, threads: int, tile: FourierTile | None
) -> KernelCall:
    """The kernel for a convolution that is computed so."""
    _, height, width, ci = program.tensors[op.inputs[0]].shape
    _, out_h, out_w, co = program.tensors[op.output].shape
    if tile is None:
        found = candidates(op, program, micro)
        few = [t for t in found if threads == 1 or t.down == 1 or 2 * threads * t.down <= out_h]
        tile = min(few or found, key=lambda t: instructions(op, program, micro, t))
    (kh, kw), (top, left, _, _) = op.window.kernel, op.window.pads
    segments = Segments.of(op.fourier, kw, out_w)
    right = max(segments.reach - left - width, 0)
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    lanes = lanes_of(op, micro)
    results = FloatResults(micro.header, lanes, low != -inf, high != inf)
    rows = (kh, op.window.strides[0], op.window.dilations[0])
    form = Form(micro, lanes, tile, segments, (ci, co), rows, (left + width + right) * ci * 4, results)
    table = twiddles(segments.length)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", micro.pack(_matrices(op, tile.channels))),
        Constant("bias", np.ascontiguousarray(np.broadcast_to(op.bias, (co,)), np.float32)),
        Constant("twiddle", np.concatenate([table, table * np.array([1, -1], np.float32)]).reshape(-1)),
        *results.arguments(low, high),
        Output(),
        *(out_h, out_w, height, width * ci * 4, top, left * ci * 4, right * ci * 4),
        Workspace(),
    ]
    return KernelCall(
        function=convolution(form),
        arguments=tuple(arguments),
        workspace_bytes=form.places[2] + 64,
        distances=((0, _distance(form, (1, height, width, 4 * ci), (1, out_h, out_w, 4 * co), top)),),
        specialized=True,
        schedule=tile,
    )


def _distance(form: Form, x: Sequence[int], y: Sequence[int], top: int) -> int:
    """How far before the input the output has to begin: rows are transformed before a part is written."""
    step = form.tile.down * form.rows[1]
    parts = (row // form.tile.down for row in range(y[1]))
    return rows_distance(x, y, [max(part * step - top + form.kept, 0) for part in parts])


def _matrices(op: ConvF32, parts: int) -> NDArray[np.float32]:
    """The spectrum as real matrices [block, part of a sum, frequency and row, part of a factor]."""
    h = spectrum(op.weight, op.fourier)
    length, kh, ci, co, _ = h.shape
    real, imaginary = h[..., 0], h[..., 1]
    # [frequency, row, part of the factor, ci, part of the sum, co]
    both = np.stack([np.stack([real, imaginary], axis=3), np.stack([-imaginary, real], axis=3)], axis=2)
    blocks = both.reshape(length * kh, 2 * ci, 2, 2 * co // parts, parts // 2)
    found: NDArray[np.float32] = blocks.transpose(3, 2, 4, 0, 1).reshape(-1, parts, length * kh, 2 * ci)
    return found


@cache
def convolution(form: Form) -> TirFunction:
    """The C function of one form."""
    extra = form.results.parameters()
    with Function(f"fourier_f32_{form.suffix}", "Convolution of float32 by transforms along the row.") as f:
        x, weight, bias, twiddle, *rest = f.parameters(
            read("x", "int8"), constant("weight", "int8"), constant("bias", "float32"),
            constant("twiddle", "float32"), *extra, write("y", "int8"), *scalars(*_SIZES),
            write("work", "int8"),
        )  # fmt: skip
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        n, work = dict(zip(_SIZES, rest, strict=False)), rest[-1]
        body = _Body(
            f, form, Transform(f, form.micro.header, form.lanes, work, twiddle), weight, bias, work, n
        )
        down = form.tile.down
        with f.share("part_y", quotient(n["out_h"] + (down - 1), down)) as part:
            body.see(x, part)
            with f.loop("b", 2 * form.channels[1] // form.tile.channels) as b:
                body.products(b)
                shared = form.results.begin(f, given, b, form.tile.channels)
                with f.loop("down", down) as j:
                    body.results(shared, part * down + j, j, b, y)
    return f.result


@dataclass
class _Body:
    """What is done for one part of the output's rows."""

    f: Function
    form: Form
    transform: Transform
    weight: Buffer
    bias: Buffer
    work: Buffer
    n: dict[str, Expr]

    def see(self, x: Buffer, part: Expr) -> None:
        """Spectra of the rows that are not there yet, and a table of where all of them are."""
        f, form, n, segments = self.f, self.form, self.n, self.form.segments
        step, pixel = form.tile.down * form.rows[1], form.channels[0] * 4
        top = f.bind("top", part * step)
        old = f.bind("old", either(first_of_share(part), 0, max(form.kept - step, 0)))
        with f.loop("r", form.kept - old) as r:
            row = f.bind("row", top + old + r)
            f.call(
                f"{form.micro.header}_pad_row", address(self.work, 0), address(x, 0), row - n["pad_top"],
                *(n[name] for name in ("in_rows", "row_bytes", "pad_left", "pad_right")), 0,
            )  # fmt: skip
            to = f.bind("to", self._row(row))
            with f.loop("pair", segments.pairs) as pair:
                start = f.bind("start", pair * (2 * segments.step * pixel))
                signal = f.bind("signal", to + pair * form.signal_bytes)
                other = segments.step * pixel
                self.transform.forward(segments.length, form.channels[0], signal, (start, pixel, other))
        self.table = f.local("rows", "int32", form.kept)
        with f.loop("k", form.kept) as k:
            f.store(self.table, k, self._row(top + k))

    def _row(self, row: Expr) -> Expr:
        spectrum_bytes = self.form.segments.pairs * self.form.signal_bytes
        return remainder(row, self.form.kept) * spectrum_bytes + self.form.places[0]

    def products(self, block: Expr) -> None:
        """Sums of a block of output channels at every frequency, [row, pair][frequency][part of a sum]."""
        f, form, tile = self.f, self.form, self.form.tile
        (kh, sh, dh), pairs = form.rows, form.segments.pairs
        depth = 2 * form.channels[0] * 4
        matrix, sum_bytes = depth * tile.channels, tile.channels * 4
        with (
            f.loop("q", form.segments.length) as q,
            f.loop("t", quotient(pairs + (tile.across - 1), tile.across)) as t,
        ):
            pair = f.bind("pair", minimum(t * tile.across, pairs - tile.across))
            w = f.bind("w", (block * form.segments.length + q) * (kh * matrix))
            place = f.bind("place", pair * form.signal_bytes + q * depth)
            sums = form.micro.sums(f, VectorTile(tile.down * tile.across, tile.channels))
            sums.start_at_zero()
            for ky in range(kh):
                at = []
                for j in range(tile.down):
                    row = f.bind("at", self.table[j * sh + ky * dh] + place)
                    at += [row + i * form.signal_bytes for i in range(tile.across)]
                sums.run(self.work, at, self.weight, w + ky * matrix, depth, first=ky == 0)
            for p in range(tile.down * tile.across):
                signal = (pair + (p // tile.across * pairs + p % tile.across)) * form.segments.length + q
                end = f.bind("end", signal * sum_bytes + form.places[1])
                for i, value in enumerate(sums.values(p)):
                    at_sum = address(self.work, end + i * form.micro.lanes * 4)
                    f.call(f"{form.micro.header}_store_f32x{form.micro.lanes}", at_sum, value)

    def results(self, shared: Any, row: Expr, j: Expr, block: Expr, y: Buffer) -> None:
        """One row of the output, back from frequencies."""
        f, form, n, segments = self.f, self.form, self.n, self.form.segments
        channels = form.tile.channels // 2
        channel = f.bind("channel", block * channels)
        with f.when(row < n["out_h"]), f.loop("pair", segments.pairs) as pair:
            signal_bytes = segments.length * form.tile.channels * 4
            signal = f.bind("signal", (j * segments.pairs + pair) * signal_bytes + form.places[1])
            self.transform.back(segments.length, channels, signal)
            for part in range(2):
                first = f.bind("first", pair * (2 * segments.step) + part * segments.step)
                count = maximum(minimum(segments.step, n["out_w"] - first), 0)
                with f.loop("p", count) as p, f.loop("v", channels // form.lanes) as v:
                    c = f.bind("c", v * form.lanes)
                    value = self._floats(signal + (p * form.tile.channels + part * channels + c) * 4)
                    bias = inline(self._dtype, self._name("load_f32x"), address(self.bias, channel + c))
                    total = f.bind("total", inline(self._dtype, self._name("plus_f32x"), value, bias))
                    at = (row * n["out_w"] + first + p) * form.channels[1] + channel + c
                    form.results.store(f, shared, [([total], at)], y)

    def _floats(self, at: Expr) -> Expr:
        return inline(self._dtype, self._name("floats"), address(self.work, at))

    def _name(self, what: str) -> str:
        return f"{self.form.micro.header}_{what}{self.form.lanes}"

    @property
    def _dtype(self) -> str:
        return f"float32x{self.form.lanes}"
