"""Integers whose scale is found at run time: the range, the integers, and products of them."""

from __future__ import annotations

from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    inline,
    quotient,
    read,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import DenseInteger, DynamicQuantize, DynamicScale, DynamicZeroPoint
from irshrink.program.program import Program
from irshrink.target import Target


def select_scale(op: DynamicScale, program: Program, target: Target) -> KernelCall:
    """One pass over the tensor."""
    return KernelCall(_scale(), (Input(0), Output(), program.tensors[op.inputs[0]].elements))


def select_zero_point(op: DynamicZeroPoint, program: Program, target: Target) -> KernelCall:
    """Another one: its smallest value."""
    n = program.tensors[op.inputs[0]].elements
    return KernelCall(_zero_point(), (Input(0), Input(1), Output(), n))


def select_quantize(op: DynamicQuantize, program: Program, target: Target) -> KernelCall:
    """Element by element."""
    n = program.tensors[op.output].elements
    return KernelCall(_quantize(), (Input(0), Input(1), Input(2), Output(), n))


def select_dense(op: DenseInteger, program: Program, target: Target) -> KernelCall:
    """The zero point comes out of the sums: it times the sum of a row of weights is taken off."""
    channels, features = op.weight.shape
    rows = program.tensors[op.output].elements // channels
    sums = op.weight.sum(axis=1, dtype=np.int32)
    weight = np.ascontiguousarray(op.weight).reshape(-1)
    constants = (Constant("weight", weight), Constant("sums", sums))
    return KernelCall(_dense(), (Input(0), Input(1), *constants, Output(), rows, features, channels))


def _extreme(f: Function, name: str, x: Buffer, n: Expr, largest: bool) -> Expr:
    """The largest or smallest value and 0; a comparison with NaN is false."""
    found = f.local(name, "float32", 1)
    f.store(found, 0, f32(0.0))
    with f.loop("i", n) as i:
        better = x[i] > found[i32(0)] if largest else x[i] < found[i32(0)]
        f.store(found, 0, select(better, x[i], found[i32(0)]))
    return found[i32(0)]


@cache
def _scale() -> TirFunction:
    with Function("dynamic_scale", "Scale of a tensor's range in 255 steps.") as f:
        x, y, n = f.parameters(read("x", "float32"), write("y", "float32"), *scalars("n"))
        with f.share("once", 1):
            low, high = _extreme(f, "low", x, n, False), _extreme(f, "high", x, n, True)
            scale = f.bind("scale", (high - low) / f32(255.0))
            f.store(y, 0, select(scale == f32(0.0), f32(1.0), scale))
    return f.result


@cache
def _zero_point() -> TirFunction:
    with Function("dynamic_zero_point", "Zero point of a tensor's range.") as f:
        x, scale, y, n = f.parameters(
            read("x", "float32"), read("scale", "float32"), write("y", "int8"), *scalars("n")
        )
        with f.share("once", 1):
            low = _extreme(f, "low", x, n, False)
            f.store(y, 0, inline("int8", "irs_quantize", (f32(0.0) - low) / scale[i32(0)], -128))
    return f.result


@cache
def _quantize() -> TirFunction:
    with Function("dynamic_quantize", "float32 to int8 by a scale of run time.") as f:
        x, scale, zero, y, n = f.parameters(
            read("x", "float32"), read("scale", "float32"), read("zero", "int8"), write("y", "int8"),
            *scalars("n"),
        )  # fmt: skip
        step, at = f.bind("step", scale[i32(0)]), f.bind("at", cast("int32", zero[i32(0)]))
        with f.share("i", n) as i:
            f.store(y, i, inline("int8", "irs_quantize", x[i] / step, at))
    return f.result


@cache
def _dense() -> TirFunction:
    with Function("dense_integer", "Products of int8 into int32.") as f:
        x, zero, weight, sums, y, rows, features, channels = f.parameters(
            read("x", "int8"), read("zero", "int8"), constant("weight", "int8"), constant("sums", "int32"),
            write("y", "int32"), *scalars("rows", "features", "channels"),
        )  # fmt: skip
        acc = f.local("acc", "int32", 1)
        at = f.bind("at", cast("int32", zero[i32(0)]))
        with f.share("i", rows * channels) as i:
            channel = f.bind("channel", remainder(i, channels))
            first = f.bind("first", quotient(i, channels) * features)
            row = f.bind("row", channel * features)
            f.store(acc, 0, i32(0) - at * sums[channel])
            with f.loop("k", features) as k:
                product = cast("int32", x[first + k]) * cast("int32", weight[row + k])
                f.store(acc, 0, acc[i32(0)] + product)
            f.store(y, i, acc[i32(0)])
    return f.result
