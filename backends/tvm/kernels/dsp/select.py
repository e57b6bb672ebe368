"""Which operators have kernels for the DSP extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irshrink.backends.tvm.kernels import convolution, dense
from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.backends.tvm.kernels.dsp.convolution import PairTile, choose_pairs, select_pairs
from irshrink.backends.tvm.kernels.dsp.dense import FourTile, choose_fours, select_fours
from irshrink.backends.tvm.kernels.dsp.depthwise import (
    PlaneTile,
    choose_planes,
    plane_candidates,
    select_planes,
)
from irshrink.program.ops import ConvInt8, DenseInt8, Op
from irshrink.program.program import Program
from irshrink.target import Target


def select(op: Op, program: Program, target: Target, schedule: Any = None) -> KernelCall | None:
    """The kernel by rule or by one of its schedules; None where a general one has to do it."""
    if not isinstance(op, ConvInt8 | DenseInt8):
        return None
    tile = schedule or _rule(op, program, target)
    if isinstance(op, DenseInt8):
        return select_fours(op, program, tile) if isinstance(tile, FourTile) else None
    if isinstance(tile, PlaneTile):
        return select_planes(op, program, tile)
    return select_pairs(op, program, tile) if isinstance(tile, PairTile) else None


def candidates(op: Op, program: Program, target: Target) -> Sequence[Any]:
    """Our schedules, then the general ones; nothing where we have none."""
    if not isinstance(op, ConvInt8 | DenseInt8):
        return []
    rule = _rule(op, program, target)
    if rule is None:
        return []
    if isinstance(op, DenseInt8):
        return [rule, *dense.candidates(op, program, target)]
    ours = plane_candidates(op, program, target) if op.depthwise else [rule]
    return [*ours, *convolution.candidates(op, program, target)]


def _rule(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> Any:
    if isinstance(op, DenseInt8):
        return choose_fours(op, target)
    return choose_planes(op, program, target) if op.depthwise else choose_pairs(op, program, target)
