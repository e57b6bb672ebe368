"""The walk over windows that pools share: a block of channels at a time, the window in the inner loops.

| style  | block | for |
|--------|-------|-----|
| packed | 4 int8 channels in a word | Cortex-M: one load and two or three instructions for four values |
| simd   | 16 | host: loops over the block, which compilers vectorize |
| plain  | 1 | float32 on Cortex-M, few channels, windows too large for packed sums |

The last block of channels overlaps the one before, so that any count works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from irshrink.backends.tvm.kernels.call import RowCall
from irshrink.backends.tvm.kernels.overlap import tiles_distance
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    cast,
    i32,
    inline,
    maximum,
    minimum,
    quotient,
    scalars,
)
from irshrink.program.ops import (
    AveragePoolF16,
    AveragePoolF32,
    AveragePoolInt8,
    AveragePoolInt16,
    AveragePoolTflm,
    MaxPool,
    MeanTflm,
    Window,
)
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target

Style = Literal["packed", "simd", "plain"]

#: Window positions whose unsigned bytes fit in a sum of 16 bits.
PACKED_POSITIONS = 257


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
        if target.has("simd") and channels >= 16:
            return Block("simd", 16, padded)
        if packed and dtype == "int8" and channels >= 4 and not target.has("simd"):
            return Block("packed", 4, padded)
        return Block("plain", 1, padded)


class Accumulators(Protocol):
    """What a block keeps of its window: fresh by ``start``, fed by ``take(input offset)``."""

    def start(self) -> None: ...

    def take(self, at: Expr) -> None: ...


@dataclass(frozen=True)
class Position:
    """Where in the output a block is, and how many window positions lie inside the input."""

    at: Expr
    valid: Expr


_SIZES = (
    "images", "out_h", "out_w", "height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "dilation_h", "dilation_w",
)  # fmt: skip


def size_parameters(block: Block) -> list[Parameter]:
    return scalars(*_SIZES, *(("top", "left") if block.padded else ()))


_Pool = (
    MaxPool
    | AveragePoolF16
    | AveragePoolInt8
    | AveragePoolInt16
    | AveragePoolF32
    | AveragePoolTflm
    | MeanTflm
)


def size_arguments(op: _Pool, program: Program) -> list[int]:
    (images, height, width, channels), (_, out_h, out_w, _) = (
        program.tensors[name].shape for name in (op.inputs[0], op.output)
    )
    window = op.window
    sizes = [images, out_h, out_w, height, width, channels]
    sizes += [*window.kernel, *window.strides, *window.dilations]
    return sizes + (list(window.pads[:2]) if any(window.pads) else [])


def pool_distances(op: _Pool, program: Program) -> tuple[tuple[int, int], ...]:
    """How far before its input the output has to begin: pixels are finished one after the other."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    elements = tiles_distance(op.window, x.shape, y.shape, 1, reads_first=False)
    return ((0, elements * (x.nbytes // x.elements)),)


def pool_rows(op: _Pool, block: Block) -> RowCall:
    """Calls for some rows."""
    window = op.window
    reach = Reach(window.extent()[0], window.strides[0], window.pads[0])
    if not block.padded:
        return RowCall((reach,), out_rows="out_h")
    return RowCall((reach,), out_rows="out_h", in_rows="height", pad_top="top")


def each_window(
    f: Function, block: Block, sizes: list[Expr], sums: Accumulators, finish: Callable[[Position], None]
) -> None:
    """All windows of all blocks: feed ``sums`` every position inside the input, then ``finish``."""
    size = dict(zip([p.name for p in size_parameters(block)], sizes, strict=True))
    channels, width = size["channels"], size["width"]
    with f.loop("image", size["images"]) as image, f.share("out_y", size["out_h"]) as oy:
        first_y, rows = _valid(f, "y", block, size, oy)
        with f.loop("out_x", size["out_w"]) as ox:
            first_x, columns = _valid(f, "x", block, size, ox)
            corner = f.bind("corner", ((image * size["height"] + first_y) * width + first_x) * channels)
            pixel = f.bind("pixel", ((image * size["out_h"] + oy) * size["out_w"] + ox) * channels)
            with f.loop("b", quotient(channels + (block.channels - 1), block.channels)) as b:
                c = f.bind("channel", minimum(b * block.channels, channels - block.channels))
                sums.start()
                with f.loop("ky", rows) as ky:
                    row = f.bind("row", corner + c + ky * size["dilation_h"] * width * channels)
                    with f.loop("kx", columns) as kx:
                        sums.take(row + kx * size["dilation_w"] * channels)
                finish(Position(pixel + c, rows * columns))


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


class Sums:
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


class PackedSums:
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


class PackedMaxima:
    """The largest of four channels, in a word."""

    def __init__(self, f: Function, x: Buffer) -> None:
        self.f, self.x = f, x
        self.best = f.local("best", "int32", 1)

    def start(self) -> None:
        self.f.store(self.best, 0, i32(-0x7F7F7F80))  # four times -128

    def take(self, at: Expr) -> None:
        word = inline("int32", "irs_load32", address(self.x, at))
        self.f.store(self.best, 0, inline("int32", "irs_max4", word, self.value()))

    def value(self) -> Expr:
        return self.best[i32(0)]
