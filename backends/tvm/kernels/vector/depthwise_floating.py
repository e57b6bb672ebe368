"""float32 and float16 depthwise convolution, fused sums: a vector of channels of a few neighbouring pixels.

A column of the input is loaded once for all pixels of the tile whose windows hold it. Columns come in order:
each sum takes its products in the order ky, kx. Weights of small filters stay in registers along a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.tiles import block_starts
from irshrink.backends.tvm.kernels.vector.convolution import ELEMENTS, SUMS
from irshrink.backends.tvm.kernels.vector.float_results import FloatResults
from irshrink.backends.tvm.kernels.vector.fma import Fma, as_stored
from irshrink.backends.tvm.kernels.vector.geometry import Rows, RowView
from irshrink.backends.tvm.kernels.vector.layer import Layer, distances
from irshrink.backends.tvm.kernels.vector.micro import VectorTile, blocks_of
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    i32,
    inline,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvF16, ConvF32
from irshrink.program.program import Program

#: Pixels of a tile, and filters whose weights stay in registers.
_PIXELS, _KEPT = 6, 12

_SIZES = ("out_h", "out_w", "channels", "pitch", "pixel_bytes")


@dataclass(frozen=True)
class Form:
    """What of a layer is part of the code; a hashable argument of the generator."""

    micro: Fma
    pixels: int
    rows: Rows
    columns: int
    stride: int
    dilation: int
    results: FloatResults

    @property
    def suffix(self) -> str:
        dilation = f"d{self.dilation}" if self.dilation > 1 else ""
        geometry = f"{self.rows.suffix}_w{self.columns}s{self.stride}{dilation}"
        return f"{self.micro.name}_{self.pixels}x{self.micro.lanes}{geometry}{self.results.suffix}"

    @property
    def kept(self) -> bool:
        """Whether the weights of a block of channels stay in registers."""
        return self.rows.count * self.columns <= _KEPT


def select(op: ConvF32 | ConvF16, program: Program, micro: Fma) -> KernelCall | None:
    """The kernel for a depthwise layer; None for several images, channel multipliers and few channels."""
    (images, height, width, channels), y = (
        program.tensors[op.inputs[0]].shape,
        program.tensors[op.output].shape,
    )
    if images != 1 or op.groups != channels or y[3] != channels or channels < micro.lanes:
        return None
    window, (_, out_h, out_w, _) = op.window, y
    rows = Rows.of(window)
    nbytes = micro.nbytes
    layer = Layer(
        window, (1, height, width, nbytes * channels), (out_h, out_w, channels), channels, 0, nbytes
    )
    pitch, ring = rows.sizes(window, layer.x, out_w, 0)
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    results = FloatResults(micro.functions, micro.lanes, low != -inf, high != inf, micro.element)
    form = Form(
        micro, min(_PIXELS, out_w), rows, window.kernel[1], window.strides[1], window.dilations[1], results
    )
    taps = op.weight[..., 0].reshape(channels, -1)
    blocks = blocks_of(block_starts(channels, micro.lanes), taps, micro.lanes).transpose(0, 2, 1)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", as_stored(blocks).reshape(-1)),
        Constant("bias", as_stored(np.broadcast_to(op.bias, (channels,)))),
        *results.arguments(low, high),
        Output(),
        *(out_h, out_w, channels, pitch, nbytes * channels),
        *([Workspace(), *ring] if rows.padded else []),
    ]
    return KernelCall(
        function=depthwise(form),
        arguments=tuple(arguments),
        workspace_bytes=rows.nbytes(pitch),
        distances=distances(rows, layer, VectorTile(out_w, 1), False),
        specialized=True,
    )


@cache
def depthwise(form: Form) -> TirFunction:
    """The C function of one form."""
    extra, lanes = form.results.parameters(), form.micro.lanes
    element, stored = ELEMENTS[form.micro.element], SUMS[form.micro.element]
    name, doc = (
        f"depthwise_{form.micro.element}_{form.suffix}",
        f"Depthwise convolution of {element} in vectors.",
    )
    with Function(name, doc) as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"), constant("weight", stored), constant("bias", stored), *extra,
            write("y", "int8"), *scalars(*_SIZES), *form.rows.parameters(),
        )  # fmt: skip
        given, (y, *rest) = rest[: len(extra)], rest[len(extra) :]
        n, ring = dict(zip(_SIZES, rest, strict=False)), rest[len(_SIZES) :]
        body = _Body(f, form, weight, bias, n)
        with f.share("out_y", n["out_h"]) as oy:
            view = form.rows.emit(f, form.micro.header, ring, x, n["pitch"], oy)
            with f.loop("b", quotient(n["channels"] + (lanes - 1), lanes)) as b:
                channel = f.bind("channel", minimum(b * lanes, n["channels"] - lanes))
                body.begin(b, channel)
                shared = form.results.begin(f, given, channel, lanes)
                with f.loop("t", quotient(n["out_w"] + (form.pixels - 1), form.pixels)) as t:
                    column = f.bind("column", minimum(t * form.pixels, n["out_w"] - form.pixels))
                    sums = body.tile(view, column, channel)
                    out = f.bind("out", (oy * n["out_w"] + column) * n["channels"] + channel)
                    pixels = [([sums[i32(p)]], out + n["channels"] * p) for p in range(form.pixels)]
                    form.results.store(f, shared, pixels, y)
    return f.result


@dataclass
class _Body:
    """The sums of one tile."""

    f: Function
    form: Form
    weight: Buffer
    bias: Buffer
    n: dict[str, Expr]

    def begin(self, block: Expr, channel: Expr) -> None:
        """What all tiles of a row share."""
        form, count = self.form, self.form.rows.count * self.form.columns
        self._first = self.f.bind("w", block * (count * form.micro.lanes))
        self._start = self.f.bind("start", self._load(self.bias, channel))
        self._kept = [self.f.bind(f"w{k}", self._tap(k)) for k in range(count)] if form.kept else []

    def tile(self, view: RowView, column: Expr, channel: Expr) -> Buffer:
        """The sums of the pixels from ``column`` on."""
        f, form = self.f, self.form
        sums = f.local("acc", self._dtype, form.pixels)
        for p in range(form.pixels):
            f.store(sums, p, self._start)
        first = f.bind("first", column * (self.n["pixel_bytes"] * form.stride) + channel * form.micro.nbytes)
        uses: dict[int, list[tuple[int, int]]] = {}
        for p in range(form.pixels):
            for kx in range(form.columns):
                uses.setdefault(p * form.stride + kx * form.dilation, []).append((p, kx))
        for ky, row in enumerate(view.rows):
            at = f.bind("at", row + first)
            taps = self._taps(ky)
            for place in sorted(uses):
                x = address(view.source, at + self.n["pixel_bytes"] * place)
                value = f.bind(f"x{place}", inline(self._dtype, self._name("floats"), x))
                for p, kx in uses[place]:
                    total = inline(self._dtype, self._name("fma"), sums[i32(p)], value, taps[kx])
                    f.store(sums, p, total)
        return sums

    def _taps(self, ky: int) -> list[Expr]:
        """The weights of one row of the filter."""
        numbers = range(ky * self.form.columns, (ky + 1) * self.form.columns)
        return [self._kept[k] if self._kept else self.f.bind(f"w{k}", self._tap(k)) for k in numbers]

    def _tap(self, number: int) -> Expr:
        return self._load(self.weight, self._first + number * self.form.micro.lanes)

    def _load(self, buffer: Buffer, at: Expr) -> Expr:
        name = f"{self.form.micro.functions}_load_{self.form.micro.form}"
        return inline(self._dtype, name, address(buffer, at))

    def _name(self, what: str) -> str:
        return f"{self.form.micro.functions}_{what}{self.form.micro.lanes}"

    @property
    def _dtype(self) -> str:
        return self.form.micro.dtype
