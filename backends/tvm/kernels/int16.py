"""Kernels between int16 activations: layers with int8 weights, sums, averages, and the borders to float32.

A layer takes a tile of pixels times a block of channels; weights are packed [group][block][ky][kx][ci]
[channel of the block], channels that do not fill a block are padded with zeros, computed and dropped. A
position outside the image is a product with 0. A dense layer is a convolution over one row of pixels. Integer
sums may be taken in any order: none overflows (docs/integer-semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import (
    Broadcast,
    Style,
    binary_body,
    broadcast,
    element_rows,
    inputs_like_output,
    style_of,
    unary_kernel,
)
from irshrink.backends.tvm.kernels.pooling import Counts, used_counts
from irshrink.backends.tvm.kernels.windows import (
    Block,
    Position,
    Sums,
    each_window,
    pool_distances,
    pool_rows,
    size_arguments,
    size_parameters,
)
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    all_of,
    cast,
    constant,
    i32,
    inline,
    minimum,
    quotient,
    read,
    remainder,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import (
    AddInt16,
    AveragePoolInt16,
    ConvInt16,
    DenseInt16,
    DequantizeInt16,
    QuantizeInt16,
    ToInt16,
    Window,
)
from irshrink.program.program import Program
from irshrink.target import Target

_SIZES = (
    "images", "out_h", "out_w", "height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "dilation_h", "dilation_w", "top", "left", "groups", "group_in", "group_out", "low", "high",
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """Generator arguments.

    Attributes:
        pixels, channels: the register tile.
        vector: loops over the channels of a tile, which compilers vectorize, instead of straight code.
        depthwise: a block spans groups of one channel each, instead of the channels of one group.
        padded: windows may lie partly outside the input.
    """

    pixels: int
    channels: int
    vector: bool
    depthwise: bool
    padded: bool

    @property
    def suffix(self) -> str:
        flags = "_depthwise" * self.depthwise + "_padded" * self.padded
        return f"_{'simd' if self.vector else 'plain'}_{self.pixels}x{self.channels}{flags}"

    def each(self, f: Function, do: Callable[[int, Any], None]) -> None:
        """``do(pixel, channel)`` for every element of the tile."""
        for p in range(self.pixels):
            if self.vector:
                with f.loop("j", self.channels) as j:
                    do(p, j)
                continue
            for c in range(self.channels):
                do(p, c)


def select_convolution(op: ConvInt16, program: Program, target: Target) -> KernelCall:
    """int16 convolution; pointwise layers see the image as one row of pixels."""
    images, height, width, channels = program.tensors[op.inputs[0]].shape
    _, out_h, out_w, _ = program.tensors[op.output].shape
    window = op.window
    if window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads):
        images, height, width, out_h, out_w = 1, 1, images * height * width, 1, images * out_h * out_w
    sizes = [images, out_h, out_w, height, width, channels, *window.kernel, *window.strides]
    sizes += [*window.dilations, *window.pads[:2]]
    return _layer(op.weight, op.bias, op.result, window, op.groups, sizes, target)


def select_dense(op: DenseInt16, program: Program, target: Target) -> KernelCall:
    """int16 dense layer: its rows are the pixels."""
    channels, depth = op.weight.shape
    pixels = program.tensors[op.output].elements // channels
    sizes = [1, 1, pixels, 1, pixels, depth, 1, 1, 1, 1, 1, 1, 0, 0]
    weight = op.weight.reshape(channels, 1, 1, depth)
    return _layer(weight, op.bias, op.result, Window(kernel=(1, 1)), 1, sizes, target)


def _layer(
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    result: ToInt16,
    window: Window,
    groups: int,
    sizes: list[int],
    target: Target,
) -> KernelCall:
    channels = len(weight)
    depthwise = groups > 1 and groups == channels and weight.shape[3] == 1
    simd = target.has("simd")
    group_out = channels if depthwise else channels // groups
    block = (16 if simd else 4) if group_out >= 4 else 1
    form = Form(
        pixels=min(2, sizes[2]),
        channels=block,
        vector=simd and block > 1,
        depthwise=depthwise,
        padded=any(window.pads),
    )
    groups = 1 if depthwise else groups
    multiplier = np.broadcast_to(result.multiplier, (channels,)).astype(np.float32)
    arguments: tuple[Argument, ...] = (
        Input(0),
        Constant("weight", _packed(weight, groups, block)),
        *(Constant(role, _packed(_column(array), groups, block)) for role, array in
          (("bias", bias), ("multiplier", multiplier))),
        Output(),
        *sizes,
        *(groups, weight.shape[3], group_out, result.low, result.high),
    )  # fmt: skip
    overread = -group_out % block * 2 if depthwise else 0
    return KernelCall(_convolution(form), arguments, overread_bytes=overread)


def _column(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, 1, 1, 1)


def _packed(weight: NDArray[Any], groups: int, width: int) -> NDArray[Any]:
    """[Co, kh, kw, Ci] as [group][block][ky][kx][ci][channel], blocks padded with zeros."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    blocks = -(-split.shape[1] // width)
    padded = np.zeros((groups, blocks * width, *weight.shape[1:]), weight.dtype)
    padded[:, : split.shape[1]] = split
    packed = padded.reshape(groups, blocks, width, *weight.shape[1:]).transpose(0, 1, 3, 4, 5, 2)
    return np.ascontiguousarray(packed).reshape(-1)


@cache
def _convolution(form: Form) -> TirFunction:
    with Function(f"conv_s16{form.suffix}", "Convolution of int16 by int8 weights.") as f:
        parameters = [
            read("x", "int16"),
            constant("weight", "int8"),
            constant("bias", "int32"),
            constant("multiplier", "float32"),
            write("y", "int16"),
            *scalars(*_SIZES),
        ]
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        _Convolution(f, form, given["x"], given["weight"], given["y"], given).emit()
    return f.result


@dataclass
class _Convolution:
    """The body of one kernel."""

    f: Function
    form: Form
    x: Buffer
    weight: Buffer
    y: Buffer
    size: dict[str, Any]

    def emit(self) -> None:
        f, form, size = self.f, self.form, self.size
        self.acc = f.local("acc", "int32", form.pixels * form.channels)
        self.done = f.local("done", "int16", form.pixels * form.channels)
        blocks = f.bind("blocks", quotient(size["group_out"] + (form.channels - 1), form.channels))
        step = f.bind("block_step", size["kernel_h"] * size["kernel_w"] * size["group_in"] * form.channels)
        with (
            f.share("line", size["images"] * size["out_h"]) as line,
            f.loop("b", size["groups"] * blocks) as b,
        ):
            image, oy = quotient(line, size["out_h"]), remainder(line, size["out_h"])
            channel = f.bind("channel", remainder(b, blocks) * form.channels)
            group = f.bind("group", quotient(b, blocks))
            tiles = quotient(size["out_w"] + (form.pixels - 1), form.pixels)
            with f.loop("t", tiles) as t:
                column = f.bind("column", minimum(t * form.pixels, size["out_w"] - form.pixels))
                first = b * form.channels
                form.each(f, lambda p, j: f.store(self.acc, self._at(p, j), size["bias"][first + j]))
                start = channel if form.depthwise else group * size["group_in"]
                self._window(f.bind("image", image), f.bind("y", oy), column, start, b * step)
                self._store(line * size["out_w"] + column, group, channel, first)

    def _at(self, pixel: int, j: Any) -> Expr:
        return i32(j + pixel * self.form.channels)

    def _window(self, image: Expr, oy: Expr, column: Expr, first: Expr, weights: Expr) -> None:
        """Every position of the window, for all pixels of the tile."""
        f, form, size = self.f, self.form, self.size
        with f.loop("ky", size["kernel_h"]) as ky:
            y = f.bind("in_y", oy * size["stride_h"] - size["top"] + ky * size["dilation_h"])
            row = f.bind("row", (image * size["height"] + y) * size["width"])
            with f.loop("kx", size["kernel_w"]) as kx:
                offset = kx * size["dilation_w"] - size["left"]
                xs = [
                    f.bind(f"in_x{p}", (column + p) * size["stride_w"] + offset) for p in range(form.pixels)
                ]
                at = [f.bind(f"at{p}", (row + x) * size["channels"] + first) for p, x in enumerate(xs)]
                inside = [f.bind(f"inside{p}", self._inside(y, x)) for p, x in enumerate(xs) if form.padded]
                w = f.bind("w", weights + (ky * size["kernel_w"] + kx) * size["group_in"] * form.channels)
                self._position(at, inside, w)

    def _inside(self, y: Expr, x: Expr) -> Expr:
        return all_of(y >= 0, y < self.size["height"], x >= 0, x < self.size["width"])

    def _position(self, at: list[Expr], inside: list[Expr], w: Expr) -> None:
        """One position: every input channel of a group, or (depthwise) one input channel a channel."""
        f, form = self.f, self.form

        def value(p: int, index: Any) -> Expr:
            loaded = cast("int32", self.x[at[p] + index])
            return select(inside[p], loaded, i32(0)) if form.padded else loaded

        def add(p: int, j: Any, x: Expr, weight: Expr) -> None:
            here = self._at(p, j)
            f.store(self.acc, here, self.acc[here] + x * cast("int32", weight))

        if form.depthwise:
            form.each(f, lambda p, j: add(p, j, value(p, j), self.weight[w + j]))
            return
        with f.loop("ci", self.size["group_in"]) as ci:
            taken = [f.bind(f"x{p}", value(p, ci)) for p in range(form.pixels)]
            form.each(f, lambda p, j: add(p, j, taken[p], self.weight[w + ci * form.channels + j]))

    def _store(self, pixel: Expr, group: Expr, channel: Expr, first: Expr) -> None:
        """Requantize, and write the channels that exist."""
        f, form, size = self.f, self.form, self.size

        def requantized(p: int, j: Any) -> Expr:
            acc, multiplier = self.acc[self._at(p, j)], size["multiplier"][first + j]
            return inline("int16", "irs_wide_requantize", acc, multiplier, size["low"], size["high"])

        form.each(f, lambda p, j: f.store(self.done, self._at(p, j), requantized(p, j)))
        count = f.bind("count", minimum(size["group_out"] - channel, form.channels))
        start = f.bind("first", group * size["group_out"] + channel)
        for p in range(form.pixels):
            at = f.bind("y_at", (pixel + p) * size["groups"] * size["group_out"] + start)
            with f.loop("j", count) as j:
                f.store(self.y, at + j, self.done[self._at(p, j)])


def select_add(op: AddInt16, program: Program, target: Target) -> KernelCall:
    """Sum of int16 tensors."""
    a, b = (program.tensors[name].shape for name in op.inputs)
    shape, sizes = broadcast(a, b, program.tensors[op.output].shape)
    m_a, m_b = (float(np.float32(m)) for m in op.multipliers)
    arguments: tuple[Argument, ...] = (Input(0), Input(1), Output(), *sizes, m_a, m_b, op.low, op.high)
    in_place, rows = inputs_like_output(op, program), element_rows(op, program)
    return KernelCall(_add(shape, style_of(target)), arguments, in_place=in_place, rows=rows)


@cache
def _add(shape: Broadcast, style: Style) -> TirFunction:
    extra = [scalar("m_a", "float32"), scalar("m_b", "float32"), *scalars("low", "high")]
    with Function(f"add_s16{shape.suffix}", "Sum of int16 tensors in float32.") as f:
        binary_body(f, shape, style, "int16", extra, partial(inline, "int16", "irs_wide_add"))
    return f.result


def select_average_pool(op: AveragePoolInt16, program: Program, target: Target) -> KernelCall:
    """int16 average pool: exact sums, one rounding."""
    _, height, width, channels = program.tensors[op.inputs[0]].shape
    block = Block.choose(target, op.window, channels, "int16", packed=False)
    counts = Counts.of(op.multipliers, used_counts(op.window, height, width, op.count_padding))
    arguments = (Input(0), Output(), *size_arguments(op, program), *counts.arguments(), op.low, op.high)
    function = _average_pool(block, counts.table)
    return KernelCall(function, arguments, distances=pool_distances(op, program), rows=pool_rows(op, block))


@cache
def _average_pool(block: Block, table: bool) -> TirFunction:
    name = f"average_pool_s16{block.suffix}{'_counts' if table else ''}"
    with Function(name, "Average pool of int16.") as f:
        sizes, given = size_parameters(block), Counts.parameters(table)
        x, y, *rest = f.parameters(
            read("x", "int16"), write("y", "int16"), *sizes, *given, *scalars("low", "high")
        )
        size, multipliers, bounds = rest[: len(sizes)], rest[len(sizes) : -2], rest[-2:]
        sums = Sums(f, block, "int32", x, i32(0), lambda acc, v: acc + cast("int32", v))

        def finish(p: Position) -> None:
            multiplier = Counts.emit(f, table, multipliers, p.valid)
            sums.each(
                lambda j: f.store(
                    y, p.at + j, inline("int16", "irs_wide_requantize", sums.value(j), multiplier, *bounds)
                )
            )

        each_window(f, block, size, sums, finish)
    return f.result


def select_quantize(op: QuantizeInt16, program: Program, target: Target) -> KernelCall:
    """float32 to int16."""
    n = program.tensors[op.output].elements
    return KernelCall(_quantize(style_of(target)), (Input(0), Output(), float(np.float32(op.scale)), n))


@cache
def _quantize(style: Style) -> TirFunction:
    return unary_kernel(
        "quantize_s16", "float32 to int16.", ("float32", "int16"), style, [scalar("scale", "float32")],
        lambda x, scale: inline("int16", "irs_wide_quantize", x / scale),
    )  # fmt: skip


def select_dequantize(op: DequantizeInt16, program: Program, target: Target) -> KernelCall:
    """int16 to float32."""
    n = program.tensors[op.output].elements
    return KernelCall(_dequantize(style_of(target)), (Input(0), Output(), float(np.float32(op.scale)), n))


@cache
def _dequantize(style: Style) -> TirFunction:
    return unary_kernel(
        "dequantize_s16", "int16 to float32.", ("int16", "float32"), style, [scalar("scale", "float32")],
        lambda x, scale: cast("float32", cast("int32", x)) * scale,
    )  # fmt: skip
