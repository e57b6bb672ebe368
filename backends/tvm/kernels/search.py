"""Operators that look for the best elements, and reductions of integers."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

from irshrink.backends.tvm.kernels.axes import collapse, loops, nest_parameters, row_major
from irshrink.backends.tvm.kernels.call import Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    all_of,
    any_of,
    cast,
    i32,
    inline,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ArgReduce, ReduceInteger, TopK
from irshrink.program.program import Program
from irshrink.target import Target

_SHORT = {"float32": "f32", "int32": "s32", "int8": "s8", "uint8": "u8"}
_ZERO = i32(0)


def _along(op: ArgReduce | TopK, program: Program) -> tuple[str, list[int]]:
    """Element type, and how many rows, elements and columns there are before, along and behind the axis."""
    x = program.tensors[op.inputs[0]]
    return x.dtype, [prod(x.shape[: op.axis]), x.shape[op.axis], prod(x.shape[op.axis + 1 :])]


def select_arg_reduce(op: ArgReduce, program: Program, target: Target) -> KernelCall:
    dtype, sizes = _along(op, program)
    return KernelCall(_arg_reduce(op.kind, op.last, dtype), (Input(0), Output(), *sizes))


@cache
def _arg_reduce(kind: str, last: bool, dtype: str) -> TirFunction:
    name = f"arg{kind}{'_last' if last else ''}_{_SHORT[dtype]}"
    with Function(name, f"Index of the {kind}imum along an axis.") as f:
        x, y, outer, n, inner = f.parameters(
            read("x", dtype), write("y", "int32"), *scalars("outer", "n", "inner")
        )
        best, found = f.local("best", dtype, 1), f.local("found", "int32", 1)
        with f.loop("row", outer) as row, f.loop("column", inner) as column:
            at = f.bind("at", row * n * inner + column)
            f.store(best, 0, x[at])
            f.store(found, 0, _ZERO)
            with f.loop("i", n) as i:
                value = f.bind("value", x[at + i * inner])
                with f.when(_beats(value, best[_ZERO], kind == "max", last)):
                    f.store(best, 0, value)
                    f.store(found, 0, i)
            f.store(y, row * inner + column, found[_ZERO])
    return f.result


def _beats(a: Expr, b: Expr, largest: bool, equal: bool) -> Expr:
    if largest:
        return a >= b if equal else a > b
    return a <= b if equal else a < b


def select_top_k(op: TopK, program: Program, target: Target) -> KernelCall:
    """k passes over the data, no workspace: each takes the best of those that come after the one before."""
    dtype, sizes = _along(op, program)
    return KernelCall(_top_k(op.largest, dtype), (Input(0), Output(), *sizes, op.k))


@cache
def _top_k(largest: bool, dtype: str) -> TirFunction:
    name = f"top_{'largest' if largest else 'smallest'}_{_SHORT[dtype]}"
    with Function(name, "Indices of the best elements along an axis, best first.") as f:
        x, y, outer, n, inner, k = f.parameters(
            read("x", dtype), write("y", "int32"), *scalars("outer", "n", "inner", "k")
        )
        found, last = f.local("found", "int32", 1), f.local("last", "int32", 1)
        with f.loop("row", outer) as row, f.loop("column", inner) as column:
            at = f.bind("at", row * n * inner + column)
            zero = cast(dtype, _ZERO)  # NaN is on neither side of it
            f.store(last, 0, i32(-1))
            with f.loop("j", k) as j:
                f.store(found, 0, i32(-1))
                with f.loop("i", n) as i:
                    value = f.bind("value", x[at + i * inner])
                    before = f.bind(
                        "before", x[at + inline("int32", "irs_max_i32", last[_ZERO], _ZERO) * inner]
                    )
                    best = f.bind("best", x[at + inline("int32", "irs_max_i32", found[_ZERO], _ZERO) * inner])
                    later = any_of(last[_ZERO] < 0, _beats(before, value, largest, False),
                                   all_of(value <= before, value >= before, i > last[_ZERO]))  # fmt: skip
                    better = any_of(found[_ZERO] < 0, _beats(value, best, largest, False))
                    with f.when(all_of(any_of(value <= zero, value >= zero), later, better)):
                        f.store(found, 0, i)
                f.store(
                    y, (row * k + j) * inner + column, inline("int32", "irs_max_i32", found[_ZERO], _ZERO)
                )
                with f.when(found[_ZERO] >= 0):
                    f.store(last, 0, found[_ZERO])
    return f.result


def select_reduce(op: ReduceInteger, program: Program, target: Target) -> KernelCall:
    """Loops over the kept axes around loops over the reduced ones."""
    shape = program.tensors[op.inputs[0]].shape
    strides = row_major(shape)
    kept = [axis for axis in range(len(shape)) if axis not in op.axes]
    kept_shape = [shape[axis] for axis in kept]
    outer = collapse(kept_shape, [strides[axis] for axis in kept], row_major(kept_shape))
    inner = collapse([shape[axis] for axis in op.axes], [strides[axis] for axis in op.axes])
    sizes = [*outer.arguments(), *inner.arguments()]
    return KernelCall(_reduce(op.kind, outer.rank, inner.rank), (Input(0), Output(), *sizes))


@cache
def _reduce(kind: str, outer: int, inner: int) -> TirFunction:
    parameters = nest_parameters(outer, "x", "y"), nest_parameters(inner, "inner", extent="m")
    combine = {"sum": "irs_int_add", "prod": "irs_int_mul", "max": "irs_max_i32", "min": "irs_min_i32"}[kind]
    start = {"sum": 0, "prod": 1, "max": -(2**31), "min": 2**31 - 1}[kind]
    with Function(f"reduce_{kind}_s32_{outer}d{inner}d", f"Reduction ({kind}) of int32.") as f:
        x, y, *given = f.parameters(read("x", "int32"), write("y", "int32"), *parameters[0], *parameters[1])
        kept, reduced = given[: len(parameters[0])], given[len(parameters[0]) :]
        acc: Any = f.local("acc", "int32", 1)
        with loops(f, outer, kept, ("x", "y")) as (x_at, y_at):
            f.store(acc, 0, i32(start))
            with loops(f, inner, reduced, ("inner",)) as (at,):
                f.store(acc, 0, inline("int32", combine, acc[_ZERO], x[x_at + at]))
            f.store(y, y_at, acc[_ZERO])
    return f.result
