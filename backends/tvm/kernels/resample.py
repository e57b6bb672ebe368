"""Interpolation over [N, H, W, C]: a weighted sum of a few rows and columns for each pixel.

Offsets and weights are tables in flash, one entry for each tap of each output row and column. A block of
channels is summed at a time; the last block overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.epilogue import requantized
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    minimum,
    quotient,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.program.ops import ResampleF32, ResampleInt8
from irshrink.program.program import Program
from irshrink.target import Target

_SIZES = ("images", "out_h", "out_w", "height", "width", "channels", "row_taps", "column_taps")


@dataclass(frozen=True)
class Block:
    """Channels at a time: as a loop that compilers vectorize, or written out."""

    channels: int
    vector: bool

    @property
    def suffix(self) -> str:
        return f"_{'simd' if self.vector else 'plain'}{self.channels}"

    @staticmethod
    def choose(target: Target, channels: int) -> Block:
        if target.has("simd"):
            return Block(min(16, channels), channels > 1)
        return Block(min(4, channels), False)

    def each(self, f: Function, do: Callable[[Any], None]) -> None:
        if self.vector:
            with f.loop("c", self.channels) as c:
                do(c)
            return
        for c in range(self.channels):
            do(i32(c))


def _arguments(op: ResampleF32 | ResampleInt8, program: Program) -> list[Argument]:
    (images, height, width, channels), (_, out_h, out_w, _) = (
        program.tensors[name].shape for name in (op.inputs[0], op.output)
    )
    taps = op.rows.shape[1], op.columns.shape[1]
    return [
        Input(0),
        Constant("rows", (op.rows * np.int32(width * channels)).astype(np.int32).reshape(-1)),
        Constant("row_weights", np.ascontiguousarray(op.row_weights).reshape(-1)),
        Constant("columns", (op.columns * np.int32(channels)).astype(np.int32).reshape(-1)),
        Constant("column_weights", np.ascontiguousarray(op.column_weights).reshape(-1)),
        Output(),
        *(images, out_h, out_w, height, width, channels, *taps),
    ]


def select_resample_f32(op: ResampleF32, program: Program, target: Target) -> KernelCall:
    """float32."""
    block = Block.choose(target, program.tensors[op.output].shape[3])
    return KernelCall(_resample_f32(block), tuple(_arguments(op, program)))


def select_resample_int8(op: ResampleInt8, program: Program, target: Target) -> KernelCall:
    """int8, exact sums, one requantization."""
    block = Block.choose(target, program.tensors[op.output].shape[3])
    q = op.requantization
    clamp = (q.low, q.high) != (-128, 127)
    arguments = [*_arguments(op, program), op.input_zero_point, float(q.multiplier.reshape(-1)[0])]
    arguments += [q.zero_point, *([q.low, q.high] if clamp else [])]
    return KernelCall(_resample_s8(block, clamp), tuple(arguments))


@cache
def _resample_f32(block: Block) -> TirFunction:
    with Function(f"resample_f32{block.suffix}", "Interpolation of float32.") as f:
        x, rows, row_weights, columns, column_weights, y, *given = f.parameters(
            read("x", "float32"),
            constant("rows", "int32"),
            constant("row_weights", "float32"),
            constant("columns", "int32"),
            constant("column_weights", "float32"),
            write("y", "float32"),
            *scalars(*_SIZES),
        )
        body = _Body(f, block, "float32", f32(0.0), x, dict(zip(_SIZES, given, strict=True)))
        body.emit(
            (rows, row_weights, columns, column_weights),
            lambda value: value,
            lambda at, c, total: f.store(y, at, total),
        )
    return f.result


@cache
def _resample_s8(block: Block, clamp: bool) -> TirFunction:
    name = f"resample_s8{block.suffix}{'_clamp' if clamp else ''}"
    with Function(name, "Interpolation of int8 with weights in fixed point.") as f:
        x, rows, row_weights, columns, column_weights, y, *given = f.parameters(
            read("x", "int8"),
            constant("rows", "int32"),
            constant("row_weights", "int32"),
            constant("columns", "int32"),
            constant("column_weights", "int32"),
            write("y", "int8"),
            *scalars(*_SIZES, "input_zero_point"),
            scalar("multiplier", "float32"),
            *scalars("zero_point", *(("low", "high") if clamp else ())),
        )
        sizes, (zero, multiplier, *quantization) = given[: len(_SIZES)], given[len(_SIZES) :]
        body = _Body(f, block, "int32", i32(0), x, dict(zip(_SIZES, sizes, strict=True)))
        body.emit(
            (rows, row_weights, columns, column_weights),
            lambda value: cast("int32", value) - zero,
            lambda at, c, total: f.store(y, at, requantized(total, multiplier, *quantization)),
        )
    return f.result


@dataclass
class _Body:
    """The loops of one kernel."""

    f: Function
    block: Block
    dtype: str
    zero: Expr
    x: Buffer
    size: dict[str, Expr]

    def emit(
        self,
        tables: tuple[Buffer, Buffer, Buffer, Buffer],
        value: Callable[[Expr], Expr],
        store: Callable[[Expr, Any, Expr], None],
    ) -> None:
        f, size = self.f, self.size
        channels, n = size["channels"], self.block.channels
        self.row = f.local("row", self.dtype, n)
        self.total = f.local("total", self.dtype, n)
        with f.loop("image", size["images"]) as image, f.share("oy", size["out_h"]) as oy:
            first = f.bind("first", image * size["height"] * size["width"] * channels)
            with f.loop("ox", size["out_w"]) as ox:
                pixel = f.bind("pixel", ((image * size["out_h"] + oy) * size["out_w"] + ox) * channels)
                with f.loop("b", quotient(channels + (n - 1), n)) as b:
                    c0 = f.bind("channel", minimum(b * n, channels - n))
                    self._sums(tables, oy, ox, first + c0, value)
                    self.block.each(f, lambda c: store(pixel + c0 + c, c, self.total[c]))

    def _sums(
        self,
        tables: tuple[Buffer, Buffer, Buffer, Buffer],
        oy: Expr,
        ox: Expr,
        first: Expr,
        value: Callable[[Expr], Expr],
    ) -> None:
        f, size, (rows, row_weights, columns, column_weights) = self.f, self.size, tables
        self.block.each(f, lambda c: f.store(self.total, c, self.zero))
        with f.loop("k", size["row_taps"]) as k:
            tap = f.bind("row_tap", oy * size["row_taps"] + k)
            line = f.bind("line", first + rows[tap])
            self.block.each(f, lambda c: f.store(self.row, c, self.zero))
            with f.loop("j", size["column_taps"]) as j:
                at = f.bind("column_tap", ox * size["column_taps"] + j)
                weight, pixel = f.bind("weight", column_weights[at]), f.bind("at", line + columns[at])
                self.block.each(
                    f,
                    lambda c: f.store(self.row, c, self.row[c] + value(self.x[pixel + c]) * weight),
                )
            weight = f.bind("row_weight", row_weights[tap])
            self.block.each(f, lambda c: f.store(self.total, c, self.total[c] + self.row[c] * weight))
