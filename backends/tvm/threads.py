"""What a build for several threads does about each operator: how many parts, and a workspace for each."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.program.ops import (
    AveragePoolF16,
    AveragePoolF32,
    AveragePoolInt8,
    AveragePoolInt16,
    MaxPool,
    Op,
    Window,
)
from irshrink.program.program import Program
from irshrink.report.layers import macs
from irshrink.target import Target

#: Nanoseconds of work that a part of an operator must have: some times what it costs to offer it to the team
#: (benchmarks/threads.py).
_LEAST = 3000


@dataclass(frozen=True)
class Speed:
    """What a core does in a nanosecond, roughly: products of int8 and of float32, elements that are moved."""

    int8: float
    float32: float
    elements: float


#: By the first feature that a target has; the last for all others.
_SPEEDS = {
    "vnni": Speed(300, 75, 8),
    "i8mm": Speed(100, 8, 2),
    "dotprod": Speed(32, 8, 2),
    "dsp": Speed(2, 2, 1),
    "neon": Speed(8, 8, 2),
    "simd": Speed(10, 30, 8),
    "": Speed(1, 1, 1),
}

#: Workspaces of different threads lie on different cache lines.
_LINE = 64


def threads_share(call: KernelCall, target: Target) -> bool:
    """Whether a build for the target splits this call among threads."""
    return target.threads > 1 and call.function.shared


def most_parts(op: Op, call: KernelCall, program: Program, target: Target) -> int:
    """Into how many parts an operator is split at most: 1 where it is too small, or not made for it."""
    if not threads_share(call, target):
        return 1
    return max(1, min(target.threads, int(_nanoseconds(op, program, target) / _LEAST)))


def in_place(op: Op, call: KernelCall, program: Program, target: Target) -> tuple[int, ...]:
    """Inputs whose address the output may share: when threads are at different places of it, those of its own
    shape and type, because each element is then read where it is written.
    """
    if not threads_share(call, target):
        return call.in_place
    y = program.tensors[op.output]
    inputs = [program.tensors[name] for name in op.inputs]
    return tuple(i for i in call.in_place if (inputs[i].shape, inputs[i].dtype) == (y.shape, y.dtype))


def workspace_step(call: KernelCall) -> int:
    """Bytes from the workspace of one part to that of the next."""
    return -(-call.workspace_bytes // _LINE) * _LINE


def workspace_bytes(op: Op, call: KernelCall, program: Program, target: Target) -> int:
    """Bytes of the workspaces of all parts."""
    parts = most_parts(op, call, program, target)
    return call.workspace_bytes if parts == 1 else workspace_step(call) * parts


def _nanoseconds(op: Op, program: Program, target: Target) -> float:
    speed = next(s for feature, s in _SPEEDS.items() if not feature or target.has(feature))
    elements = program.tensors[op.output].elements
    window = getattr(op, "window", None)
    pools = (AveragePoolF16, AveragePoolF32, AveragePoolInt8, AveragePoolInt16, MaxPool)
    if isinstance(op, pools) and isinstance(window, Window):
        elements *= prod(window.kernel)
    products = speed.float32 if program.tensors[op.output].dtype in ("float16", "float32") else speed.int8
    return macs(program, op) / products + elements / speed.elements
