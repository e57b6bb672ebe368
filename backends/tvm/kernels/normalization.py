"""Operators over whole rows: softmax, layer normalization, reductions.

Sums run in order, one rounding an addition: no partial sums, whatever a vectorizer would like. They start at
-0.0, which adds nothing to any first value, -0.0 included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.axes import collapse, loops, nest_parameters, row_major
from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.float16 import rounded, widened
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    inline,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.program.ops import CumSumF32, LayerNormF32, ReduceF16, ReduceF32, SoftmaxF32, SoftmaxInt8
from irshrink.program.program import Program
from irshrink.target import Target

_ZERO = i32(0)


def _rows(op: Any, program: Program) -> list[int]:
    """Number of rows and their length."""
    y = program.tensors[op.output]
    return [y.elements // y.shape[-1], y.shape[-1]]


def select_softmax_int8(op: SoftmaxInt8, program: Program, target: Target) -> KernelCall:
    """Softmax by table: the exponentials are looked up twice, which needs no workspace."""
    return KernelCall(
        _softmax_s8(),
        (
            Input(0),
            Output(),
            Constant("exponential", np.ascontiguousarray(op.exp_table, np.float32)),
            *_rows(op, program),
            float(np.float32(op.inverse_scale)),
            op.zero_point,
        ),
        in_place=(0,),
    )


@cache
def _softmax_s8() -> TirFunction:
    with Function("softmax_s8", "Softmax of int8 rows by a table of exponentials.") as f:
        x, y, table, rows, n, inverse_scale, zero = f.parameters(
            read("x", "int8"),
            write("y", "int8"),
            constant("exponential", "float32"),
            *scalars("rows", "n"),
            scalar("inverse_scale", "float32"),
            scalar("zero_point"),
        )
        largest = f.local("largest", "int32", 1)
        total = f.local("total", "float32", 1)
        with f.share("row", rows) as row:
            at = f.bind("at", row * n)
            f.store(largest, 0, i32(-128))
            with f.loop("i", n) as i:
                f.store(largest, 0, inline("int32", "irs_max_i32", largest[_ZERO], cast("int32", x[at + i])))
            f.store(total, 0, f32(-0.0))
            with f.loop("i", n) as i:
                f.store(total, 0, total[_ZERO] + table[largest[_ZERO] - cast("int32", x[at + i])])
            with f.loop("i", n) as i:
                e = table[largest[_ZERO] - cast("int32", x[at + i])]
                f.store(y, at + i, inline("int8", "irs_quantize", e / total[_ZERO] * inverse_scale, zero))
    return f.result


def select_softmax_f32(op: SoftmaxF32, program: Program, target: Target) -> KernelCall:
    """Softmax of float32; the exponentials wait in the output."""
    return KernelCall(_softmax_f32(), (Input(0), Output(), *_rows(op, program)), in_place=(0,))


@cache
def _softmax_f32() -> TirFunction:
    with Function("softmax_f32", "Softmax of float32 rows.") as f:
        x, y, rows, n = f.parameters(read("x", "float32"), write("y", "float32"), *scalars("rows", "n"))
        best = f.local("best", "float32", 1)
        with f.share("row", rows) as row:
            at = f.bind("at", row * n)
            f.store(best, 0, x[at])
            with f.loop("i", n) as i:
                f.store(best, 0, inline("float32", "irs_max_f32", x[at + i], best[_ZERO]))
            with f.loop("i", n) as i:
                f.store(y, at + i, inline("float32", "irs_math_exp", x[at + i] - best[_ZERO]))
            total = _ordered_sum(f, "total", n, lambda i: y[at + i])
            with f.loop("i", n) as i:
                f.store(y, at + i, inline("float32", "irs_math_div", y[at + i], total))
    return f.result


def _ordered_sum(f: Function, name: str, n: Expr, value: Any) -> Expr:
    """The sum of ``value(i)`` for i < n, first to last."""
    acc = f.local(name, "float32", 1)
    f.store(acc, 0, f32(-0.0))
    with f.loop("i", n) as i:
        f.store(acc, 0, acc[_ZERO] + value(i))
    return acc[_ZERO]


def select_layer_norm(op: LayerNormF32, program: Program, target: Target) -> KernelCall:
    """Layer normalization over the last axis."""
    rows, n = _rows(op, program)
    return KernelCall(
        _layer_norm(),
        (
            Input(0),
            Output(),
            Constant("gamma", np.ascontiguousarray(np.broadcast_to(op.gamma, (n,)), np.float32)),
            Constant("beta", np.ascontiguousarray(np.broadcast_to(op.beta, (n,)), np.float32)),
            rows,
            n,
            float(np.float32(1.0 / n)),
            float(np.float32(op.epsilon)),
        ),
        in_place=(0,),
    )


@cache
def _layer_norm() -> TirFunction:
    with Function("layer_norm_f32", "Layer normalization of float32 rows.") as f:
        x, y, gamma, beta, rows, n, reciprocal, epsilon = f.parameters(
            read("x", "float32"),
            write("y", "float32"),
            constant("gamma", "float32"),
            constant("beta", "float32"),
            *scalars("rows", "n"),
            scalar("reciprocal", "float32"),
            scalar("epsilon", "float32"),
        )
        with f.share("row", rows) as row:
            at = f.bind("at", row * n)
            mean = f.bind("mean", _ordered_sum(f, "total", n, lambda i: x[at + i]) * reciprocal)
            squares = _ordered_sum(f, "squares", n, lambda i: (x[at + i] - mean) * (x[at + i] - mean))
            deviation = f.bind(
                "deviation", inline("float32", "irs_math_sqrt", squares * reciprocal + epsilon)
            )
            with f.loop("i", n) as i:
                normal = inline("float32", "irs_math_div", x[at + i] - mean, deviation)
                f.store(y, at + i, normal * gamma[i] + beta[i])
    return f.result


def select_reduce(op: ReduceF32 | ReduceF16, program: Program, target: Target) -> KernelCall:
    """Reduction over any axes: loops over the kept ones around loops over the reduced ones."""
    shape = program.tensors[op.inputs[0]].shape
    strides = row_major(shape)
    axes = sorted(axis % len(shape) for axis in op.axes)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    kept_shape = [shape[a] for a in kept]
    outer = collapse(kept_shape, [strides[a] for a in kept], row_major(kept_shape))
    inner = collapse([shape[a] for a in axes], [strides[a] for a in axes])
    sizes = [*outer.arguments(), *inner.arguments()]
    scale = [float(np.float32(1.0 / prod(inner.extents)))] if op.kind == "mean" else []
    function = _reduce(op.kind, outer.rank, inner.rank, isinstance(op, ReduceF16))
    return KernelCall(function, (Input(0), Output(), *sizes, *scale))


@cache
def _reduce(kind: str, outer: int, inner: int, halves: bool) -> TirFunction:
    """``halves``: elements are the bits of float16, and widened when they are read."""
    element, stored = ("f16", "int16") if halves else ("f32", "float32")
    load: Callable[[Expr], Expr] = widened if halves else lambda x: x
    parameters = nest_parameters(outer, "x", "y"), nest_parameters(inner, "inner", extent="m")
    name, doc = f"reduce_{kind}_{element}_{outer}d{inner}d", f"Reduction ({kind}) of float{element[1:]}."
    with Function(name, doc) as f:
        x, y, *given = f.parameters(
            read("x", stored),
            write("y", stored),
            *parameters[0],
            *parameters[1],
            *([scalar("reciprocal", "float32")] if kind == "mean" else []),
        )
        kept, reduced = given[: len(parameters[0])], given[len(parameters[0]) :]
        acc = f.local("acc", "float32", 1)
        first = {"prod": f32(1.0)}.get(kind, f32(-0.0))
        with loops(f, outer, kept, ("x", "y"), shared=True) as (x_at, y_at):
            f.store(acc, 0, load(x[x_at]) if kind in ("max", "min") else first)
            with loops(f, inner, reduced, ("inner",)) as (at,):
                f.store(acc, 0, _STEPS[kind](acc[_ZERO], f.bind("value", load(x[x_at + at]))))
            result = acc[_ZERO] * given[-1] if kind == "mean" else acc[_ZERO]
            f.store(y, y_at, rounded(result) if halves else result)
    return f.result


_STEPS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "l1": lambda acc, x: acc + inline("float32", "irs_math_abs", x),
    "max": lambda acc, x: inline("float32", "irs_max_f32", x, acc),
    "mean": lambda acc, x: acc + x,
    "min": lambda acc, x: inline("float32", "irs_min_f32", x, acc),
    "prod": lambda acc, x: acc * x,
    "sum": lambda acc, x: acc + x,
    "sumsquare": lambda acc, x: acc + x * x,
}


def select_cumulative_sum(op: CumSumF32, program: Program, target: Target) -> KernelCall:
    """One running sum for each row along the axis."""
    shape = program.tensors[op.output].shape
    axis = op.axis % len(shape)
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    return KernelCall(
        _cumulative_sum(op.exclusive, op.reverse), (Input(0), Output(), outer, shape[axis], inner)
    )


@cache
def _cumulative_sum(exclusive: bool, reverse: bool) -> TirFunction:
    name = f"cumsum_f32{'_exclusive' if exclusive else ''}{'_reverse' if reverse else ''}"
    with Function(name, "Running sums of float32.") as f:
        x, y, outer, n, inner = f.parameters(
            read("x", "float32"), write("y", "float32"), *scalars("outer", "n", "inner")
        )
        acc = f.local("acc", "float32", 1)
        with f.share("row", outer) as row, f.loop("column", inner) as column:
            f.store(acc, 0, f32(0.0 if exclusive else -0.0))
            with f.loop("i", n) as i:
                place = n - 1 - i if reverse else i
                at = f.bind("at", (row * n + place) * inner + column)
                value = f.bind("value", x[at])
                if exclusive:
                    f.store(y, at, acc[_ZERO])
                f.store(acc, 0, acc[_ZERO] + value)
                if not exclusive:
                    f.store(y, at, acc[_ZERO])
    return f.result
