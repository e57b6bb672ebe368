"""How many kernel calls compute an operator."""

from __future__ import annotations

from irshrink.program.ops import ConvInt8, Op
from irshrink.program.program import Program


def calls_of(op: Op, program: Program) -> int:
    """One call, but one an image for int8 convolutions: their kernels know a single image.

    The first axis of all their tensors is the image, so call i works on share i of each.
    """
    return program.tensors[op.output].shape[0] if isinstance(op, ConvInt8) else 1
