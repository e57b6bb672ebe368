"""int8 depthwise 3x3 convolution in planes of int16 pairs.

Four channels at a time: some rows are spread into one plane a channel, padding included, each word two
neighbouring columns. SMLAD then takes two taps of one channel, and a channel's nine weights stay in registers
while the window walks over its plane. The planes hold what ``rows`` output rows need; the rows that the next
ones need, too, are moved to the front, so that the output may overwrite the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
from irshrink.backends.tvm.kernels.packed import codes_of
from irshrink.backends.tvm.tir import (
    Function,
    TirFunction,
    address,
    constant,
    minimum,
    quotient,
    read,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvInt8, Requantization
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target

Shape = Sequence[int]

#: Channels that are spread at once, and rows and columns of the window.
CHANNELS, KERNEL = 4, 3
#: Words that hold weights of 4 bits of so many channels, and bytes that these take when they are unpacked.
_NIBBLE_WORDS, _TAP_BYTES = 5, 40


@dataclass(frozen=True)
class PlaneTile:
    """Windows ``stride`` apart; planes that hold what ``rows`` output rows need."""

    stride: int
    rows: int

    def plane_rows(self) -> int:
        return (self.rows - 1) * self.stride + KERNEL

    def pairs(self, out_w: int) -> int:
        """Pairs of columns that ``out_w`` windows reach over."""
        return ((out_w - 1) * self.stride + KERNEL + 1) // 2

    def nbytes(self, out_w: int) -> int:
        return CHANNELS * self.plane_rows() * self.pairs(out_w) * 4


def choose_planes(op: ConvInt8, program: Program, target: Target) -> PlaneTile | None:
    """The tile by rule; None where another kernel has to do it, or is faster.

    The assembly is Thumb's. What compilers make of the C beside it takes twice as long on a Cortex-A as the
    kernels that take four channels at a time.
    """
    found = plane_candidates(op, program, target) if target.triple.startswith("thumb") else []
    y = program.tensors[op.output]
    most = max(y.elements // y.shape[0] // 8, 3 * (y.shape[2] * op.window.strides[1] + 2) * y.shape[3])
    fitting = [tile for tile in found if tile.nbytes(y.shape[2]) <= most]
    if fitting:
        return fitting[-1]
    return found[0] if found else None


def plane_candidates(op: ConvInt8, program: Program, target: Target) -> list[PlaneTile]:
    """As many or as few rows at a time as make equal strips, fewest rows first."""
    if not target.has("dsp") or not target.has("fpu") or not _covers(op, program):
        return []
    out_h = program.tensors[op.output].shape[1]
    rows = sorted({-(-out_h // strips) for strips in range(1, out_h + 1)})
    return [PlaneTile(op.window.strides[0], r) for r in rows]


def _covers(op: ConvInt8, program: Program) -> bool:
    window, q = op.window, op.requantization
    channels = program.tensors[op.inputs[0]].shape[3]
    return (
        op.depthwise
        and len(op.weight) == channels
        and channels % CHANNELS == 0
        and window.kernel == (KERNEL, KERNEL)
        and window.dilations == (1, 1)
        and window.pads[1] <= 1
        and window.strides in ((1, 1), (2, 2))
        and op.residual is None
        and isinstance(q, Requantization)
        and (q.low, q.high) == (-128, 127)
    )


def select_planes(op: ConvInt8, program: Program, tile: PlaneTile) -> KernelCall:
    """The kernel call for one image."""
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    bits = 8 if op.weight_bits == 8 else 4
    arguments: list[Argument] = [
        Input(0),
        Constant("stream", _stream(op), bits),
        Output(),
        Workspace(),
        *(y[1], y[2], y[3], x[1], x[2] * x[3], op.window.pads[0], tile.stride, tile.rows),
        *_row(x[2], op.window.pads[1], tile.pairs(y[2])),
        *(op.input_zero_point, op.requantization.zero_point),
        *([tile.nbytes(y[2])] if bits < 8 else []),
    ]
    reach = Reach(KERNEL, tile.stride, op.window.pads[0])
    return KernelCall(
        function=plane_depthwise(bits),
        arguments=tuple(arguments),
        workspace_bytes=tile.nbytes(y[2]) + (_TAP_BYTES if bits < 8 else 0),
        in_place=(0,) if _in_place(op, tile, x, y) else (),
        rows=RowCall((reach,), out_rows="out_h", in_rows="in_h", pad_top="pad_top"),
        schedule=tile,
        assembly=True,
        strips=-(-y[1] // tile.rows),
    )


def _stream(op: ConvInt8) -> NDArray[np.int32]:
    """int32: biases, multipliers by their bits, then the taps.

    Those are nine bytes a channel, in whole words and one more. Of 4 bits they are words of eight codes (w +
    8) for every four channels: taps 0 to 3 in the lower fields of the bytes, 4 to 7 in the upper ones.
    """
    assert isinstance(op.requantization, Requantization)
    multiplier = np.broadcast_to(op.requantization.multiplier, op.bias.shape).astype(np.float32)
    if op.weight_bits == 8:
        taps = np.zeros((op.weight.size // 4 + 2) * 4, np.int8)
        taps[: op.weight.size] = op.weight.reshape(-1)
        return np.concatenate([op.bias, multiplier.view(np.int32), taps.view(np.int32)])
    blocks = np.zeros((len(op.weight) // CHANNELS, _TAP_BYTES), np.int8)
    blocks[:, : CHANNELS * KERNEL**2] = op.weight.reshape(len(blocks), -1)
    codes = codes_of(blocks, 4).reshape(-1, 2, 4)
    packed = np.ascontiguousarray(codes[:, 0] | codes[:, 1] << np.uint8(4)).reshape(-1)
    return np.concatenate([op.bias, multiplier.view(np.int32), packed.view(np.int32)])


def _row(width: int, left: int, pairs: int) -> tuple[int, int]:
    """Whole pairs of columns, and what else ``irs_planes_spread`` has to know of a row."""
    middle, right = divmod(width - left, 2)
    if left + middle >= pairs:
        return pairs - left, left
    return middle, left + 2 * right + 4 * (pairs - left - middle - right)


def _in_place(op: ConvInt8, tile: PlaneTile, x: Shape, y: Shape) -> bool:
    """Whether every strip ends before what is still to be read; channels keep to their own bytes."""
    strips = [min((s + 1) * tile.rows, y[1]) for s in range(-(-y[1] // tile.rows))]
    read_to = [(end - 1) * tile.stride - op.window.pads[0] + KERNEL for end in strips]
    return all(
        end * y[2] <= row * x[2] or row >= x[1] for end, row in zip(strips, read_to, strict=True)
    ) and (y[1] * y[2] <= x[1] * x[2])


@cache
def plane_depthwise(bits: int = 8) -> TirFunction:
    """The C function for one width of weights; all sizes are run-time arguments."""
    names = ["out_h", "out_w", "channels", "in_h", "row_bytes", "pad_top", "stride", "rows"]
    names += ["middle", "edges", "pad_value", "zero_point", *(["taps_at"] if bits < 8 else [])]
    doc = "Depthwise 3x3 convolution of int8 in planes of four channels."
    with Function(f"depthwise_s8_planes{'' if bits == 8 else f'_w{bits}'}", doc) as f:
        x, stream, y, planes, *rest = f.parameters(
            read("x", "int8"),
            constant("stream", "int32"),
            write("y", "int8"),
            write("planes", "int8"),
            *scalars(*names),
        )
        n = dict(zip(names, rest, strict=True))
        stride, channels = n["stride"], n["channels"]
        kept = f.bind("kept", KERNEL - stride)
        pairs = f.bind("pairs", quotient(n["out_w"] * stride + kept + 1, 2))
        pitch = f.bind("pitch", pairs * 4)
        step = f.bind("step", n["rows"] * stride * pitch)
        plane = f.bind("plane", step + kept * pitch)
        weights = channels * 2
        with f.share("b", quotient(channels, CHANNELS)) as b:
            channel = f.bind("channel", b * CHANNELS)
            taps = address(stream, weights + b * KERNEL**2)
            if bits < 8:
                packed, taps = address(stream, weights + b * _NIBBLE_WORDS), address(planes, n["taps_at"])
                f.call("irs_nibble_taps", taps, packed, _NIBBLE_WORDS)
            with f.loop("s", quotient(n["out_h"] + n["rows"] - 1, n["rows"])) as s:
                first = f.bind("first", s * n["rows"])
                count = f.bind("count", minimum(n["rows"], n["out_h"] - first))
                have = f.bind("have", select(s == 0, 0, kept))
                moved = f.bind("moved", select(s == 0, 0, CHANNELS))
                with f.loop("c", moved) as c:
                    at = f.bind("at", c * plane)
                    f.call("irs_copy", address(planes, at), address(planes, at + step), pitch * kept)
                f.call(
                    "irs_planes_fill", address(planes, have * pitch), address(x, channel),
                    first * stride - n["pad_top"] + have, count * stride + kept - have, n["in_h"],
                    n["row_bytes"], channels, plane, n["middle"], n["edges"], pairs, n["pad_value"],
                )  # fmt: skip
                f.call(
                    "irs_planes_walk", address(planes, 0), address(stream, channel),
                    address(stream, channels + channel), taps,
                    address(y, first * n["out_w"] * channels + channel), count, n["out_w"], channels,
                    n["zero_point"], pitch, plane, stride,
                )  # fmt: skip
    return f.result
