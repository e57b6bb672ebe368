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

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
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
    """The tile by rule; None where another kernel has to do it."""
    found = plane_candidates(op, program, target)
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
    assert isinstance(op.requantization, Requantization)
    channels, pairs = y[3], tile.pairs(y[2])
    taps = np.append(op.weight.reshape(-1), np.zeros(3, np.int8)).astype(np.int8)  # words are read
    multiplier = np.broadcast_to(op.requantization.multiplier, (channels,)).astype(np.float32)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", taps),
        Constant("bias", op.bias),
        Constant("multiplier", np.ascontiguousarray(multiplier)),
        Output(),
        Workspace(),
        *(y[1], y[2], channels, x[1], x[2] * channels, op.window.pads[0], tile.rows),
        *(*_row(x[2], op.window.pads[1], pairs), pairs),
        *(op.input_zero_point, op.requantization.zero_point),
    ]
    reach = Reach(KERNEL, tile.stride, op.window.pads[0])
    return KernelCall(
        function=plane_depthwise(tile.stride),
        arguments=tuple(arguments),
        workspace_bytes=tile.nbytes(y[2]),
        in_place=(0,) if _in_place(op, tile, x, y) else (),
        rows=RowCall((reach,), out_rows="out_h", in_rows="in_h", pad_top="pad_top"),
        schedule=tile,
    )


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
def plane_depthwise(stride: int) -> TirFunction:
    """The C function for windows one row and column apart, or two."""
    names = ["out_h", "out_w", "channels", "in_h", "row_bytes", "pad_top", "rows"]
    names += ["middle", "edges", "pairs", "pad_value", "zero_point"]
    doc = "Depthwise 3x3 convolution of int8 in planes of four channels."
    with Function(f"depthwise_s8_planes_s{stride}", doc) as f:
        x, weight, bias, multiplier, y, planes, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", "int8"),
            constant("bias", "int32"),
            constant("multiplier", "float32"),
            write("y", "int8"),
            write("planes", "int8"),
            *scalars(*names),
        )
        n = dict(zip(names, rest, strict=True))
        pitch = f.bind("pitch", n["pairs"] * 4)
        plane = f.bind("plane", (n["rows"] * stride + (KERNEL - stride)) * pitch)
        kept = KERNEL - stride
        with f.loop("b", quotient(n["channels"], CHANNELS)) as b:
            channel = f.bind("channel", b * CHANNELS)
            with f.loop("s", quotient(n["out_h"] + n["rows"] - 1, n["rows"])) as s:
                first = f.bind("first", s * n["rows"])
                count = f.bind("count", minimum(n["rows"], n["out_h"] - first))
                have = f.bind("have", select(s == 0, 0, kept))
                with f.when(s != 0), f.loop("c", CHANNELS) as c:
                    moved = c * plane + n["rows"] * stride * pitch
                    f.call("irs_copy", address(planes, c * plane), address(planes, moved), pitch * kept)
                f.call(
                    "irs_planes_fill", address(planes, have * pitch), address(x, channel),
                    first * stride - n["pad_top"] + have, count * stride + (kept - have), n["in_h"],
                    *(n[k] for k in ("row_bytes", "channels")), plane,
                    *(n[k] for k in ("middle", "edges", "pairs", "pad_value")),
                )  # fmt: skip
                f.call(
                    f"irs_planes_walk{stride}", address(planes, 0), address(weight, channel * 9),
                    address(bias, channel), address(multiplier, channel),
                    address(y, first * n["out_w"] * n["channels"] + channel), count,
                    *(n[k] for k in ("out_w", "channels", "zero_point")), pitch, plane,
                )  # fmt: skip
    return f.result
