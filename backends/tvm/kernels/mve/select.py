"""The Helium kernel of an operator, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from irshrink.backends.tvm.kernels.call import KernelCall, Schedule
from irshrink.backends.tvm.kernels.mve import convolution, depthwise, elementwise, pooling
from irshrink.program.ops import (
    AddInt8,
    AveragePoolInt8,
    ConvInt8,
    DenseInt8,
    MaxPool,
    MulInt8,
    Op,
    TableInt8,
)
from irshrink.program.program import Program
from irshrink.target import Target


def select(op: Op, program: Program, target: Target, schedule: Schedule | None = None) -> KernelCall | None:
    """The call of the kernel for ``op``; None where the general kernels have to do."""
    if not target.has("mve_float"):
        return None
    match op:
        case ConvInt8() if op.depthwise:
            covered = depthwise.covers(op, program)
            return depthwise.select_depthwise(op, program, schedule) if covered else None
        case ConvInt8():
            return convolution.select_convolution(op, program, schedule)
        case DenseInt8():
            return convolution.select_dense(op, program, schedule)
        case AddInt8():
            return elementwise.select_add(op, program)
        case MulInt8():
            return elementwise.select_mul(op, program)
        case TableInt8():
            return elementwise.select_table(op, program)
        case AveragePoolInt8():
            return pooling.select_average_pool(op, program)
        case MaxPool():
            return pooling.select_max_pool(op, program)
    return None


def candidates(op: Op, program: Program, target: Target) -> Sequence[Schedule]:
    """The schedules of ``op``; none where the general kernels have to do."""
    if not target.has("mve_float"):
        return []
    if isinstance(op, ConvInt8) and op.depthwise:
        return depthwise.candidates(op) if depthwise.covers(op, program) else []
    if isinstance(op, ConvInt8):
        return convolution.convolution_candidates(op, program)
    if isinstance(op, DenseInt8):
        return convolution.dense_candidates(op, program)
    return []
