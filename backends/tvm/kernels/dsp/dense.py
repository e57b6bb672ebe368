"""int8 dense layers: four channels at a time, which share every input word that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.dsp.nibbles import nibble_fours
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
    return FourTile() if _stream(op) is not None else None


def _stream(op: DenseInt8) -> NDArray[np.int32] | None:
    """The weights of all fours; weights of 2 bits take 4."""
    make = fours if op.weight_bits == 8 else nibble_fours
    return make(op.weight, op.bias, op.requantization)


def select_fours(op: DenseInt8, program: Program, tile: FourTile) -> KernelCall:
    """The kernel call."""
    channels, depth = op.weight.shape
    packed, bits = _stream(op), 8 if op.weight_bits == 8 else 4
    assert packed is not None
    assert isinstance(op.requantization, Requantization)
    rows = program.tensors[op.output].elements // channels
    bytes_each = steps_of(depth) * STEP
    return KernelCall(
        function=four_dense(bits),
        arguments=(
            Input(0),
            Constant("stream", packed, bits),
            Output(),
            *(rows, channels, depth, bytes_each, op.requantization.zero_point),
        ),
        overread_bytes=bytes_each - depth,
        steady=bits < 8,  # inputs are summed before results are written, and multiplied again behind them
        schedule=tile,
        assembly=True,
    )


@cache
def four_dense(bits: int = 8) -> TirFunction:
    """The C function for one width of weights; all sizes are run-time arguments."""
    name, inner = "dense_s8_fours", "irs_dsp_fours"
    if bits < 8:
        name, inner = f"{name}_w{bits}", "irs_nibble_fours"
    with Function(name, "Dense layer of int8, four channels at a time.") as f:
        x, stream, y, rows, channels, depth, bytes_each, zero_point = f.parameters(
            read("x", "int8"),
            constant("stream", "int32"),
            write("y", "int8"),
            *scalars("rows", "channels", "depth", "bytes_each", "zero_point"),
        )
        whole = f.bind("whole", quotient(channels, CHANNELS))
        with f.share("row", rows) as row:
            at, first = address(x, row * depth), f.bind("first", row * channels)
            f.call(inner, at, address(stream, 0), address(y, first), bytes_each, whole, zero_point)
            with f.when(channels != whole * CHANNELS):
                # a byte of a row is a word of a four, or half of one
                words = bytes_each if bits == 8 else quotient(bytes_each, 2)
                rest = whole * (words + 2 * CHANNELS)
                last = address(y, first + channels - CHANNELS)
                f.call(inner, at, address(stream, rest), last, bytes_each, 1, zero_point)
    return f.result
