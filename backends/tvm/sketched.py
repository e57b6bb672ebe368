"""Kernels and memory of a program without its C: what costs are predicted from."""

from __future__ import annotations

import hashlib
import re

from irshrink.backends.tvm.backend import optimization, plan_program
from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.backends.tvm.schedules import Chooser
from irshrink.backends.tvm.threads import workspace_bytes
from irshrink.costs.sketch import Kernel, Sketch
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target

#: Of a sum, in the names of vector kernels, whose loops are written out for it.
_LENGTH = re.compile(r"_r\d+(?=_|$)")


def sketched(program: Program, target: Target, chooser: Chooser) -> Sketch:
    """See :meth:`irshrink.costs.sketch.Sketching.sketch`."""
    planned = plan_program(program, target, chooser)
    striped = {planned.program.ops[op.index].name for s in planned.program.stripes for op in s.ops}
    return Sketch(
        planned.program,
        planned.plan,
        tuple(kernel_of(s.op, s.call, planned.program, target) for s in planned.steps),
        optimization(target, [step.call for step in planned.steps]),
        frozenset(striped),
    )


def kernel_of(op: Op, call: KernelCall, program: Program, target: Target) -> Kernel:
    """What is known of a call."""
    constants = [(c.array.tobytes(), c.array.nbytes) for c in call.constants()]
    return Kernel(
        op=op.name,
        function=call.function.name,
        kind=_LENGTH.sub("_r", call.function.name),
        specialized=call.specialized,
        weights_bytes=sum(nbytes for _, nbytes in constants),
        workspace_bytes=workspace_bytes(op, call, program, target),
        outputs=call.computed,
        strips=call.strips,
        sizes=tuple(a for a in call.arguments if isinstance(a, int | float)),
        constants=tuple((hashlib.sha256(data).hexdigest(), nbytes) for data, nbytes in constants),
    )
