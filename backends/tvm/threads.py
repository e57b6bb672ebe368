"""What a build for several threads does about each operator: how many parts, and a workspace for each."""

from __future__ import annotations

from math import prod

from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.program.ops import AveragePoolF32, AveragePoolInt8, MaxPool, Op, Window
from irshrink.program.program import Program
from irshrink.report.layers import macs
from irshrink.target import Target

#: Work that a part of an operator must have, in multiply-accumulates: some times what it costs to offer it,
#: which is a microsecond (benchmarks/threads.py). An element that is only read and written counts as some.
_PART = 1 << 16
_ELEMENT = 8
#: Features with which int8 products take a fraction of the time.
_FAST, _FASTER = frozenset({"dotprod", "i8mm", "vnni"}), 4

#: Workspaces of different threads lie on different cache lines.
_LINE = 64


def threads_share(call: KernelCall, target: Target) -> bool:
    """Whether a build for the target splits this call among threads."""
    return target.threads > 1 and call.function.shared


def most_parts(op: Op, call: KernelCall, program: Program, target: Target) -> int:
    """Into how many parts an operator is split at most: 1 where it is too small, or not made for it."""
    if not threads_share(call, target):
        return 1
    products, moved = macs(program, op), _ELEMENT * _moved(op, program)
    if target.features & _FAST and program.tensors[op.inputs[0]].dtype == "int8":
        products //= _FASTER
    return max(1, min(target.threads, (products + moved) // _PART))


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


def _moved(op: Op, program: Program) -> int:
    elements = program.tensors[op.output].elements
    window = getattr(op, "window", None)
    if isinstance(op, AveragePoolF32 | AveragePoolInt8 | MaxPool) and isinstance(window, Window):
        elements *= prod(window.kernel)
    return elements
