"""Average and max pools over [N, H, W, C]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.epilogue import requantized
from irshrink.backends.tvm.kernels.windows import (
    PACKED_POSITIONS,
    Block,
    PackedMaxima,
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
    Parameter,
    TirFunction,
    address,
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
from irshrink.program.ops import AveragePoolF16, AveragePoolF32, AveragePoolInt8, MaxPool, Window
from irshrink.program.program import Program
from irshrink.target import Target


def select_max_pool(op: MaxPool, program: Program, target: Target) -> KernelCall:
    """Max pool of int8, int16, float16 or float32."""
    x = program.tensors[op.inputs[0]]
    block = Block.choose(target, op.window, x.shape[3], x.dtype, packed=target.has("dsp"))
    function = _max_pool_words(block) if block.style == "packed" else _max_pool(block, x.dtype)
    arguments: tuple[Argument, ...] = (Input(0), Output(), *size_arguments(op, program))
    return KernelCall(function, arguments, distances=pool_distances(op, program), rows=pool_rows(op, block))


#: Of an element type: its short name, how it is stored, what its maximum is kept in, and the function for it.
_LARGER = {
    "int8": ("s8", "int8", "int32", "irs_max_i32"),
    "int16": ("s16", "int16", "int32", "irs_max_i32"),
    "int32": ("s32", "int32", "int32", "irs_max_i32"),
    "float16": ("f16", "int16", "int16", "irs_f16_max"),
    "float32": ("f32", "float32", "float32", "irs_max_f32"),
}


def _lowest(dtype: str) -> Expr:
    """What any value of a type is at least; -infinity of those that have it."""
    if dtype == "float32":
        return inline("float32", "irs_lowest")
    return inline("int16", "irs_f16_lowest") if dtype == "float16" else i32(int(np.iinfo(dtype).min))


@cache
def _max_pool(block: Block, dtype: str) -> TirFunction:
    short, stored, acc_type, larger = _LARGER[dtype]
    lowest = _lowest(dtype)
    with Function(f"max_pool_{short}{block.suffix}", f"Max pool of {dtype}.") as f:
        x, y, *sizes = f.parameters(read("x", stored), write("y", stored), *size_parameters(block))
        maxima = Sums(
            f, block, acc_type, x, lowest, lambda best, v: inline(acc_type, larger, cast(acc_type, v), best)
        )
        each_window(
            f, block, sizes, maxima,
            lambda p: maxima.each(lambda j: f.store(y, p.at + j, cast(stored, maxima.value(j)))),
        )  # fmt: skip
    return f.result


@cache
def _max_pool_words(block: Block) -> TirFunction:
    with Function(f"max_pool_s8{block.suffix}", "Max pool of int8, four channels in a word.") as f:
        x, y, *sizes = f.parameters(read("x", "int8"), write("y", "int8"), *size_parameters(block))
        maxima = PackedMaxima(f, x)
        each_window(
            f, block, sizes, maxima, lambda p: f.call("irs_store32", address(y, p.at), maxima.value())
        )
    return f.result


@dataclass(frozen=True)
class Counts:
    """Multipliers by the number of positions: one for all, or a table that starts at ``first``."""

    table: bool
    first: int
    values: tuple[float, ...]

    @staticmethod
    def of(multipliers: Mapping[int, float], used: set[int]) -> Counts:
        if len(used) == 1:
            return Counts(False, 0, (float(np.float32(multipliers[used.pop()])),))
        first, last = min(used), max(used)
        return Counts(True, first, tuple(multipliers.get(n, 0.0) for n in range(first, last + 1)))

    @staticmethod
    def parameters(table: bool) -> list[Parameter]:
        if table:
            return [constant("multipliers", "float32"), scalar("first_count")]
        return [scalar("multiplier", "float32")]

    def arguments(self) -> list[Argument]:
        if self.table:
            return [Constant("multiplier", np.array(self.values, np.float32)), self.first]
        return [self.values[0]]

    @staticmethod
    def emit(f: Function, table: bool, given: list[Any], valid: Expr) -> Expr:
        """The multiplier for ``valid`` positions."""
        return f.bind("multiplier", given[0][valid - given[1]]) if table else given[0]


def used_counts(window: Window, height: int, width: int, count_padding: bool) -> set[int]:
    """Numbers of positions that windows of this layer average over."""
    kh, kw = window.kernel
    if count_padding:
        return {kh * kw}
    out = window.output(height, width)
    axes = []
    for axis, extent in enumerate((height, width)):
        origins = [i * window.strides[axis] - window.pads[axis] for i in range(out[axis])]
        positions = [range(o, o + window.extent()[axis], window.dilations[axis]) for o in origins]
        axes.append({sum(0 <= p < extent for p in at) for at in positions})
    return {rows * columns for rows in axes[0] for columns in axes[1]}


def select_average_pool_int8(op: AveragePoolInt8, program: Program, target: Target) -> KernelCall:
    """int8 average pool: exact sums, one requantization."""
    _, height, width, channels = program.tensors[op.inputs[0]].shape
    kh, kw = op.window.kernel
    block = Block.choose(target, op.window, channels, "int8", packed=kh * kw <= PACKED_POSITIONS)
    counts = Counts.of(op.multipliers, used_counts(op.window, height, width, op.count_padding))
    clamp = (op.low, op.high) != (-128, 127)
    zero = op.input_zero_point + (128 if block.style == "packed" else 0)
    arguments: list[Argument] = [Input(0), Output(), *size_arguments(op, program), zero, *counts.arguments()]
    arguments += [op.zero_point, *([op.low, op.high] if clamp else [])]
    function = _average_pool_s8(block, counts.table, clamp)
    return KernelCall(
        function, tuple(arguments), distances=pool_distances(op, program), rows=pool_rows(op, block)
    )


@cache
def _average_pool_s8(block: Block, table: bool, clamp: bool) -> TirFunction:
    name = f"average_pool_s8{block.suffix}{'_counts' if table else ''}{'_clamp' if clamp else ''}"
    with Function(name, "Average pool of int8.") as f:
        sizes, given = size_parameters(block), Counts.parameters(table)
        x, y, *rest = f.parameters(
            read("x", "int8"), write("y", "int8"), *sizes, *scalars("input_zero_point"), *given,
            *scalars("zero_point", *(("low", "high") if clamp else ())),
        )  # fmt: skip
        size, rest = rest[: len(sizes)], rest[len(sizes) :]
        input_zero, multipliers, quantization = rest[0], rest[1 : 1 + len(given)], rest[1 + len(given) :]
        sums: Any = (
            PackedSums(f, x)
            if block.style == "packed"
            else Sums(f, block, "int32", x, i32(0), lambda acc, v: acc + cast("int32", v))
        )

        def finish(p: Position) -> None:
            zero = f.bind("zero", input_zero * p.valid)
            multiplier = Counts.emit(f, table, multipliers, p.valid)
            sums.each(
                lambda j: f.store(y, p.at + j, requantized(sums.value(j) - zero, multiplier, *quantization))
            )

        each_window(f, block, size, sums, finish)
    return f.result


def select_average_pool_f32(op: AveragePoolF32, program: Program, target: Target) -> KernelCall:
    """float32 average pool."""
    return average_of_floats(op, program, target, "float32", _average_pool_f32)


def average_of_floats(
    op: AveragePoolF32 | AveragePoolF16,
    program: Program,
    target: Target,
    dtype: str,
    make: Callable[[Block, bool], TirFunction],
) -> KernelCall:
    """The call of an average pool of floats: sums times one over their number.

    Args:
        make: the kernel, from its block and whether numbers come from a table.
    """
    _, height, width, channels = program.tensors[op.inputs[0]].shape
    block = Block.choose(target, op.window, channels, dtype, packed=False)
    used = used_counts(op.window, height, width, op.count_padding)
    counts = Counts.of({n: 1.0 / n for n in range(1, max(used) + 1)}, used)
    arguments = (Input(0), Output(), *size_arguments(op, program), *counts.arguments())
    function = make(block, counts.table)
    return KernelCall(function, arguments, distances=pool_distances(op, program), rows=pool_rows(op, block))


@cache
def _average_pool_f32(block: Block, table: bool) -> TirFunction:
    name = f"average_pool_f32{block.suffix}{'_counts' if table else ''}"
    with Function(name, "Average pool of float32.") as f:
        sizes = size_parameters(block)
        x, y, *rest = f.parameters(
            read("x", "float32"), write("y", "float32"), *sizes, *Counts.parameters(table)
        )
        size, given = rest[: len(sizes)], rest[len(sizes) :]
        sums = Sums(f, block, "float32", x, f32(0.0), lambda acc, v: acc + v)

        def finish(p: Position) -> None:
            multiplier = Counts.emit(f, table, given, p.valid)
            sums.each(lambda j: f.store(y, p.at + j, sums.value(j) * multiplier))

        each_window(f, block, size, sums, finish)
    return f.result
