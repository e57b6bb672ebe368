"""Layers between int16 activations: int8 weights, int32 sums.

A layer takes a tile of pixels times a block of channels; weights are packed [group][block][ky][kx][ci]
[channel of the block], channels that do not fill a block are padded with zeros, computed and dropped. A
position outside the image is a product with 0. A dense layer is a convolution over one row of pixels. Integer
sums may be taken in any order: none overflows (docs/integer-semantics.md).

With the DSP extension four input channels are one step: [step][channel][4], the four in the order 0, 2, 1, 3,
so that SXTB16 of their word, and of it rotated by a byte, gives pairs that lie side by side in the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    all_of,
    cast,
    constant,
    i32,
    inline,
    minimum,
    quotient,
    read,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvInt16, DenseInt16, ToInt16, Window
from irshrink.program.program import Program
from irshrink.target import Target

#: Input channels of a step with the DSP extension, and their order in a word.
STEP, _ORDER = 4, (0, 2, 1, 3)

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
        paired: weights come in steps of four input channels, for SMLAD.
    """

    pixels: int
    channels: int
    vector: bool
    depthwise: bool
    padded: bool
    paired: bool = False

    @property
    def suffix(self) -> str:
        flags = "_depthwise" * self.depthwise + "_padded" * self.padded
        style = "dsp" if self.paired else "simd" if self.vector else "plain"
        return f"_{style}_{self.pixels}x{self.channels}{flags}"

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
    form = _form(target, weight, sizes[2], groups, padded=any(window.pads))
    groups = 1 if form.depthwise else groups
    group_in, group_out = weight.shape[3], channels // groups
    multiplier = np.broadcast_to(result.multiplier, (channels,)).astype(np.float32)
    arguments: list[Argument] = [
        Input(0),
        Constant(
            "weight", _paired(weight, groups) if form.paired else _packed(weight, groups, form.channels)
        ),
        Constant("bias", _packed(_column(bias), groups, form.channels)),
        Constant("multiplier", _packed(_column(multiplier), groups, form.channels)),
        Output(),
    ]
    if form.paired and form.padded:
        arguments.append(Constant("zeros", np.zeros(group_in + -group_in % STEP, np.int16)))
    arguments += [*sizes, groups, group_in, group_out, result.low, result.high]
    overread = -group_in % STEP if form.paired else -group_out % form.channels if form.depthwise else 0
    return KernelCall(_convolution(form), tuple(arguments), overread_bytes=2 * overread)


def _form(target: Target, weight: NDArray[np.int8], columns: int, groups: int, *, padded: bool) -> Form:
    channels, group_in = len(weight), weight.shape[3]
    depthwise = groups > 1 and groups == channels and group_in == 1
    simd, pixels = target.has("simd"), min(2, columns)
    if target.has("dsp") and group_in > STEP // 2:  # what fills up a step costs as much as what is there
        return Form(pixels, 2, vector=False, depthwise=False, padded=padded, paired=True)
    group_out = channels if depthwise else channels // groups
    block = (16 if simd else 4) if group_out >= 4 else 1
    return Form(pixels, block, vector=simd and block > 1, depthwise=depthwise, padded=padded)


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


def _paired(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """[Co, kh, kw, Ci] as [group][block][ky][kx][step][channel of two][4], padded with zeros."""
    co, kh, kw, ci = weight.shape
    per_group, steps = co // groups, -(-ci // STEP)
    full = np.zeros((groups, -(-per_group // 2) * 2, kh, kw, steps * STEP), np.int8)
    full[:, :per_group, ..., :ci] = weight.reshape(groups, per_group, kh, kw, ci)
    blocks = full.reshape(groups, -1, 2, kh, kw, steps, STEP)[..., _ORDER]
    return np.ascontiguousarray(blocks.transpose(0, 1, 3, 4, 5, 2, 6)).reshape(-1)


@cache
def _convolution(form: Form) -> TirFunction:
    with Function(f"conv_s16{form.suffix}", "Convolution of int16 by int8 weights.") as f:
        parameters = [
            read("x", "int16"),
            constant("weight", "int8"),
            constant("bias", "int32"),
            constant("multiplier", "float32"),
            write("y", "int16"),
            *([constant("zeros", "int16")] if form.paired and form.padded else []),
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
        deep = f.bind("steps", quotient(size["group_in"] + (STEP - 1), STEP)) if form.paired else None
        self.depth = size["group_in"] if deep is None else deep * STEP
        step = f.bind("block_step", size["kernel_h"] * size["kernel_w"] * self.depth * form.channels)
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
                w = f.bind("w", weights + (ky * size["kernel_w"] + kx) * self.depth * form.channels)
                if form.paired:
                    self._steps(at, inside, w)
                else:
                    self._position(at, inside, w)

    def _inside(self, y: Expr, x: Expr) -> Expr:
        return all_of(y >= 0, y < self.size["height"], x >= 0, x < self.size["width"])

    def _steps(self, at: list[Expr], inside: list[Expr], w: Expr) -> None:
        """One position, four input channels a step; what lies outside the image is read from zeros."""
        name = f"irs_wide_{'one' if self.form.pixels == 1 else 'two'}{'_padded' if inside else ''}"
        zeros = [self.size["zeros"]] if inside else []
        pixels = [address(self.x, place) for place in at]
        steps = quotient(self.depth, STEP)
        self.f.call(name, self.acc, *inside, *pixels, *zeros, address(self.weight, w), steps)

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
