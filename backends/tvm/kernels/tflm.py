"""Operators of TensorFlow Lite Micro's arithmetic; the functions they call are in ``irshrink_q31.h``."""

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
    inputs_like_output,
    style_of,
)
from irshrink.backends.tvm.kernels.epilogue import (
    SUFFIXES,
    Scaling,
    clamped,
    scale_arrays,
    scale_scalars,
    scaled,
    scaling_of,
)
from irshrink.backends.tvm.kernels.windows import (
    PACKED_POSITIONS,
    Block,
    PackedSums,
    Position,
    Sums,
    each_window,
    pool_distances,
    pool_rows,
    size_arguments,
    size_parameters,
)
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    cast,
    constant,
    i32,
    inline,
    read,
    scalars,
    write,
)
from irshrink.program.ops import AddTflm, AveragePoolTflm, FixedPoint, MeanTflm, SoftmaxTflm, Window
from irshrink.program.program import Program
from irshrink.target import Target

_OPERANDS = ("zero_a", "zero_b", "m_a", "right_a", "m_b", "right_b")
#: What packed sums have too much for every value: they add unsigned bytes.
_BIAS = 128


def select_add(op: AddTflm, program: Program, target: Target) -> KernelCall:
    """int8 sum over a scale that both operands are brought to."""
    a, b = (program.tensors[name].shape for name in op.inputs)
    shape, sizes = broadcast(a, b, program.tensors[op.output].shape)
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes, *op.zero_points]
    arguments += [number for operand in op.operands for number in operand]
    arguments += _requantization(op.requantization)
    clamp = _clamps(op.requantization)
    scaling = scaling_of(op.requantization)
    function = _add(shape, style_of(target, "unrolled"), scaling, clamp, op.subtract)
    return KernelCall(function, tuple(arguments), in_place=inputs_like_output(op, program))


@cache
def _add(shape: Broadcast, style: Style, scaling: Scaling, clamp: bool, subtract: bool) -> TirFunction:
    scales = scale_scalars(scaling)

    def value(a: Expr, b: Expr, *given: Expr) -> Expr:
        zero_a, zero_b, m_a, right_a, m_b, right_b, *rest = given
        left = inline("int32", "irs_q31_operand", cast("int32", a) - zero_a, m_a, right_a)
        right = inline("int32", "irs_q31_operand", cast("int32", b) - zero_b, m_b, right_b)
        total = left - right if subtract else left + right
        return scaled(scaling, total, rest[: len(scales)], *rest[len(scales) :])

    extra = [*scalars(*_OPERANDS), *scales, *scalars(*_bounds(clamp))]
    kind = "sub" if subtract else "add"
    name = f"{kind}_s8{shape.suffix}{SUFFIXES[scaling]}{'_clamp' if clamp else ''}"
    with Function(name, "Sum or difference of int8 tensors, as TensorFlow Lite Micro has it.") as f:
        binary_body(f, shape, style, "int8", extra, value)
    return f.result


def select_average_pool(op: AveragePoolTflm, program: Program, target: Target) -> KernelCall:
    """Average of the stored values."""
    block = _block(op.window, op.inputs[0], program, target)
    clamp = (op.low, op.high) != (-128, 127)
    bounds = (op.low, op.high) if clamp else ()
    zero = _BIAS if block.style == "packed" else 0
    arguments = (Input(0), Output(), *size_arguments(op, program), zero, *bounds)
    return KernelCall(
        _average_pool(block, clamp),
        arguments,
        distances=pool_distances(op, program),
        rows=pool_rows(op, block),
    )


@cache
def _average_pool(block: Block, clamp: bool) -> TirFunction:
    name = f"average_pool_s8{block.suffix}_q31{'_clamp' if clamp else ''}"
    extra = scalars("bias", *(("low", "high") if clamp else ()))

    def result(total: Expr, valid: Expr, bounds: list[Expr]) -> Expr:
        average = inline("int32", "irs_q31_average", total, valid)
        return clamped(average, *bounds) if bounds else cast("int8", average)

    return _pool(name, "Average pool of int8, halves away from zero.", block, extra, result)


def select_mean(op: MeanTflm, program: Program, target: Target) -> KernelCall:
    """Mean over axes: one requantization with the number of values in its multiplier."""
    block = _block(op.window, op.inputs[0], program, target)
    zero = op.input_zero_point + (_BIAS if block.style == "packed" else 0)
    arguments: list[Argument] = [Input(0), Output(), *size_arguments(op, program), zero]
    arguments += _requantization(op.requantization)
    scaling, clamp = scaling_of(op.requantization), _clamps(op.requantization)
    return KernelCall(_mean(block, scaling, clamp), tuple(arguments))


@cache
def _mean(block: Block, scaling: Scaling, clamp: bool) -> TirFunction:
    scales = scale_scalars(scaling)
    name = f"mean_s8{block.suffix}{SUFFIXES[scaling]}{'_clamp' if clamp else ''}"
    extra = [*scalars("input_zero_point"), *scales, *scalars(*_bounds(clamp))]

    def result(total: Expr, valid: Expr, given: list[Expr]) -> Expr:
        return scaled(scaling, total, given[: len(scales)], *given[len(scales) :])

    return _pool(name, "Mean of int8, one requantization.", block, extra, result)


def _pool(name: str, doc: str, block: Block, extra: list[Any], result: Any) -> TirFunction:
    """A pool over exact sums less ``extra[0]`` for each value; ``result(total, count, the other extras)``."""
    with Function(name, doc) as f:
        parameters = size_parameters(block)
        x, y, *rest = f.parameters(read("x", "int8"), write("y", "int8"), *parameters, *extra)
        size, (zero_point, *given) = rest[: len(parameters)], rest[len(parameters) :]
        sums: Any = (
            PackedSums(f, x)
            if block.style == "packed"
            else Sums(f, block, "int32", x, i32(0), lambda acc, v: acc + cast("int32", v))
        )

        def finish(p: Position) -> None:
            zero = f.bind("zero", zero_point * p.valid)
            sums.each(lambda j: f.store(y, p.at + j, result(sums.value(j) - zero, p.valid, given)))

        each_window(f, block, size, sums, finish)
    return f.result


def _block(window: Window, name: str, program: Program, target: Target) -> Block:
    kh, kw = window.kernel
    channels = program.tensors[name].shape[3]
    return Block.choose(target, window, channels, "int8", packed=kh * kw <= PACKED_POSITIONS)


def select_softmax(op: SoftmaxTflm, program: Program, target: Target) -> KernelCall:
    """Softmax by a table of exponentials and one reciprocal a row."""
    y = program.tensors[op.output]
    rows, n = y.elements // y.shape[-1], y.shape[-1]
    table = Constant("exponential", np.ascontiguousarray(op.exp_table, np.int32))
    return KernelCall(_softmax(), (Input(0), Output(), table, rows, n), in_place=(0,))


@cache
def _softmax() -> TirFunction:
    with Function("softmax_s8_q31", "Softmax of int8 rows by a table of exponentials.") as f:
        x, y, table, rows, n = f.parameters(
            read("x", "int8"), write("y", "int8"), constant("exponential", "int32"), *scalars("rows", "n")
        )
        largest, total = f.local("largest", "int32", 1), f.local("total", "int32", 1)
        zero = i32(0)

        def exponential(at: Expr) -> Expr:
            return table[largest[zero] - cast("int32", x[at])]

        with f.loop("row", rows) as row:
            at = f.bind("at", row * n)
            f.store(largest, 0, i32(-128))
            with f.loop("i", n) as i:
                f.store(largest, 0, inline("int32", "irs_max_i32", largest[zero], cast("int32", x[at + i])))
            f.store(total, 0, zero)
            with f.loop("i", n) as i:
                f.store(total, 0, total[zero] + inline("int32", "irs_q31_pot", exponential(at + i), 12))
            reciprocal = f.bind("reciprocal", inline("int32", "irs_q31_softmax_reciprocal", total[zero]))
            bits = f.bind("bits", inline("int32", "irs_q31_softmax_bits", total[zero]))
            with f.loop("i", n) as i:
                f.store(y, at + i, inline("int8", "irs_q31_softmax", exponential(at + i), reciprocal, bits))
    return f.result


def _requantization(form: FixedPoint) -> list[Argument]:
    numbers = [array[0].item() for array in scale_arrays(form, 1)]
    return [*numbers, form.zero_point, *([form.low, form.high] if _clamps(form) else [])]


def _clamps(form: FixedPoint) -> bool:
    return (form.low, form.high) != (-128, 127)


def _bounds(clamp: bool) -> tuple[str, ...]:
    return ("zero_point", "low", "high") if clamp else ("zero_point",)
