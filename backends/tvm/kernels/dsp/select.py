"""Which operators have kernels for the DSP extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irshrink.backends.tvm.kernels import convolution
from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.backends.tvm.kernels.dsp.convolution import PairTile, choose_pairs, select_pairs
from irshrink.program.ops import ConvInt8, Op
from irshrink.program.program import Program
from irshrink.target import Target


def select(op: Op, program: Program, target: Target, schedule: Any = None) -> KernelCall | None:
    """The kernel by rule or by one of its schedules; None where a general one has to do it."""
    if not isinstance(op, ConvInt8) or op.depthwise:
        return None
    tile = schedule or choose_pairs(op, program, target)
    return select_pairs(op, program, tile) if isinstance(tile, PairTile) else None


def candidates(op: Op, program: Program, target: Target) -> Sequence[Any]:
    """Our schedules, then the general ones; nothing where we have none."""
    if not isinstance(op, ConvInt8) or op.depthwise:
        return []
    tile = choose_pairs(op, program, target)
    return [tile, *convolution.candidates(op, program, target)] if tile is not None else []
