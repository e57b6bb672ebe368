"""Products of two activations: [B, M, K] by [B, K, N], a block of columns at a time.

The right operand is not packed: a step takes one element of a row of the left operand and a few adjacent
elements of a row of the right one. The last block overlaps the one before, so any N works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.epilogue import (
    SUFFIXES,
    Scaling,
    scale_arrays,
    scale_parameters,
    scaled,
    scaling_of,
)
from irshrink.backends.tvm.kernels.floating import multiply_add
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    any_of,
    cast,
    f32,
    i32,
    inline,
    minimum,
    quotient,
    read,
    remainder,
    scalars,
    write,
)
from irshrink.program.ops import MatMulF16, MatMulF32, MatMulInt8
from irshrink.program.ops.float16 import PIECE, Pieces
from irshrink.program.program import Program
from irshrink.target import Target

_SIZES = ("batches", "rows", "depth", "columns")


@dataclass(frozen=True)
class Columns:
    """Columns in registers at once: in a loop for vectorizers, or in straight code."""

    count: int
    vector: bool

    @property
    def suffix(self) -> str:
        return f"_{'simd' if self.vector else 'plain'}{self.count}"

    @staticmethod
    def choose(target: Target, columns: int) -> Columns:
        if target.has("simd") and columns >= 16:
            return Columns(16, vector=True)
        return Columns(4 if columns >= 4 else 1, vector=False)

    def each(self, f: Function, do: Callable[[Any], None]) -> None:
        """``do(j)`` for every column."""
        if self.vector:
            with f.loop("j", self.count) as j:
                do(j)
            return
        for j in range(self.count):
            do(j)


def _sizes(op: MatMulInt8 | MatMulF16 | MatMulF32, program: Program) -> list[int]:
    a, b = (program.tensors[name].shape for name in op.inputs)
    return [prod(a[:-2]), a[-2], a[-1], b[-1]]


def select_matmul_int8(op: MatMulInt8, program: Program, target: Target) -> KernelCall:
    """int8 product; both zero points are subtracted at run time, since both operands are activations."""
    sizes, q = _sizes(op, program), op.requantization
    scaling, arrays = scaling_of(q), scale_arrays(q, sizes[3])
    clamp = (q.low, q.high) != (-128, 127)
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes, *op.zero_points]
    names = [p.name for p in scale_parameters(scaling)]
    arguments += [Constant(name, array) for name, array in zip(names, arrays, strict=True)]
    arguments += [q.zero_point, *([q.low, q.high] if clamp else [])]
    return KernelCall(_matmul_s8(Columns.choose(target, sizes[3]), clamp, scaling), tuple(arguments))


@cache
def _matmul_s8(columns: Columns, clamp: bool, scaling: Scaling) -> TirFunction:
    """``sum(a' * (b - zb)) = sum(a' * b) - zb * sum(a')`` with ``a' = a - za``: one subtraction a step."""
    name = f"matmul_s8{columns.suffix}{SUFFIXES[scaling]}{'_clamp' if clamp else ''}"
    scales = scale_parameters(scaling)
    with Function(name, "Product of int8 matrices.") as f:
        a, b, y, *rest = f.parameters(
            read("a", "int8"),
            read("b", "int8"),
            write("y", "int8"),
            *scalars(*_SIZES, "zero_a", "zero_b"),
            *scales,
            *scalars("zero_point", *(("low", "high") if clamp else ())),
        )
        sizes, (zero_a, zero_b), rest = rest[:4], rest[4:6], rest[6:]
        scale, quantization = rest[: len(scales)], rest[len(scales) :]
        acc = f.local("acc", "int32", columns.count)
        total = f.local("total", "int32", 1)

        def step(left: Expr, b_at: Expr, k: Expr) -> None:
            value = f.bind("value", cast("int32", left) - zero_a)
            f.store(total, 0, total[i32(0)] + value)
            columns.each(f, lambda j: f.store(acc, j, acc[i32(j)] + value * cast("int32", b[b_at + j])))

        def finish(column: Expr, y_at: Expr) -> None:
            zero = f.bind("zero", total[i32(0)] * zero_b)

            def element(j: Any) -> Expr:
                at_column = [array[column + j] for array in scale]
                return scaled(scaling, acc[i32(j)] - zero, at_column, *quantization)

            columns.each(f, lambda j: f.store(y, y_at + j, element(j)))

        def start() -> None:
            f.store(total, 0, i32(0))
            columns.each(f, lambda j: f.store(acc, j, i32(0)))

        _products(f, columns, sizes, a, start, step, finish)
    return f.result


def select_matmul_f32(op: MatMulF32, program: Program, target: Target) -> KernelCall:
    """float32 product, each element summed in order of k."""
    sizes = _sizes(op, program)
    function = _matmul_f32(Columns.choose(target, sizes[3]), op.fused)
    return KernelCall(function, (Input(0), Input(1), Output(), *sizes))


@cache
def _matmul_f32(columns: Columns, fused: bool) -> TirFunction:
    name = f"matmul_f32{columns.suffix}{'_fma' if fused else ''}"
    with Function(name, "Product of float32 matrices.") as f:
        a, b, y, *sizes = f.parameters(
            read("a", "float32"), read("b", "float32"), write("y", "float32"), *scalars(*_SIZES)
        )
        acc = f.local("acc", "float32", columns.count)

        def step(left: Expr, b_at: Expr, k: Expr) -> None:
            value = f.bind("value", left)
            columns.each(f, lambda j: f.store(acc, j, multiply_add(fused, value, b[b_at + j], acc[i32(j)])))

        def sum_of(j: Any) -> Expr:
            return acc[i32(j)] + f32(0.0) if fused else acc[i32(j)]

        _products(
            f,
            columns,
            sizes,
            a,
            lambda: columns.each(f, lambda j: f.store(acc, j, f32(0.0))),
            step,
            lambda column, y_at: columns.each(f, lambda j: f.store(y, y_at + j, sum_of(j))),
        )
    return f.result


def select_matmul_f16(op: MatMulF16, program: Program, target: Target) -> KernelCall:
    """float16 product, sums in pieces where they are long."""
    sizes = _sizes(op, program)
    function = _matmul_f16(Columns.choose(target, sizes[3]), Pieces(1, 1, sizes[2]).several)
    return KernelCall(function, (Input(0), Input(1), Output(), *sizes))


@cache
def _matmul_f16(columns: Columns, several: bool) -> TirFunction:
    name = f"matmul_f16{columns.suffix}{'_pieces' if several else ''}"
    zero = cast("int16", i32(0))
    with Function(name, "Product of float16 matrices.") as f:
        a, b, y, *sizes = f.parameters(
            read("a", "int16"), read("b", "int16"), write("y", "int16"), *scalars(*_SIZES)
        )
        acc = f.local("acc", "int16", columns.count)
        total = f.local("total", "int16", columns.count) if several else acc

        def start() -> None:
            columns.each(f, lambda j: f.store(acc, j, zero))
            if several:
                columns.each(f, lambda j: f.store(total, j, zero))

        def step(left: Expr, b_at: Expr, k: Expr) -> None:
            value = f.bind("value", left)
            more = partial(inline, "int16", "irs_f16_fma", value)
            columns.each(f, lambda j: f.store(acc, j, more(b[b_at + j], acc[i32(j)])))
            if not several:
                return
            both = partial(inline, "int16", "irs_f16_add")
            with f.when(any_of(remainder(k + 1, PIECE) == 0, k + 1 == sizes[2])):
                columns.each(f, lambda j: f.store(total, j, both(total[i32(j)], acc[i32(j)])))
                columns.each(f, lambda j: f.store(acc, j, zero))

        def finish(column: Expr, y_at: Expr) -> None:
            columns.each(f, lambda j: f.store(y, y_at + j, inline("int16", "irs_f16_sum", total[i32(j)])))

        _products(f, columns, sizes, a, start, step, finish)
    return f.result


def _products(
    f: Function,
    columns: Columns,
    sizes: list[Expr],
    a: Buffer,
    start: Callable[[], None],
    step: Callable[[Expr, Expr, Expr], None],
    finish: Callable[[Expr, Expr], None],
) -> None:
    """All blocks: ``start()``, ``step(a value, offset in b, k)``, ``finish(column, offset in y)``."""
    batches, rows, depth, width = sizes
    with f.loop("batch", batches) as batch, f.share("row", rows) as row:
        line = f.bind("line", batch * rows + row)
        with f.loop("block", quotient(width + (columns.count - 1), columns.count)) as block:
            column = f.bind("column", minimum(block * columns.count, width - columns.count))
            start()
            with f.loop("k", depth) as k:
                step(a[line * depth + k], (batch * depth + k) * width + column, k)
            finish(column, line * width + column)
