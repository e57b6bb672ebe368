"""int8 depthwise convolution: one dot product a window, channels in planes.

Input rows are spread over a ring in which every channel has a plane of its own, ``[channel][column][slot]``:
a slot holds one row, and there are as many as a window is high. So the window of an output lies in
``rows * columns`` bytes that follow each other, and VMLADAV sums it up at once (3x3: nine products).
Spreading costs one scattered store for eight bytes, once an input byte.

The slot of a window's first row turns with the output row, and the weights turn along: they are gathered,
once for a row and four channels, at the distances of that turn.

Like the general kernel's ring, this one lets the output overwrite the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output, RowCall, Workspace
from irshrink.backends.tvm.kernels.mve.dot import VECTOR, steps_of
from irshrink.backends.tvm.kernels.mve.epilogue import (
    BoundEpilogue,
    VectorEpilogue,
    pack_table,
    scaled,
    words,
)
from irshrink.backends.tvm.kernels.ring import Ring
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    inline,
    quotient,
    read,
    remainder,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvInt8
from irshrink.program.program import Program
from irshrink.program.stripes import Reach

#: Channels in the lanes of a vector.
LANES = 4
#: Channels that are spread at once.
SPREAD = 8
#: Most vectors of a window; their weights are kept while a row is computed.
MOST_STEPS = 4

_SIZES = (
    "out_h", "out_w", "channels", "in_h", "in_w", "pad_top", "left", "pad_value", "row_stride", "fresh",
    "plane", "ring_bytes", "ring_row", "remembered",
)  # fmt: skip


@dataclass(frozen=True)
class PlaneTile:
    """Rows and columns of the window, dilation included, and its stride along the row; a hashable argument of
    the generator."""

    rows: int
    columns: int
    stride: int
    specialized: bool = False

    @property
    def depth(self) -> int:
        return self.rows * self.columns

    @property
    def steps(self) -> int:
        return steps_of(self.depth)

    @property
    def suffix(self) -> str:
        return f"k{self.rows}x{self.columns}s{self.stride}"


def covers(op: ConvInt8, program: Program) -> bool:
    """Whether the kernel here computes ``op``: one output a channel, a window of at most 64 bytes."""
    x = program.tensors[op.inputs[0]].shape
    tile, ring = _tile(op), _ring(op, program)
    return (
        x[3] == len(op.weight)
        and tile.steps <= MOST_STEPS
        and tile.stride * tile.rows < 128
        and (2 * SPREAD - 1) * _plane(ring, x[3]) + tile.rows < 1 << 16
    )


def candidates(op: ConvInt8) -> list[PlaneTile]:
    """The one tile, with sizes as arguments and as constants."""
    return [_tile(op), _tile(op, specialized=True)]


def select_depthwise(op: ConvInt8, program: Program, schedule: PlaneTile | None = None) -> KernelCall:
    """The kernel for one image."""
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    tile, ring, channels = schedule or _tile(op), _ring(op, program), x[3]
    plane, requantization = _plane(ring, channels), op.requantization
    epilogue = VectorEpilogue.of(requantization, op.residual, channels % LANES != 0)
    ring_bytes = -(-channels // SPREAD) * SPREAD * plane
    sizes = {
        "out_h": y[1],
        "out_w": y[2],
        "channels": channels,
        "in_h": x[1],
        "in_w": x[2],
        "pad_top": op.window.pads[0],
        "left": op.window.pads[1] * tile.rows,
        "pad_value": op.input_zero_point,
        "row_stride": op.window.strides[0],
        "fresh": ring.fresh,
        "plane": plane,
        "ring_bytes": ring_bytes,
        "ring_row": 0,
        "remembered": 0,
    }
    reaches = (ring.reach, Reach()) if op.residual is not None else (ring.reach,)
    return KernelCall(
        function=depthwise(tile, epilogue),
        arguments=(
            Input(0),
            Constant("weight", _pack(op)),
            Constant("turns", _turns(tile)),
            Constant("table", pack_table(op.bias, requantization, range(LANES))),
            *epilogue.arguments(requantization, op.residual),
            Output(),
            Workspace(),
            *(sizes[name] for name in _SIZES),
        ),
        workspace_bytes=ring_bytes + tile.steps * VECTOR,
        overread_bytes=-channels % SPREAD,
        in_place=(1,) if op.residual is not None else (),
        distances=((0, ring.distance), *([(1, y[2] * channels)] if op.residual is not None else [])),
        rows=RowCall(reaches, out_rows="out_h", in_rows="in_h", pad_top="pad_top", ring=True),
        specialized=tile.specialized,
        schedule=tile,
    )


def _tile(op: ConvInt8, specialized: bool = False) -> PlaneTile:
    rows, columns = op.window.extent()
    return PlaneTile(rows, columns, op.window.strides[1], specialized)


def _ring(op: ConvInt8, program: Program) -> Ring:
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    return Ring.of(op.window, x, y, op.input_zero_point)


def _plane(ring: Ring, channels: int) -> int:
    """Bytes of a plane: all padded columns of all slots."""
    return (ring.left + ring.row_bytes + ring.right) // channels * ring.span


def _pack(op: ConvInt8) -> NDArray[np.int8]:
    """Weights [channel][column][row] with zeros between dilated ones, and one zero behind each channel."""
    rows, columns = op.window.extent()
    channels, (down, right) = len(op.weight), op.window.dilations
    spread = np.zeros((channels, columns, rows), np.int8)
    spread[:, ::right, ::down] = op.weight[:, :, :, 0].transpose(0, 2, 1)
    packed = np.zeros((-(-channels // LANES) * LANES, columns * rows + 1), np.int8)
    packed[:channels, :-1] = spread.reshape(channels, -1)
    return packed.reshape(-1)


def _turns(tile: PlaneTile) -> NDArray[np.int8]:
    """For each slot that a window may begin with, where the weight of every byte of the window is."""
    turns = np.full((tile.rows, tile.steps * VECTOR), tile.depth, np.int8)  # the zero behind the weights
    byte = np.arange(tile.depth)
    for first in range(tile.rows):
        turns[first, : tile.depth] = byte // tile.rows * tile.rows + (byte - first) % tile.rows
    return turns.reshape(-1)


@cache
def depthwise(tile: PlaneTile, epilogue: VectorEpilogue) -> TirFunction:
    """The C function for one window and epilogue; the remaining sizes are arguments."""
    extra = epilogue.parameters()
    with Function(f"depthwise_s8_mve_{tile.suffix}{epilogue.suffix}", "Depthwise convolution of int8.") as f:
        x, weight, turns, table, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", "int8"),
            constant("turns", "int8"),
            constant("table", "int32"),
            *extra,
            write("y", "int8"),
            write("ring", "int8"),
            *scalars(*_SIZES),
        )
        given, (y, ring, *sizes) = rest[: len(extra)], rest[len(extra) :]
        n = dict(zip(_SIZES, sizes, strict=True))
        body = _Body(f, tile, epilogue.bind(given), weight, table, y, ring, n)
        with f.when(n["remembered"] == 0):
            f.call("irs_helium_fill", address(ring, 0), n["pad_value"], n["ring_bytes"])
        with f.loop("out_y", n["out_h"]) as oy:
            turn = body.rows(x, oy)
            with f.loop("b", quotient(n["channels"] + (LANES - 1), LANES)) as b:
                body.block(turns, turn, oy, b)
    return f.result


@dataclass
class _Body:
    """The inside of the loops."""

    f: Function
    tile: PlaneTile
    epilogue: BoundEpilogue
    weight: Buffer
    table: Buffer
    y: Buffer
    ring: Buffer
    n: dict[str, Any]

    def rows(self, x: Buffer, oy: Expr) -> Expr:
        """Spread the rows that output row ``oy`` is the first to need; the place of its turn in the table.

        The call's first row is that of the image's padded row ``ring_row``; ``remembered`` rows of its window
        are in the ring from the call before.
        """
        f, n, span = self.f, self.n, self.tile.rows
        top = f.bind("first_row", oy * n["row_stride"])
        old = f.bind("old", select(oy == 0, n["remembered"], span - n["fresh"]))
        with f.loop("r", span - old) as r:
            row = f.bind("row", top + old + r)
            slot = f.bind("slot", remainder(n["ring_row"] + row, span))
            f.call(
                "irs_helium_spread", address(self.ring, n["left"] + slot), address(x, 0),
                row - n["pad_top"], n["in_h"], n["in_w"], n["channels"], n["plane"], span, n["pad_value"],
            )  # fmt: skip
        return f.bind("turn", remainder(n["ring_row"] + top, span) * (self.tile.steps * VECTOR))

    def block(self, turns: Buffer, turn: Expr, oy: Expr, b: Expr) -> None:
        """Four channels of an output row."""
        f, n, tile = self.f, self.n, self.tile
        turn = f.bind("first", inline("int32", "irs_mve_again", turn))  # its register is needed below
        at = [
            f.bind(f"turn{k}", inline("int8x16", "irs_mve_load", address(turns, turn + k * VECTOR)))
            for k in range(tile.steps)
        ]
        weights = []
        for lane in range(LANES):
            start = b * (LANES * (tile.depth + 1)) + lane * (tile.depth + 1)
            weights.append(
                [
                    f.bind(
                        f"w{lane}", inline("int8x16", "irs_mve_gather", address(self.weight, start), place)
                    )
                    for place in at
                ]
            )
        planes = [
            f.bind(f"plane{lane}", b * (n["plane"] * LANES) + n["plane"] * lane) for lane in range(LANES)
        ]
        kind = self.epilogue.kind
        t = b * (len(kind.rows) * LANES)
        row = [words(f, name, self.table, t + i * LANES) for i, name in enumerate(kind.rows)]
        with f.loop("out_x", n["out_w"]) as ox:
            sums = [
                self._dot(planes[lane] + ox * (tile.stride * tile.rows), weights[lane])
                for lane in range(LANES)
            ]
            even = inline("int32x4", "irs_mve_even_lanes", sums[0], sums[2])
            acc = inline("int32x4", "irs_mve_odd_lanes", even, sums[1], sums[3])
            result = f.bind("result", scaled(kind.scaling, acc, *row))
            out = (oy * n["out_w"] + ox) * n["channels"] + b * LANES
            left = n["channels"] - b * LANES if self.epilogue.kind.partial else None
            self.epilogue.store4(f, result, self.y, out, left)

    def _dot(self, at: Expr, weights: list[Expr]) -> Expr:
        loads = [
            inline("int8x16", "irs_mve_load", address(self.ring, at + k * VECTOR))
            for k in range(len(weights))
        ]
        acc = inline("int32", "irs_mve_dot_first", loads[0], weights[0])
        for load, weight in zip(loads[1:], weights[1:], strict=True):
            acc = inline("int32", "irs_mve_dot", acc, load, weight)
        return self.f.bind("acc", acc)
