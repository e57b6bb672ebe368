"""int8 dense layers: four channels at a time, which share every input word that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.dsp.pairs import STEP, fours, steps_of
from irshrink.backends.tvm.tir import (
    Function,
    TirFunction,
    address,
    constant,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import DenseInt8, Requantization
from irshrink.program.program import Program
from irshrink.target import Target

#: Channels that are computed at once.
CHANNELS = 4


@dataclass(frozen=True)
class FourTile:
    """One row by four channels."""


def choose_fours(op: DenseInt8, target: Target) -> FourTile | None:
    """The tile for a dense layer; None where another kernel has to do it."""
    if not target.has("dsp") or not target.has("fpu"):
        return None
    return FourTile() if fours(op.weight, op.bias, op.requantization) is not None else None


def select_fours(op: DenseInt8, program: Program, tile: FourTile) -> KernelCall:
    """The kernel call."""
    channels, depth = op.weight.shape
    packed = fours(op.weight, op.bias, op.requantization)
    assert packed is not None
    assert isinstance(op.requantization, Requantization)
    rows = program.tensors[op.output].elements // channels
    bytes_each = steps_of(depth) * STEP
    return KernelCall(
        function=four_dense(),
        arguments=(
            Input(0),
            Constant("stream", packed),
            Output(),
            *(rows, channels, depth, bytes_each, op.requantization.zero_point),
        ),
        overread_bytes=bytes_each - depth,
        schedule=tile,
        assembly=True,
    )


@cache
def four_dense() -> TirFunction:
    """The C function; all sizes are run-time arguments."""
    with Function("dense_s8_fours", "Dense layer of int8, four channels at a time.") as f:
        x, stream, y, rows, channels, depth, bytes_each, zero_point = f.parameters(
            read("x", "int8"),
            constant("stream", "int32"),
            write("y", "int8"),
            *scalars("rows", "channels", "depth", "bytes_each", "zero_point"),
        )
        whole = f.bind("whole", quotient(channels, CHANNELS))
        with f.share("row", rows) as row:
            at, first = address(x, row * depth), f.bind("first", row * channels)
            f.call("irs_dsp_fours", at, address(stream, 0), address(y, first), bytes_each, whole, zero_point)
            with f.when(channels != whole * CHANNELS):
                rest = whole * (bytes_each + 2 * CHANNELS)  # a byte of a row is a word of a four
                last = address(y, first + channels - CHANNELS)
                f.call("irs_dsp_fours", at, address(stream, rest), last, bytes_each, 1, zero_point)
    return f.result
