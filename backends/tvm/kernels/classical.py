"""What stands around classical models: the class of the best score, norms of rows, softmax without zeros."""

from __future__ import annotations

from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    constant,
    f32,
    i32,
    inline,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ChooseClass, NormalizeF32, Op, SoftmaxZeroF32
from irshrink.program.program import Program
from irshrink.program.reference.classical import ZERO
from irshrink.target import Target

_ZERO = i32(0)


def _rows(op: Op, program: Program) -> tuple[int, int]:
    """Number of rows and their length."""
    x = program.tensors[op.inputs[0]]
    return x.elements // x.shape[-1], x.shape[-1]


def select_class(op: ChooseClass, program: Program, target: Target) -> KernelCall:
    """The label of the first largest score, or of a score above a threshold."""
    labels = Constant("labels", np.ascontiguousarray(op.labels))
    count, classes = _rows(op, program)
    if op.threshold is not None:
        threshold = float(np.float32(op.threshold))
        return KernelCall(_class_above(), (Input(0), Output(), labels, count, threshold))
    return KernelCall(_class_of_largest(), (Input(0), Output(), labels, count, classes))


@cache
def _class_above() -> TirFunction:
    with Function("class_above_f32", "One of two classes by a score and a threshold.") as f:
        x, y, labels, rows, threshold = f.parameters(
            read("x", "float32"),
            write("y", "int32"),
            constant("labels", "int32"),
            *scalars("rows"),
            scalar("threshold", "float32"),
        )
        with f.loop("row", rows) as row:
            f.store(y, row, labels[select(x[row] > threshold, i32(1), i32(0))])
    return f.result


@cache
def _class_of_largest() -> TirFunction:
    with Function("class_of_largest_f32", "The class of the first largest score.") as f:
        x, y, labels, rows, classes = f.parameters(
            read("x", "float32"),
            write("y", "int32"),
            constant("labels", "int32"),
            *scalars("rows", "classes"),
        )
        best = f.local("best", "int32", 1)
        with f.loop("row", rows) as row:
            at = f.bind("at", row * classes)
            f.store(best, 0, i32(0))
            with f.loop("k", classes) as k, f.when(x[at + k] > x[at + best[_ZERO]]):
                f.store(best, 0, k)
            f.store(y, row, labels[best[_ZERO]])
    return f.result


def select_normalize(op: NormalizeF32, program: Program, target: Target) -> KernelCall:
    return KernelCall(_normalize(op.norm), (Input(0), Output(), *_rows(op, program)), in_place=(0,))


@cache
def _normalize(norm: str) -> TirFunction:
    with Function(f"normalize_{norm}_f32", f"Rows divided by their norm ({norm}).") as f:
        x, y, rows, n = f.parameters(read("x", "float32"), write("y", "float32"), *scalars("rows", "columns"))
        total = f.local("norm", "float32", 1)
        with f.loop("row", rows) as row:
            at = f.bind("at", row * n)
            f.store(total, 0, x[at] if norm == "max" else f32(0.0))
            with f.loop("k", n) as k:
                f.store(total, 0, _collected(norm, total[_ZERO], x[at + k]))
            with f.loop("k", n) as k:
                value = f.bind("value", x[at + k])
                f.store(y, at + k, select(total[_ZERO] == f32(0.0), value, _scaled(norm, value, total)))
    return f.result


def _collected(norm: str, so_far: Expr, value: Expr) -> Expr:
    if norm == "max":
        return inline("float32", "irs_max_f32", value, so_far)
    return so_far + (inline("float32", "irs_math_abs", value) if norm == "l1" else value * value)


def _scaled(norm: str, value: Expr, total: Buffer) -> Expr:
    if norm != "l2":
        return inline("float32", "irs_math_div", value, total[_ZERO])
    root = inline("float32", "irs_math_sqrt", inline("float32", "irs_math_div", value * value, total[_ZERO]))
    return select(value < f32(0.0), inline("float32", "irs_math_neg", root), root)


def select_softmax_zero(op: SoftmaxZeroF32, program: Program, target: Target) -> KernelCall:
    return KernelCall(_softmax_zero(), (Input(0), Output(), *_rows(op, program)), in_place=(0,))


@cache
def _softmax_zero() -> TirFunction:
    with Function("softmax_zero_f32", "Softmax of the scores that are not zero.") as f:
        x, y, rows, n = f.parameters(read("x", "float32"), write("y", "float32"), *scalars("rows", "columns"))
        best, total = f.local("best", "float32", 1), f.local("total", "float32", 1)
        low, high = f32(-float(ZERO)), f32(float(ZERO))
        with f.loop("row", rows) as row:
            at = f.bind("at", row * n)
            f.store(best, 0, x[at])
            with f.loop("k", n) as k:
                f.store(best, 0, inline("float32", "irs_max_f32", x[at + k], best[_ZERO]))
            f.store(total, 0, f32(0.0))
            with f.loop("k", n) as k:
                value = f.bind("value", x[at + k])
                inside = select(value > high, i32(0), select(value < low, i32(0), i32(1)))
                zero = f.bind("zero", inside)
                e = f.bind(
                    "e", inline("float32", "irs_math_exp", select(zero != 0, f32(0.0), value) - best[_ZERO])
                )
                f.store(y, at + k, select(zero != 0, value * e, e))
                f.store(total, 0, total[_ZERO] + select(zero != 0, f32(0.0), e))
            with f.loop("k", n) as k:
                f.store(y, at + k, inline("float32", "irs_math_div", y[at + k], total[_ZERO]))
    return f.result
