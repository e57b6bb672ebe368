"""Elementwise kernels and pools between int16 activations, and the borders to float32."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Input, KernelCall, Output
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
from irshrink.backends.tvm.tir import Function, TirFunction, cast, i32, inline, read, scalar, scalars, write
from irshrink.program.ops import AddInt16, AveragePoolInt16, DequantizeInt16, QuantizeInt16
from irshrink.program.program import Program
from irshrink.target import Target


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
