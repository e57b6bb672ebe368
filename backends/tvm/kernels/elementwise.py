"""Elementwise operators on int8, and the two borders between int8 and float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

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
from irshrink.backends.tvm.kernels.epilogue import (
    SUFFIXES,
    Scaling,
    scale_arrays,
    scale_scalars,
    scaled,
    scaling_of,
)
from irshrink.backends.tvm.tir import Expr, Function, TirFunction, cast, constant, inline, scalar, scalars
from irshrink.program.ops import AddInt8, Addition, Dequantize, MulInt8, Quantize, TableInt8
from irshrink.program.program import Program
from irshrink.target import Target


def select_add(op: AddInt8, program: Program, target: Target) -> KernelCall:
    """int8 sum; rounding to even costs its instructions only where a tie can occur."""
    a, b = (program.tensors[name].shape for name in op.inputs)
    shape, sizes = broadcast(a, b, program.tensors[op.output].shape)
    addition = op.addition
    (ma, mb), (za, zb) = addition.multipliers, addition.zero_points
    ties = has_ties(addition)
    half = (1 << addition.shift) >> 1
    clamp = (addition.low, addition.high) != (-128, 127)
    offset = half - za * ma - zb * mb
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes]
    arguments += [ma, mb, offset, addition.shift, addition.zero_point]
    arguments += [(1 << addition.shift) - 1] if ties else []
    arguments += [addition.low, addition.high] if clamp else []
    function = _add(shape, style_of(target, "unrolled"), ties, clamp)
    return KernelCall(
        function,
        tuple(arguments),
        in_place=inputs_like_output(op, program),
        rows=element_rows(op, program),
    )


def has_ties(addition: Addition) -> bool:
    """Whether any two operands sum to exactly half a step; else rounding half up is rounding half even."""
    if addition.shift == 0:
        return False
    x = np.arange(-128, 128, dtype=np.int64)
    (ma, mb), (za, zb) = addition.multipliers, addition.zero_points
    sums = ((x - za) * ma)[:, None] + (x - zb) * mb
    return bool(np.any(sums % (1 << addition.shift) == (1 << addition.shift) >> 1))


@cache
def _add(shape: Broadcast, style: Style, ties: bool, clamp: bool) -> TirFunction:
    name = f"add_s8{shape.suffix}{'_even' if ties else ''}{'_clamp' if clamp else ''}"
    extra = ["m_a", "m_b", "offset", "shift", "zero_point"]
    extra += (["mask"] if ties else []) + (["low", "high"] if clamp else [])

    def value(
        a: Expr, b: Expr, m_a: Expr, m_b: Expr, offset: Expr, shift: Expr, zero: Expr, *more: Expr
    ) -> Expr:
        total = offset + cast("int32", a) * m_a + cast("int32", b) * m_b  # `offset` holds half a step
        shifted = inline("int32", "irs_shift_to_even", total, shift, more[0]) if ties else total >> shift
        rounded = shifted + zero
        if clamp:
            return cast("int8", inline("int32", "irs_clamp_i32", rounded, *more[-2:]))
        return inline("int8", "irs_saturate", rounded)

    with Function(name, "Sum of int8 tensors in fixed point.") as f:
        binary_body(f, shape, style, "int8", scalars(*extra), value)
    return f.result


def select_mul(op: MulInt8, program: Program, target: Target) -> KernelCall:
    """int8 product."""
    a, b = (program.tensors[name].shape for name in op.inputs)
    shape, sizes = broadcast(a, b, program.tensors[op.output].shape)
    q = op.requantization
    clamp = (q.low, q.high) != (-128, 127)
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes]
    arguments += [*op.zero_points, *(array[0].item() for array in scale_arrays(q, 1)), q.zero_point]
    arguments += [q.low, q.high] if clamp else []
    function = _mul(shape, style_of(target, "unrolled"), clamp, scaling_of(q))
    return KernelCall(
        function,
        tuple(arguments),
        in_place=inputs_like_output(op, program),
        rows=element_rows(op, program),
    )


@cache
def _mul(shape: Broadcast, style: Style, clamp: bool, scaling: Scaling) -> TirFunction:
    scales = scale_scalars(scaling)
    extra = [*scalars("zero_a", "zero_b"), *scales, *scalars("zero_point")]
    extra += scalars("low", "high") if clamp else []

    def value(a: Expr, b: Expr, zero_a: Expr, zero_b: Expr, *rest: Expr) -> Expr:
        product = (cast("int32", a) - zero_a) * (cast("int32", b) - zero_b)
        return scaled(scaling, product, rest[: len(scales)], *rest[len(scales) :])

    name = f"mul_s8{shape.suffix}{SUFFIXES[scaling]}{'_clamp' if clamp else ''}"
    with Function(name, "Product of int8 tensors.") as f:
        binary_body(f, shape, style, "int8", extra, value)
    return f.result


def select_table(op: TableInt8, program: Program, target: Target) -> KernelCall:
    """Look-up in a table that is stored from index 0 on, for unsigned indices."""
    n = program.tensors[op.output].elements
    return KernelCall(
        _table(),
        (Input(0), Output(), Constant("table", byte_table(op.table)), n),
        in_place=(0,),
        rows=element_rows(op, program),
    )


def byte_table(table: np.ndarray[Any, np.dtype[np.int8]]) -> np.ndarray[Any, np.dtype[np.int8]]:
    """``t[uint8(x)] = table[x + 128]``: no addition at run time."""
    return np.ascontiguousarray(np.roll(table, 128))


@cache
def _table() -> TirFunction:
    return unary_kernel(
        "table_s8", "Any function of one int8 value.", ("int8", "int8"), "unrolled",
        [constant("table", "int8")], lambda x, table: table[cast("int32", cast("uint8", x))],
    )  # fmt: skip


def select_quantize(op: Quantize, program: Program, target: Target) -> KernelCall:
    """float32 to int8."""
    n = program.tensors[op.output].elements
    arguments = (Input(0), Output(), float(np.float32(op.scale)), op.zero_point, n)
    return KernelCall(_quantize(style_of(target), op.half_away), arguments)


@cache
def _quantize(style: Style, half_away: bool) -> TirFunction:
    name, rounded = "quantize_s8", "irs_quantize"
    if half_away:
        name, rounded = "quantize_s8_q31", "irs_q31_quantize"
    return unary_kernel(
        name, "float32 to int8.", ("float32", "int8"), style,
        [scalar("scale", "float32"), scalar("zero_point")],
        lambda x, scale, zero: inline("int8", rounded, x / scale, zero),
    )  # fmt: skip


def select_dequantize(op: Dequantize, program: Program, target: Target) -> KernelCall:
    """int8 to float32."""
    n = program.tensors[op.output].elements
    return KernelCall(
        _dequantize(style_of(target)), (Input(0), Output(), float(np.float32(op.scale)), op.zero_point, n)
    )


@cache
def _dequantize(style: Style) -> TirFunction:
    return unary_kernel(
        "dequantize_s8", "int8 to float32.", ("int8", "float32"), style,
        [scalar("scale", "float32"), scalar("zero_point")],
        lambda x, scale, zero: cast("float32", cast("int32", x) - zero) * scale,
    )  # fmt: skip
