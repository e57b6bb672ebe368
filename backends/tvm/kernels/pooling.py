"""Average and max pools over [N, H, W, C]: a block of channels at a time, the window in the inner loops.

| style  | block | for |
|--------|-------|-----|
| packed | 4 int8 channels in a word | Cortex-M: one load and two or three instructions for four values |
| simd   | 16 | host: loops over the block, which compilers vectorize |
| plain  | 4 or 1 | float32 on Cortex-M, few channels, windows too large for packed sums |

The last block of channels overlaps the one before, so that any count works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elementwise import requantized
from irshrink.backends.tvm.tir import (
    Buffer,
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
    maximum,
    minimum,
    quotient,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.program.ops import AveragePoolF32, AveragePoolInt8, MaxPool, Window
from irshrink.program.program import Program
from irshrink.target import Target

Style = Literal["packed", "simd", "plain"]

#: Unsigned bytes that fit in a sum of 16 bits.
_PACKED_POSITIONS = 257


@dataclass(frozen=True)
class Block:
    """How many channels are pooled at once, and how; an argument of generators."""

    style: Style
    channels: int
    padded: bool

    @property
    def suffix(self) -> str:
        return f"_{self.style}{self.channels}" + ("_padded" if self.padded else "")

    @staticmethod
    def choose(target: Target, window: Window, channels: int, dtype: str, packed: bool) -> Block:
        padded = any(window.pads)
        if target.has("simd"):
            return Block("simd", 16, padded) if channels >= 16 else Block("plain", 1, padded)
        if channels < 4:
            return Block("plain", 1, padded)
        return Block("packed" if packed and dtype == "int8" else "plain", 4, padded)


@dataclass(frozen=True)
class Position:
    """Where in the output a block is, and how many window positions lie inside the input."""

    channel: Expr
    at: Expr
    valid: Expr


_SIZES = (
    "images", "out_h", "out_w", "height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "dilation_h", "dilation_w",
)  # fmt: skip


def _size_parameters(block: Block) -> list[Parameter]:
    return scalars(*_SIZES, *(("top", "left") if block.padded else ()))


def _size_arguments(op: Any, program: Program) -> list[int]:
    (images, height, width, channels), (_, out_h, out_w, _) = (
        program.tensors[name].shape for name in (op.inputs[0], op.output)
    )
    window: Window = op.window
    sizes = [images, out_h, out_w, height, width, channels]
    sizes += [*window.kernel, *window.strides, *window.dilations]
    return sizes + (list(window.pads[:2]) if any(window.pads) else [])


def _windows(
    f: Function,
    block: Block,
    sizes: list[Expr],
    start: Callable[[], None],
    take: Callable[[Expr], None],
    finish: Callable[[Position], None],
) -> None:
    """All windows of all blocks: ``start()``, ``take(input offset)`` for each position inside, ``finish``."""
    size = dict(zip([p.name for p in _size_parameters(block)], sizes, strict=True))
    channels, width = size["channels"], size["width"]
    with f.loop("image", size["images"]) as image, f.loop("out_y", size["out_h"]) as oy:
        first_y, rows = _valid(f, "y", block, size, oy)
        with f.loop("out_x", size["out_w"]) as ox:
            first_x, columns = _valid(f, "x", block, size, ox)
            corner = f.bind("corner", ((image * size["height"] + first_y) * width + first_x) * channels)
            pixel = f.bind("pixel", ((image * size["out_h"] + oy) * size["out_w"] + ox) * channels)
            with f.loop("b", quotient(channels + (block.channels - 1), block.channels)) as b:
                c = f.bind("channel", minimum(b * block.channels, channels - block.channels))
                start()
                with f.loop("ky", rows) as ky:
                    row = f.bind("row", corner + c + ky * size["dilation_h"] * width * channels)
                    with f.loop("kx", columns) as kx:
                        take(row + kx * size["dilation_w"] * channels)
                finish(Position(c, pixel + c, rows * columns))


def _valid(f: Function, axis: str, block: Block, size: dict[str, Expr], out: Expr) -> tuple[Expr, Expr]:
    """The first input row (column) inside the window at ``out``, and how many there are."""
    h, before, extent = ("h", "top", "height") if axis == "y" else ("w", "left", "width")
    kernel, dilation = size[f"kernel_{h}"], size[f"dilation_{h}"]
    if not block.padded:
        return out * size[f"stride_{h}"], kernel
    origin = f.bind(f"{axis}0", out * size[f"stride_{h}"] - size[before])
    skipped = f.bind(f"skipped_{axis}", quotient(maximum(0 - origin, 0) + dilation - 1, dilation))
    end = minimum(kernel, quotient(maximum(size[extent] - origin, 0) + dilation - 1, dilation))
    count = f.bind("rows" if axis == "y" else "columns", maximum(end - skipped, 0))
    return origin + skipped * dilation, count


class _Sums:
    """One accumulator a channel: ``combine(acc, x)``."""

    def __init__(self, f: Function, block: Block, dtype: str, x: Buffer, initial: Expr, combine: Any) -> None:
        self.f, self.block, self.x, self.initial, self.combine = f, block, x, initial, combine
        self.acc = f.local("acc", dtype, block.channels)

    def start(self) -> None:
        self.each(lambda j: self.f.store(self.acc, j, self.initial))

    def take(self, at: Expr) -> None:
        self.each(lambda j: self.f.store(self.acc, j, self.combine(self.acc[i32(j)], self.x[at + j])))

    def each(self, do: Callable[[Any], None]) -> None:
        if self.block.style == "simd":
            with self.f.loop("j", self.block.channels) as j:
                do(j)
            return
        for j in range(self.block.channels):
            do(j)

    def value(self, j: Any) -> Expr:
        return self.acc[i32(j)]


class _PackedSums:
    """Sums of x + 128 in 16 bits each: channels 0 and 2, and 1 and 3."""

    def __init__(self, f: Function, x: Buffer) -> None:
        self.f, self.x = f, x
        self.acc = f.local("acc", "int32", 2)

    def start(self) -> None:
        self.f.store(self.acc, 0, i32(0))
        self.f.store(self.acc, 1, i32(0))

    def take(self, at: Expr) -> None:
        word = self.f.bind("word", inline("int32", "irs_load_biased", address(self.x, at)))
        self.f.store(self.acc, 0, inline("int32", "irs_sum_even", self.acc[i32(0)], word))
        self.f.store(self.acc, 1, inline("int32", "irs_sum_odd", self.acc[i32(1)], word))

    def each(self, do: Callable[[Any], None]) -> None:
        for j in range(4):
            do(j)

    def value(self, j: int) -> Expr:
        pair = self.acc[i32(j % 2)]
        return cast("int32", cast("uint16", pair >> 16 if j >= 2 else pair))


# Max


def select_max_pool(op: MaxPool, program: Program, target: Target) -> KernelCall:
    """Max pool of int8 or float32."""
    x = program.tensors[op.inputs[0]]
    block = Block.choose(target, op.window, x.shape[3], x.dtype, packed=target.has("dsp"))
    return KernelCall(_max_pool(block, x.dtype), (Input(0), Output(), *_size_arguments(op, program)))


@cache
def _max_pool(block: Block, dtype: str) -> TirFunction:
    short = "s8" if dtype == "int8" else "f32"
    with Function(f"max_pool_{short}{block.suffix}", f"Max pool of {dtype}.") as f:
        x, y, *sizes = f.parameters(read("x", dtype), write("y", dtype), *_size_parameters(block))
        if block.style == "packed":
            _max_words(f, block, x, y, sizes)
            return_dtype = None
        else:
            return_dtype = "int32" if dtype == "int8" else dtype
        if return_dtype is not None:
            lowest = i32(-128) if dtype == "int8" else inline("float32", "irs_lowest")
            name = "irs_max_i32" if dtype == "int8" else "irs_max_f32"
            sums = _Sums(
                f, block, return_dtype, x, lowest,
                lambda acc, v: inline(return_dtype, name, cast(return_dtype, v), acc),
            )  # fmt: skip
            _windows(
                f, block, sizes, sums.start, sums.take,
                lambda p: sums.each(lambda j: f.store(y, p.at + j, cast(dtype, sums.value(j)))),
            )  # fmt: skip
    return f.result


def _max_words(f: Function, block: Block, x: Buffer, y: Buffer, sizes: list[Expr]) -> None:
    best = f.local("best", "int32", 1)
    zero = i32(0)

    def take(at: Expr) -> None:
        word = inline("int32", "irs_load32", address(x, at))
        f.store(best, 0, inline("int32", "irs_max4", word, best[zero]))

    _windows(
        f, block, sizes, lambda: f.store(best, 0, i32(-0x7F7F7F80)), take,
        lambda p: f.call("irs_store32", address(y, p.at), best[zero]),
    )  # fmt: skip


# Average


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
    block = Block.choose(target, op.window, channels, "int8", packed=kh * kw <= _PACKED_POSITIONS)
    counts = Counts.of(op.multipliers, used_counts(op.window, height, width, op.count_padding))
    clamp = (op.low, op.high) != (-128, 127)
    zero = op.input_zero_point + (128 if block.style == "packed" else 0)
    arguments: list[Argument] = [Input(0), Output(), *_size_arguments(op, program), zero, *counts.arguments()]
    arguments += [op.zero_point, *([op.low, op.high] if clamp else [])]
    return KernelCall(_average_pool_s8(block, counts.table, clamp), tuple(arguments))


@cache
def _average_pool_s8(block: Block, table: bool, clamp: bool) -> TirFunction:
    name = f"average_pool_s8{block.suffix}{'_counts' if table else ''}{'_clamp' if clamp else ''}"
    with Function(name, "Average pool of int8.") as f:
        sizes, given = _size_parameters(block), Counts.parameters(table)
        x, y, *rest = f.parameters(
            read("x", "int8"), write("y", "int8"), *sizes, *scalars("input_zero_point"), *given,
            *scalars("zero_point", *(("low", "high") if clamp else ())),
        )  # fmt: skip
        size, rest = rest[: len(sizes)], rest[len(sizes) :]
        input_zero, multipliers, quantization = rest[0], rest[1 : 1 + len(given)], rest[1 + len(given) :]
        sums: Any = (
            _PackedSums(f, x)
            if block.style == "packed"
            else _Sums(f, block, "int32", x, i32(0), lambda acc, v: acc + cast("int32", v))
        )

        def finish(p: Position) -> None:
            zero = f.bind("zero", input_zero * p.valid)
            multiplier = Counts.emit(f, table, multipliers, p.valid)
            sums.each(
                lambda j: f.store(y, p.at + j, requantized(sums.value(j) - zero, multiplier, *quantization))
            )

        _windows(f, block, size, sums.start, sums.take, finish)
    return f.result


def select_average_pool_f32(op: AveragePoolF32, program: Program, target: Target) -> KernelCall:
    """float32 average pool."""
    _, height, width, channels = program.tensors[op.inputs[0]].shape
    block = Block.choose(target, op.window, channels, "float32", packed=False)
    used = used_counts(op.window, height, width, op.count_padding)
    counts = Counts.of({n: 1.0 / n for n in range(1, max(used) + 1)}, used)
    arguments = (Input(0), Output(), *_size_arguments(op, program), *counts.arguments())
    return KernelCall(_average_pool_f32(block, counts.table), arguments)


@cache
def _average_pool_f32(block: Block, table: bool) -> TirFunction:
    name = f"average_pool_f32{block.suffix}{'_counts' if table else ''}"
    with Function(name, "Average pool of float32.") as f:
        sizes = _size_parameters(block)
        x, y, *rest = f.parameters(
            read("x", "float32"), write("y", "float32"), *sizes, *Counts.parameters(table)
        )
        size, given = rest[: len(sizes)], rest[len(sizes) :]
        sums = _Sums(f, block, "float32", x, f32(0.0), lambda acc, v: acc + v)

        def finish(p: Position) -> None:
            multiplier = Counts.emit(f, table, given, p.valid)
            sums.each(lambda j: f.store(y, p.at + j, sums.value(j) * multiplier))

        _windows(f, block, size, sums.start, sums.take, finish)
    return f.result
