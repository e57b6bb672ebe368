"""float32 dense layers whose weights lie in flash without those that are 0, which are no products either.

The weights of an output channel are numbers and, in two bytes each, their columns, in order; on top come two
bytes a channel: how many it has (compressed sparse rows).
"""

from __future__ import annotations

from functools import cache
from math import inf

import numpy as np

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elementwise_f32 import clipped, finite_bounds
from irshrink.backends.tvm.kernels.floating import multiply_add
from irshrink.backends.tvm.tir import (
    Function,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.program.ops import DenseF32
from irshrink.program.program import Program
from irshrink.target import Target


def select(op: DenseF32, program: Program, target: Target) -> KernelCall:
    """The kernel of a layer that lowering left sparse."""
    channels, depth = op.weight.shape
    channel, column = np.nonzero(op.weight)
    counts = np.bincount(channel, minlength=channels)
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    return KernelCall(
        function=_dense(low != -inf, high != inf, op.fused),
        arguments=(
            Input(0),
            Constant("weight", op.weight[channel, column]),
            Constant("column", column.astype(np.uint16)),
            Constant("counts", counts.astype(np.uint16)),
            Constant("bias", op.bias),
            Output(),
            *(program.tensors[op.output].elements // channels, channels, depth),
            *finite_bounds(low, high),
        ),
    )


@cache
def _dense(low: bool, high: bool, fused: bool) -> TirFunction:
    bounds = [name for name, has in (("low", low), ("high", high)) if has]
    name = "".join(["sparse_f32", *(f"_{bound}" for bound in bounds), "_fma" if fused else ""])
    with Function(name, "Dense layer of float32 whose weights are those that are not 0.") as f:
        x, weight, column, counts, bias, y, rows, channels, depth, *rest = f.parameters(
            read("x", "float32"),
            constant("weight", "float32"),
            constant("column", "uint16"),
            constant("counts", "uint16"),
            constant("bias", "float32"),
            write("y", "float32"),
            *scalars("rows", "channels", "depth"),
            *(scalar(bound, "float32") for bound in bounds),
        )
        given = dict(zip(bounds, rest, strict=True))
        acc, here = f.local("acc", "float32", 1), f.local("at", "int32", 1)
        with f.share("row", rows) as row:
            f.store(here, 0, 0)
            with f.loop("c", channels) as c:
                f.store(acc, 0, bias[c])
                first = f.bind("first", here[0])
                with f.loop("e", cast("int32", counts[c])) as e:
                    place = row * depth + cast("int32", column[first + e])
                    f.store(acc, 0, multiply_add(fused, x[place], weight[first + e], acc[i32(0)]))
                f.store(here, 0, first + cast("int32", counts[c]))
                value = acc[i32(0)] + f32(0.0) if fused else acc[i32(0)]
                f.store(y, row * channels + c, clipped(value, given.get("low"), given.get("high")))
    return f.result
