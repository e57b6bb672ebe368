"""Vector kernels where there are any, the general ones for the rest."""

from __future__ import annotations

from irshrink.backends.tvm.kernels import convolution as general
from irshrink.backends.tvm.kernels import dense as general_dense
from irshrink.backends.tvm.kernels.call import KernelCall, Schedule
from irshrink.backends.tvm.kernels.vector import convolution, depthwise
from irshrink.program.ops import ConvInt8, DenseInt8
from irshrink.program.program import Program
from irshrink.target import Target


def select_convolution(
    op: ConvInt8, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for one image of a convolution."""
    family = depthwise if op.depthwise else convolution
    found = family.select(op, program, target, schedule)
    return found or general.select_convolution(op, program, target, schedule)


def select_dense(
    op: DenseInt8, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for a dense layer."""
    found = convolution.select(op, program, target, schedule)
    return found or general_dense.select_dense(op, program, target, schedule)


def convolution_candidates(op: ConvInt8, program: Program, target: Target) -> list[Schedule]:
    """The schedules of a convolution."""
    family = depthwise if op.depthwise else convolution
    return [*family.candidates(op, program, target)] or [*general.candidates(op, program, target)]


def dense_candidates(op: DenseInt8, program: Program, target: Target) -> list[Schedule]:
    """The schedules of a dense layer."""
    return [*convolution.candidates(op, program, target)] or [*general_dense.candidates(op, program, target)]
