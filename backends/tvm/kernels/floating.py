"""float32 convolution and dense layers.

An output accumulates from its bias in the order ky, kx, ci, one rounding an operation; only channels and
pixels may be computed side by side. Weights are therefore packed [group][block][ky][kx][ci][channel of the
block], and a tile of pixels takes one element of each pixel and one vector of weights a step. Channels that
do not fill a block are padded with zeros, computed and dropped. A dense layer is a convolution over one row
of pixels.

A window position outside the input contributes its product with 0, as the reference does: it is not skipped,
because -0.0 + 0.0 is 0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elementwise_f32 import clipped, finite_bounds
from irshrink.backends.tvm.kernels.sharing import shares_blocks
from irshrink.backends.tvm.kernels.stored import Block, StoredForm, block_sizes, form_of, packed
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    all_of,
    constant,
    f32,
    i32,
    inline,
    last_overlaps,
    minimum,
    quotient,
    read,
    remainder,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvF32, DenseF32, Window
from irshrink.program.program import Program
from irshrink.target import Target

_SIZES = (
    "images", "out_h", "out_w", "height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "dilation_h", "dilation_w", "top", "left", "groups", "group_in", "group_out",
)  # fmt: skip


#: Of weights in blocks: how long one is, and how many there are at a position of the window.
_BLOCKS = ("block_length", "blocks_in")

#: Loops of the kernel: rows of the output, tiles of pixels in one, blocks of channels.
Shared = Literal["lines", "tiles", "blocks"]


@dataclass(frozen=True)
class Form:
    """Generator arguments.

    Attributes:
        pixels, channels: the register tile.
        vector: loops over the channels of a tile, which compilers vectorize, instead of straight code.
        depthwise: a block spans groups of one channel each, instead of the channels of one group.
        padded: windows may lie partly outside the input.
        low, high: which bounds of the fused clip are finite.
        stored: how the weights are stored in fewer bits; None for float32.
        fused: products are added with a single rounding.
        shared: which loop threads share.
    """

    pixels: int
    channels: int
    vector: bool
    depthwise: bool
    padded: bool
    low: bool
    high: bool
    stored: StoredForm | None
    fused: bool
    shared: Shared = "lines"

    @property
    def suffix(self) -> str:
        parts = [
            ("_depthwise", self.depthwise),
            ("_padded", self.padded),
            ("_low", self.low),
            ("_high", self.high),
            ("" if self.stored is None else self.stored.suffix, True),
            ("_fma", self.fused),
        ]
        style = "simd" if self.vector else "plain"
        parts += [(f"_{self.shared}", self.shared != "lines")]
        return f"_{style}_{self.pixels}x{self.channels}" + "".join(name for name, has in parts if has)

    def each(self, f: Function, do: Callable[[int, Any], None]) -> None:
        """``do(pixel, channel)`` for every element of the tile."""
        for p in range(self.pixels):
            if self.vector:
                with f.loop("j", self.channels) as j:
                    do(p, j)
                continue
            for c in range(self.channels):
                do(p, c)


def select_convolution_f32(op: ConvF32, program: Program, target: Target) -> KernelCall:
    """float32 convolution; pointwise layers see the image as one row of pixels."""
    images, height, width, channels = program.tensors[op.inputs[0]].shape
    _, out_h, out_w, _ = program.tensors[op.output].shape
    window = op.window
    plain = window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads)
    if plain:
        images, height, width, out_h, out_w = 1, 1, images * height * width, 1, images * out_h * out_w
    sizes = [images, out_h, out_w, height, width, channels, *window.kernel, *window.strides]
    sizes += [*window.dilations, *window.pads[:2]]
    return _select(op, op.weight, window, op.groups, sizes, target)


def select_dense_f32(op: DenseF32, program: Program, target: Target) -> KernelCall:
    """float32 dense layer: its rows are the pixels."""
    channels, depth = op.weight.shape
    pixels = program.tensors[op.output].elements // channels
    sizes = [1, 1, pixels, 1, pixels, depth, 1, 1, 1, 1, 1, 1, 0, 0]
    return _select(op, op.weight.reshape(channels, 1, 1, depth), Window(kernel=(1, 1)), 1, sizes, target)


def _select(
    op: ConvF32 | DenseF32,
    weight: NDArray[np.float32],
    window: Window,
    groups: int,
    sizes: list[int],
    target: Target,
) -> KernelCall:
    channels = weight.shape[0]
    depthwise = groups > 1 and groups == channels and weight.shape[3] == 1
    group_out = channels if depthwise else channels // groups
    simd = target.has("simd")
    width = (16 if simd else 4) if group_out >= 4 else 1
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    form = Form(
        pixels=min(4 if simd else 2, sizes[2]),
        channels=width,
        vector=simd and width > 1,
        depthwise=depthwise,
        padded=any(window.pads),
        low=low != -inf,
        high=high != inf,
        stored=None if op.codes is None else form_of(op.codes),
        fused=op.fused,
        shared=_shared(target, sizes, -(-group_out // width)),
    )
    groups = 1 if depthwise else groups
    arguments: list[Argument] = [
        Input(0),
        *_packed_weights(op, weight, groups, width),
        Constant("bias", _pack_bias(op.bias, channels, groups, width)),
        Output(),
        *sizes,
        *(groups, weight.shape[3], group_out),
        *block_sizes(op.codes),
        *finite_bounds(low, high),
    ]
    overread = -group_out % width * 4 if depthwise else 0
    return KernelCall(_convolution(form), tuple(arguments), overread_bytes=overread)


def _shared(target: Target, sizes: list[int], blocks: int) -> Shared:
    """The outermost loop that has work for all threads."""
    images, lines, columns = sizes[:3]
    if target.threads == 1 or images * lines >= 2 * target.threads:
        return "lines"
    return "blocks" if shares_blocks(target, -(-columns // 4), blocks) else "tiles"


def _packed_weights(
    op: ConvF32 | DenseF32, weight: NDArray[np.float32], groups: int, width: int
) -> list[Argument]:
    """The weights, or int8 codes and their scales."""
    if op.codes is None:
        return [Constant("weight", _pack(weight, groups, width))]

    def elements(array: NDArray[Any]) -> NDArray[Any]:
        return _pack(array.reshape(weight.shape), groups, width)

    def channels(array: NDArray[Any]) -> NDArray[Any]:
        """A number a channel, or one a block of inputs: in the order of the weights' positions."""
        return _pack(array.reshape(len(weight), *_positions(weight, array), -1), groups, width)

    return [*packed(op.codes, elements, channels, width)]


def _positions(weight: NDArray[Any], array: NDArray[Any]) -> tuple[int, int]:
    """Rows and columns of the window that ``array`` has a number for."""
    return weight.shape[1:3] if array.ndim == weight.ndim else (1, 1)


def _pack(weight: NDArray[Any], groups: int, width: int) -> NDArray[Any]:
    """[Co, kh, kw, Ci] as [group][block][ky][kx][ci][channel], blocks padded with zeros."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    blocks = -(-split.shape[1] // width)
    padded = np.zeros((groups, blocks * width, *weight.shape[1:]), weight.dtype)
    padded[:, : split.shape[1]] = split
    packed = padded.reshape(groups, blocks, width, *weight.shape[1:]).transpose(0, 1, 3, 4, 5, 2)
    return np.ascontiguousarray(packed).reshape(-1)


def _pack_bias(bias: NDArray[np.float32], channels: int, groups: int, width: int) -> NDArray[np.float32]:
    return _pack(np.broadcast_to(bias, (channels,)).reshape(channels, 1, 1, 1), groups, width)


def multiply_add(fused: bool, x: Expr, w: Expr, acc: Expr) -> Expr:
    """``x * w + acc``, rounded once where ``fused``."""
    return inline("float32", "irs_fma_f32", x, w, acc) if fused else acc + x * w


@cache
def _convolution(form: Form) -> TirFunction:
    bounds = ["low"] * form.low + ["high"] * form.high
    with Function(f"conv_f32{form.suffix}", "Convolution of float32.") as f:
        parameters = [
            read("x", "float32"),
            *(form.stored.parameters() if form.stored else [constant("weight", "float32")]),
            constant("bias", "float32"),
            write("y", "float32"),
            *scalars(*_SIZES, *(_BLOCKS if form.stored is not None and form.stored.blocks else ())),
            *(scalar(name, "float32") for name in bounds),
        ]
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        _Convolution(f, form, given["x"], given["weight"], given["bias"], given["y"], given).emit()
    return f.result


@dataclass
class _Convolution:
    """The body of one kernel."""

    f: Function
    form: Form
    x: Buffer
    weight: Buffer
    bias: Buffer
    y: Buffer
    size: dict[str, Expr]

    def emit(self) -> None:
        f, form, size = self.f, self.form, self.size
        self.acc = f.local("acc", "float32", form.pixels * form.channels)
        self.done = f.local("done", "float32", form.pixels * form.channels)
        self.block = None if form.stored is None else Block(f, form.stored, size, form.channels, form.vector)
        blocks = f.bind("blocks", quotient(size["group_out"] + (form.channels - 1), form.channels))
        step = f.bind("block_step", size["kernel_h"] * size["kernel_w"] * size["group_in"] * form.channels)
        with (
            self._loop("lines", "line", size["images"] * size["out_h"]) as line,
            self._loop("blocks", "b", size["groups"] * blocks) as b,
        ):
            image, oy = quotient(line, size["out_h"]), remainder(line, size["out_h"])
            channel = f.bind("channel", remainder(b, blocks) * form.channels)
            group = f.bind("group", quotient(b, blocks))
            tiles = quotient(size["out_w"] + (form.pixels - 1), form.pixels)
            with self._loop("tiles", "t", tiles, last_overlaps(size["out_w"], form.pixels)) as t:
                column = f.bind("column", minimum(t * form.pixels, size["out_w"] - form.pixels))
                self._start(b)
                first = channel if form.depthwise else group * size["group_in"]
                self._window(f.bind("image", image), f.bind("y", oy), column, first, (b, step))
                self._store(line * size["out_w"] + column, group, channel)

    def _loop(self, what: Shared, name: str, n: Expr, joined: Expr = 0) -> AbstractContextManager[Expr]:
        return self.f.share(name, n, joined) if self.form.shared == what else self.f.loop(name, n)

    def _start(self, block: Expr) -> None:
        first = block * self.form.channels
        if self.block is not None and not self.block.form.blocks:
            self.block.start(first)
        self.form.each(self.f, lambda p, j: self.f.store(self.acc, self._at(p, j), self.bias[first + j]))

    def _weights(self, at: Expr) -> Callable[[Any], Expr]:
        """The weights of a block from ``at`` on, by channel; codes become numbers once for all pixels."""
        return (lambda j: self.weight[at + j]) if self.block is None else self.block.load(at)

    def _at(self, pixel: int, j: Any) -> Expr:
        return i32(j + pixel * self.form.channels)

    def _window(self, image: Expr, oy: Expr, column: Expr, first: Expr, block: tuple[Expr, Expr]) -> None:
        """Every position of the window, for all pixels of a tile; ``block``: its number, its length."""
        f, form, size = self.f, self.form, self.size
        b, step = block
        with f.loop("ky", size["kernel_h"]) as ky:
            y = f.bind("in_y", oy * size["stride_h"] - size["top"] + ky * size["dilation_h"])
            row = f.bind("row", (image * size["height"] + y) * size["width"])
            with f.loop("kx", size["kernel_w"]) as kx:
                xs = [
                    f.bind(
                        f"in_x{p}", (column + p) * size["stride_w"] - size["left"] + kx * size["dilation_w"]
                    )
                    for p in range(form.pixels)
                ]
                at = [f.bind(f"at{p}", (row + x) * size["channels"] + first) for p, x in enumerate(xs)]
                inside = (
                    [f.bind(f"inside{p}", self._inside(y, x)) for p, x in enumerate(xs)]
                    if form.padded
                    else []
                )
                w = f.bind("w", b * step + (ky * size["kernel_w"] + kx) * size["group_in"] * form.channels)
                self._position(at, inside, w, (b * size["kernel_h"] + ky) * size["kernel_w"] + kx)

    def _inside(self, y: Expr, x: Expr) -> Expr:
        height, width = self.size["height"], self.size["width"]
        return all_of(y >= 0, y < height, x >= 0, x < width)

    def _position(self, at: list[Expr], inside: list[Expr], w: Expr, position: Expr) -> None:
        """One position: every input channel of a group, or (depthwise) one input channel a channel."""
        f, form = self.f, self.form

        def value(p: int, index: Expr) -> Expr:
            loaded = self.x[at[p] + index]
            return select(inside[p], loaded, f32(0.0)) if form.padded else loaded

        def add(p: int, j: Any, x: Expr, weight: Expr) -> None:
            here = self._at(p, j)
            f.store(self.acc, here, multiply_add(form.fused, x, weight, self.acc[here]))

        if form.depthwise and form.vector and form.stored is None:
            for p in range(form.pixels):
                here = inside[p] if form.padded else i32(1)
                sums, x = address(self.acc, self._at(p, 0)), address(self.x, at[p])
                name = "irs_fma16_f32" if form.fused else "irs_mla16_f32"
                f.call(name, sums, here, x, address(self.weight, w))
            return
        if form.depthwise:
            weights = self._weights(w)
            form.each(f, lambda p, j: add(p, j, value(p, j), weights(j)))
            return

        def channel(ci: Expr) -> None:
            taken = [f.bind(f"x{p}", value(p, ci)) for p in range(form.pixels)]
            weights = self._weights(w + ci * form.channels)
            form.each(f, lambda p, j: add(p, j, taken[p], weights(j)))

        self._each_input(position, channel)

    def _each_input(self, position: Expr, do: Callable[[Expr], None]) -> None:
        """``do`` for every input channel of a group, in runs that share their scales."""
        f, size = self.f, self.size
        if self.block is None or not self.block.form.blocks:
            with f.loop("ci", size["group_in"]) as ci:
                do(ci)
            return
        with f.loop("run", size["blocks_in"]) as run:
            self.block.start((position * size["blocks_in"] + run) * self.form.channels)
            begin = f.bind("begin", run * size["block_length"])
            with f.loop("i", minimum(size["group_in"] - begin, size["block_length"])) as i:
                do(f.bind("ci", begin + i))

    def _store(self, pixel: Expr, group: Expr, channel: Expr) -> None:
        """Clip and write the channels that exist."""
        f, form, size = self.f, self.form, self.size
        # sums are indexed by constants only, so that they stay in registers; the copy is not
        form.each(f, lambda p, j: f.store(self.done, self._at(p, j), self._clipped(self.acc[self._at(p, j)])))
        count = f.bind("count", minimum(size["group_out"] - channel, form.channels))
        first = f.bind("first", group * size["group_out"] + channel)
        for p in range(form.pixels):
            at = f.bind("y_at", (pixel + p) * size["groups"] * size["group_out"] + first)
            with f.loop("j", count) as j:
                f.store(self.y, at + j, self.done[self._at(p, j)])

    def _clipped(self, value: Expr) -> Expr:
        return clipped(
            value + f32(0.0) if self.form.fused else value, self.size.get("low"), self.size.get("high")
        )
