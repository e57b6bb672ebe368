"""float16 convolution and dense layers on any core.

A tile of pixels takes one element of each and one vector of weights a step
(:mod:`~irshrink.backends.tvm.kernels.direct`). Sums in pieces keep a total beside each; where a piece ends is
:class:`~irshrink.program.ops.float16.Pieces`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.direct import SIZES, Direct, DirectKernel, image_sizes, pack, row_sizes
from irshrink.backends.tvm.kernels.float16 import bits_of
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    all_of,
    any_of,
    cast,
    constant,
    i32,
    inline,
    read,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvF16, DenseF16
from irshrink.program.ops.float16 import PIECE
from irshrink.program.program import Program
from irshrink.target import Target

_ZERO = cast("int16", i32(0))


@dataclass(frozen=True, kw_only=True)
class Form(Direct):
    """Generator arguments.

    Attributes:
        bounds: which ends of the fused clip are finite.
        pieces: how products are cut: not at all, where a row is one run, or where each column is one.
    """

    bounds: tuple[str, ...]
    pieces: int

    @property
    def suffix(self) -> str:
        style = "simd" if self.vector else "plain"
        parts = [
            ("_depthwise", self.depthwise),
            ("_padded", self.padded),
            (f"_pieces{self.pieces}", self.pieces),
        ]
        names = "".join(name for name, has in parts if has) + "".join(f"_{bound}" for bound in self.bounds)
        return f"_{style}_{self.pixels}x{self.channels}{names}"


def select_convolution(op: ConvF16, program: Program, target: Target) -> KernelCall:
    """float16 convolution."""
    padded = any(op.window.pads)
    return _select(op, op.weight, op.groups, image_sizes(op, op.window, program), padded, target)


def select_dense(op: DenseF16, program: Program, target: Target) -> KernelCall:
    """float16 dense layer."""
    channels, depth = op.weight.shape
    sizes = row_sizes(program.tensors[op.output].elements // channels, depth)
    return _select(op, op.weight.reshape(channels, 1, 1, depth), 1, sizes, False, target)


def finite_bounds(op: ConvF16 | DenseF16) -> dict[str, float]:
    """Names of the functions that clip, and their bounds."""
    return {k: v for k, v in (("atleast", op.low), ("atmost", op.high)) if v not in (-inf, inf)}


def _select(
    op: ConvF16 | DenseF16, weight: NDArray[Any], groups: int, sizes: list[int], padded: bool, target: Target
) -> KernelCall:
    channels, depth = len(weight), weight.shape[3]
    depthwise = groups > 1 and groups == channels and depth == 1
    group_out = channels if depthwise else channels // groups
    simd = target.has("simd")
    width = (16 if simd else 4) if group_out >= 4 else 1
    bounds = finite_bounds(op)
    form = Form(
        pixels=min(4 if simd else 2, sizes[2]),
        channels=width,
        vector=simd and width > 1,
        depthwise=depthwise,
        padded=padded,
        bounds=tuple(bounds),
        pieces=op.pieces.runs if op.pieces.several else 0,
    )
    groups = 1 if depthwise else groups
    bias = np.ascontiguousarray(op.bias).view(np.int16).reshape(-1, 1, 1, 1)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", pack(np.ascontiguousarray(weight).view(np.int16), groups, width)),
        Constant("bias", pack(bias, groups, width)),
        Output(),
        *sizes,
        *(groups, depth, group_out),
        *(bits_of(bound) for bound in bounds.values()),
    ]
    overread = -group_out % width * 2 if depthwise else 0
    return KernelCall(_convolution(form), tuple(arguments), overread_bytes=overread)


@cache
def _convolution(form: Form) -> TirFunction:
    with Function(f"conv_f16{form.suffix}", "Convolution of float16.") as f:
        parameters = [
            read("x", "int16"),
            constant("weight", "int16"),
            constant("bias", "int16"),
            write("y", "int16"),
            *scalars(*SIZES, *form.bounds),
        ]
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        _Convolution(f, form, given, "int16").emit()
    return f.result


@dataclass
class _Convolution(DirectKernel):
    """The body of one kernel."""

    tile: Form

    def begin(self) -> None:
        form = self.tile
        self.total = self.f.local("total", "int16", form.pixels * form.channels) if form.pieces else self.acc

    def start(self, first: Expr) -> None:
        bias = self.given["bias"]
        self.tile.each(self.f, lambda p, j: self.f.store(self.total, self.at(p, j), bias[first + j]))
        if self.tile.pieces:
            self._from_zero()

    def position(self, at: list[Expr], inside: list[Expr], w: Expr, number: Expr) -> None:
        f, form, weight = self.f, self.tile, self.given["weight"]
        column = f.bind("column_x", remainder(number, self.given["kernel_w"]))

        def value(p: int, index: Any) -> Expr:
            loaded = self.x[at[p] + index]
            return select(inside[p], loaded, _ZERO) if form.padded else loaded

        def add(p: int, j: Any, x: Expr, weight: Expr) -> None:
            here = self.at(p, j)
            f.store(self.acc, here, inline("int16", "irs_f16_fma", x, weight, self.acc[here]))

        if form.depthwise:
            form.each(f, lambda p, j: add(p, j, value(p, j), weight[w + j]))
            self._end(column, i32(0))
            return
        with f.loop("ci", self.given["group_in"]) as ci:
            taken = [f.bind(f"x{p}", value(p, ci)) for p in range(form.pixels)]
            form.each(f, lambda p, j: add(p, j, taken[p], weight[w + ci * form.channels + j]))
            self._end(column, ci)

    def result(self, pixel: int, j: Any, first: Expr) -> Expr:
        value = inline("int16", "irs_f16_sum", self.total[self.at(pixel, j)])
        for bound in self.tile.bounds:
            value = inline("int16", f"irs_f16_{bound}", value, self.given[bound])
        return value

    def _from_zero(self) -> None:
        self.tile.each(self.f, lambda p, j: self.f.store(self.acc, self.at(p, j), _ZERO))

    def _end(self, column: Expr, ci: Expr) -> None:
        """Add the piece to the total where it ends with this product."""
        f, form, size = self.f, self.tile, self.given
        if not form.pieces:
            return
        whole = form.pieces == 1
        run = size["kernel_w"] * size["group_in"] if whole else size["group_in"]
        done = f.bind("done_of_run", (column * size["group_in"] + ci if whole else ci) + 1)
        row = all_of(column == size["kernel_w"] - 1, ci == size["group_in"] - 1)
        with f.when(any_of(row, all_of(remainder(done, PIECE) == 0, done != run))):
            form.each(f, lambda p, j: f.store(self.total, self.at(p, j), self._more(self.at(p, j))))
            self._from_zero()

    def _more(self, at: Expr) -> Expr:
        return inline("int16", "irs_f16_add", self.total[at], self.acc[at])
