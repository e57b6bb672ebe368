"""int8 pools: eight channels summed up in int16, or the largest of sixteen."""

from __future__ import annotations

from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.mve.epilogue import VectorEpilogue
from irshrink.backends.tvm.kernels.pooling import Counts, used_counts
from irshrink.backends.tvm.kernels.windows import (
    Block,
    Position,
    each_window,
    pool_distances,
    pool_rows,
    size_arguments,
    size_parameters,
)
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    i32,
    inline,
    read,
    scalars,
    write,
)
from irshrink.program.ops import AveragePoolInt8, MaxPool
from irshrink.program.program import Program

#: Channels of a sum and of a maximum.
SUMS, MAXIMA = 8, 16
#: Window positions whose bytes fit in a sum of 16 bits.
POSITIONS = 256


def select_average_pool(op: AveragePoolInt8, program: Program) -> KernelCall | None:
    """Average; None with fewer channels than a vector, or windows whose sums need more bits."""
    _, height, width, channels = program.tensors[op.inputs[0]].shape
    kh, kw = op.window.kernel
    if channels < SUMS or kh * kw > POSITIONS:
        return None
    block = Block("packed", SUMS, any(op.window.pads))
    counts = Counts.of(op.multipliers, used_counts(op.window, height, width, op.count_padding))
    bits = np.array(counts.values, np.float32).view(np.int32)
    multipliers: list[Argument] = [*map(int, bits)]
    if counts.table:
        multipliers = [Constant("multiplier", bits), counts.first]
    epilogue = VectorEpilogue(clamp=(op.low, op.high) != (-128, 127))
    arguments: list[Argument] = [Input(0), Output(), *size_arguments(op, program), op.input_zero_point]
    arguments += [*multipliers, op.zero_point, *([op.low, op.high] if epilogue.clamp else [])]
    function = _average_pool(block, counts.table, epilogue)
    return _call(function, arguments, op, program, block)


@cache
def _average_pool(block: Block, table: bool, epilogue: VectorEpilogue) -> TirFunction:
    padded = "_padded" if block.padded else ""
    name = f"average_pool_s8_mve{padded}{'_counts' if table else ''}{epilogue.suffix}"
    with Function(name, "Average pool of int8.") as f:
        sizes = size_parameters(block)
        x, y, *rest = f.parameters(
            read("x", "int8"),
            write("y", "int8"),
            *sizes,
            *scalars("input_zero_point"),
            *(
                [constant("multipliers", "int32"), *scalars("first_count")]
                if table
                else scalars("multiplier")
            ),
            *epilogue.parameters(),
        )
        size, (zero_point, multiplier, *given) = rest[: len(sizes)], rest[len(sizes) :]
        first = given.pop(0) if table else None
        bound, sums = epilogue.bind(given), _Sums(f, x)

        def finish(p: Position) -> None:
            bits = multiplier if first is None else multiplier[p.valid - first]
            scale = f.bind("scale", inline("int32x4", "irs_lanes_same4", bits))
            offset = f.bind("offset", inline("int32x4", "irs_lanes_same4", 0 - zero_point * p.valid))
            halves = [inline("int32x4", f"irs_mve_{half}", sums.value()) for half in ("even", "odd")]
            centred = [inline("int32x4", "irs_mve_sum", half, offset) for half in halves]
            a, b = (inline("int32x4", "irs_mve_scale", half, scale) for half in centred)
            bound.store8(f, a, b, y, p.at, None)

        each_window(f, block, size, sums, finish)
    return f.result


def select_max_pool(op: MaxPool, program: Program) -> KernelCall | None:
    """Max pool of int8; None with fewer channels than a vector."""
    x = program.tensors[op.inputs[0]]
    if x.dtype != "int8" or x.shape[3] < MAXIMA:
        return None
    block = Block("packed", MAXIMA, any(op.window.pads))
    arguments: list[Argument] = [Input(0), Output(), *size_arguments(op, program)]
    return _call(_max_pool(block), arguments, op, program, block)


def _call(
    function: TirFunction,
    arguments: list[Argument],
    op: AveragePoolInt8 | MaxPool,
    program: Program,
    block: Block,
) -> KernelCall:
    distances = pool_distances(op, program)
    return KernelCall(function, tuple(arguments), distances=distances, rows=pool_rows(op, block))


@cache
def _max_pool(block: Block) -> TirFunction:
    with Function(f"max_pool_s8_mve{'_padded' if block.padded else ''}", "Max pool of int8.") as f:
        x, y, *sizes = f.parameters(read("x", "int8"), write("y", "int8"), *size_parameters(block))
        maxima = _Maxima(f, x)
        each_window(
            f, block, sizes, maxima, lambda p: f.call("irs_mve_store", address(y, p.at), maxima.value())
        )
    return f.result


class _Sums:
    """Sums of eight channels."""

    def __init__(self, f: Function, x: Buffer) -> None:
        self.f, self.x = f, x
        self.acc = f.local("acc", "int16x8", 1)

    def start(self) -> None:
        self.f.store(self.acc, 0, inline("int16x8", "irs_lanes_same", 0))

    def take(self, at: Expr) -> None:
        lanes = inline("int16x8", "irs_mve_widened", address(self.x, at))
        self.f.store(self.acc, 0, inline("int16x8", "irs_lanes_sum", self.value(), lanes))

    def value(self) -> Expr:
        return self.acc[i32(0)]


class _Maxima:
    """The largest of sixteen channels."""

    def __init__(self, f: Function, x: Buffer) -> None:
        self.f, self.x = f, x
        self.best = f.local("best", "int8x16", 1)

    def start(self) -> None:
        self.f.store(self.best, 0, inline("int8x16", "irs_lanes_lowest"))

    def take(self, at: Expr) -> None:
        lanes = inline("int8x16", "irs_mve_load", address(self.x, at))
        self.f.store(self.best, 0, inline("int8x16", "irs_lanes_larger", self.value(), lanes))

    def value(self) -> Expr:
        return self.best[i32(0)]
