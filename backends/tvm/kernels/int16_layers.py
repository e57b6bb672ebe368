"""Layers between int16 activations: int8 weights, int32 sums.

A position outside the image is a product with 0. Integer sums may be taken in any order: none overflows
(docs/integer-semantics.md).

With the DSP extension four input channels are one step: [step][channel][4], the four in the order 0, 2, 1, 3,
so that SXTB16 of their word, and of it rotated by a byte, gives pairs that lie side by side in the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.direct import (
    SIZES,
    Direct,
    DirectKernel,
    image_sizes,
    pack,
    row_sizes,
)
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    address,
    cast,
    constant,
    i32,
    inline,
    quotient,
    read,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvInt16, DenseInt16, ToInt16, Window
from irshrink.program.program import Program
from irshrink.target import Target

#: Input channels of a step with the DSP extension, and their order in a word.
STEP, _ORDER = 4, (0, 2, 1, 3)


@dataclass(frozen=True, kw_only=True)
class Form(Direct):
    """Generator arguments.

    Attributes:
        paired: weights come in steps of four input channels, for SMLAD.
    """

    paired: bool = False

    @property
    def suffix(self) -> str:
        flags = "_depthwise" * self.depthwise + "_padded" * self.padded
        style = "dsp" if self.paired else "simd" if self.vector else "plain"
        return f"_{style}_{self.pixels}x{self.channels}{flags}"


def select_convolution(op: ConvInt16, program: Program, target: Target) -> KernelCall:
    """int16 convolution."""
    sizes = image_sizes(op, op.window, program)
    return _layer(op.weight, op.bias, op.result, op.window, op.groups, sizes, target)


def select_dense(op: DenseInt16, program: Program, target: Target) -> KernelCall:
    """int16 dense layer."""
    channels, depth = op.weight.shape
    sizes = row_sizes(program.tensors[op.output].elements // channels, depth)
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
        Constant("weight", _paired(weight, groups) if form.paired else pack(weight, groups, form.channels)),
        Constant("bias", pack(_column(bias), groups, form.channels)),
        Constant("multiplier", pack(_column(multiplier), groups, form.channels)),
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
        return Form(pixels=pixels, channels=2, vector=False, depthwise=False, padded=padded, paired=True)
    group_out = channels if depthwise else channels // groups
    block = (16 if simd else 4) if group_out >= 4 else 1
    vector = simd and block > 1
    return Form(pixels=pixels, channels=block, vector=vector, depthwise=depthwise, padded=padded)


def _column(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, 1, 1, 1)


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
            *scalars(*SIZES, "low", "high"),
        ]
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        _Convolution(f, form, given, "int32").emit()
    return f.result


@dataclass
class _Convolution(DirectKernel):
    """The body of one kernel."""

    tile: Form

    def begin(self) -> None:
        if self.tile.paired:
            self.steps = self.f.bind("steps", quotient(self.given["group_in"] + (STEP - 1), STEP))

    def depth(self) -> Expr:
        return self.steps * STEP if self.tile.paired else super().depth()

    def start(self, first: Expr) -> None:
        bias = self.given["bias"]
        self.tile.each(self.f, lambda p, j: self.f.store(self.acc, self.at(p, j), bias[first + j]))

    def position(self, at: list[Expr], inside: list[Expr], w: Expr, number: Expr) -> None:
        f, form, weight = self.f, self.tile, self.given["weight"]
        if form.paired:
            self._steps(at, inside, w)
            return

        def value(p: int, index: Any) -> Expr:
            loaded = cast("int32", self.x[at[p] + index])
            return select(inside[p], loaded, i32(0)) if form.padded else loaded

        def add(p: int, j: Any, x: Expr, weight: Expr) -> None:
            here = self.at(p, j)
            f.store(self.acc, here, self.acc[here] + x * cast("int32", weight))

        if form.depthwise:
            form.each(f, lambda p, j: add(p, j, value(p, j), weight[w + j]))
            return
        with f.loop("ci", self.given["group_in"]) as ci:
            taken = [f.bind(f"x{p}", value(p, ci)) for p in range(form.pixels)]
            form.each(f, lambda p, j: add(p, j, taken[p], weight[w + ci * form.channels + j]))

    def result(self, pixel: int, j: Any, first: Expr) -> Expr:
        given = self.given
        acc, multiplier = self.acc[self.at(pixel, j)], given["multiplier"][first + j]
        return inline("int16", "irs_wide_requantize", acc, multiplier, given["low"], given["high"])

    def _steps(self, at: list[Expr], inside: list[Expr], w: Expr) -> None:
        """Four input channels a step; what lies outside the image is read from zeros."""
        name = f"irs_wide_{'one' if self.tile.pixels == 1 else 'two'}{'_padded' if inside else ''}"
        zeros = [self.given["zeros"]] if inside else []
        pixels = [address(self.x, place) for place in at]
        self.f.call(name, self.acc, *inside, *pixels, *zeros, address(self.given["weight"], w), self.steps)
