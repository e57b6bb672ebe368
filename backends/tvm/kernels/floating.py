"""float32 convolution and dense layers.

An output accumulates from its bias in the order ky, kx, ci, one rounding an operation; only channels and
pixels may be computed side by side: a tile of pixels takes one element of each pixel and one vector of
weights a step (:mod:`~irshrink.backends.tvm.kernels.direct`).

A window position outside the input contributes its product with 0, as the reference does: it is not skipped,
because -0.0 + 0.0 is 0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.direct import (
    SIZES,
    Direct,
    DirectKernel,
    Shared,
    image_sizes,
    pack,
    row_sizes,
)
from irshrink.backends.tvm.kernels.elementwise_f32 import clipped, finite_bounds
from irshrink.backends.tvm.kernels.sharing import shares_blocks
from irshrink.backends.tvm.kernels.stored import Block, StoredForm, block_sizes, form_of, packed
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    f32,
    i32,
    inline,
    minimum,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvF32, DenseF32, Window
from irshrink.program.program import Program
from irshrink.target import Target

#: Of weights in blocks: how long one is, and how many there are at a position of the window.
_BLOCKS = ("block_length", "blocks_in")


@dataclass(frozen=True, kw_only=True)
class Form(Direct):
    """Generator arguments.

    Attributes:
        low, high: which bounds of the fused clip are finite.
        stored: how the weights are stored in fewer bits; None for float32.
        fused: products are added with a single rounding.
    """

    low: bool
    high: bool
    stored: StoredForm | None
    fused: bool

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


def select_convolution_f32(op: ConvF32, program: Program, target: Target) -> KernelCall:
    """float32 convolution."""
    return _select(op, op.weight, op.window, op.groups, image_sizes(op, op.window, program), target)


def select_dense_f32(op: DenseF32, program: Program, target: Target) -> KernelCall:
    """float32 dense layer."""
    channels, depth = op.weight.shape
    sizes = row_sizes(program.tensors[op.output].elements // channels, depth)
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
        return [Constant("weight", pack(weight, groups, width))]

    def elements(array: NDArray[Any]) -> NDArray[Any]:
        return pack(array.reshape(weight.shape), groups, width)

    def channels(array: NDArray[Any]) -> NDArray[Any]:
        """A number a channel, or one a block of inputs: in the order of the weights' positions."""
        return pack(array.reshape(len(weight), *_positions(weight, array), -1), groups, width)

    return [*packed(op.codes, elements, channels, width)]


def _positions(weight: NDArray[Any], array: NDArray[Any]) -> tuple[int, int]:
    """Rows and columns of the window that ``array`` has a number for."""
    return weight.shape[1:3] if array.ndim == weight.ndim else (1, 1)


def _pack_bias(bias: NDArray[np.float32], channels: int, groups: int, width: int) -> NDArray[np.float32]:
    return pack(np.broadcast_to(bias, (channels,)).reshape(channels, 1, 1, 1), groups, width)


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
            *scalars(*SIZES, *(_BLOCKS if form.stored is not None and form.stored.blocks else ())),
            *(scalar(name, "float32") for name in bounds),
        ]
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        _Convolution(f, form, given, "float32").emit()
    return f.result


@dataclass
class _Convolution(DirectKernel):
    """The body of one kernel."""

    tile: Form

    def begin(self) -> None:
        form = self.tile
        self.block = (
            None
            if form.stored is None
            else Block(self.f, form.stored, self.given, form.channels, form.vector)
        )

    def start(self, first: Expr) -> None:
        if self.block is not None and not self.block.form.blocks:
            self.block.start(first)
        bias = self.given["bias"]
        self.tile.each(self.f, lambda p, j: self.f.store(self.acc, self.at(p, j), bias[first + j]))

    def position(self, at: list[Expr], inside: list[Expr], w: Expr, number: Expr) -> None:
        f, form = self.f, self.tile

        def value(p: int, index: Expr) -> Expr:
            loaded = self.x[at[p] + index]
            return select(inside[p], loaded, f32(0.0)) if form.padded else loaded

        def add(p: int, j: Any, x: Expr, weight: Expr) -> None:
            here = self.at(p, j)
            f.store(self.acc, here, multiply_add(form.fused, x, weight, self.acc[here]))

        if form.depthwise and form.vector and form.stored is None:
            for p in range(form.pixels):
                here = inside[p] if form.padded else i32(1)
                sums, x = address(self.acc, self.at(p, 0)), address(self.x, at[p])
                name = "irs_fma16_f32" if form.fused else "irs_mla16_f32"
                f.call(name, sums, here, x, address(self.given["weight"], w))
            return
        if form.depthwise:
            weights = self._weights(w)
            form.each(f, lambda p, j: add(p, j, value(p, j), weights(j)))
            return

        def channel(ci: Expr) -> None:
            taken = [f.bind(f"x{p}", value(p, ci)) for p in range(form.pixels)]
            weights = self._weights(w + ci * form.channels)
            form.each(f, lambda p, j: add(p, j, taken[p], weights(j)))

        self._each_input(number, channel)

    def result(self, pixel: int, j: Any, first: Expr) -> Expr:
        value = self.acc[self.at(pixel, j)]
        value = value + f32(0.0) if self.tile.fused else value
        return clipped(value, self.given.get("low"), self.given.get("high"))

    def _weights(self, at: Expr) -> Callable[[Any], Expr]:
        """The weights of a block from ``at`` on, by channel; codes become numbers once for all pixels."""
        return (lambda j: self.given["weight"][at + j]) if self.block is None else self.block.load(at)

    def _each_input(self, position: Expr, do: Callable[[Expr], None]) -> None:
        """``do`` for every input channel of a group, in runs that share their scales."""
        f, size = self.f, self.given
        if self.block is None or not self.block.form.blocks:
            with f.loop("ci", size["group_in"]) as ci:
                do(ci)
            return
        with f.loop("run", size["blocks_in"]) as run:
            self.block.start((position * size["blocks_in"] + run) * self.tile.channels)
            begin = f.bind("begin", run * size["block_length"])
            with f.loop("i", minimum(size["group_in"] - begin, size["block_length"])) as i:
                do(f.bind("ci", begin + i))
