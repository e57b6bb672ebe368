"""The one entry point that the operator families register with."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import InternalError
from irshrink.program.ops import Op
from irshrink.program.program import Program

Array = NDArray[Any]


@singledispatch
def evaluate_op(op: Op, arrays: list[Array], program: Program) -> Array:
    """The output of one operator.

    Args:
        arrays: one array per input of ``op``, of the tensors' physical shapes and types.
        program: where the tensors are declared; the result has the declared shape and type.
    """
    raise InternalError(f"operator '{op.name}': no reference for {type(op).__name__}.")


def output_shape(op: Op, program: Program) -> tuple[int, ...]:
    """The declared physical shape of the tensor that ``op`` writes."""
    return program.tensors[op.output].shape


def float32(value: float) -> np.float32:
    """A compile-time constant as the device holds it."""
    constant: np.float32 = np.float32(value)
    return constant
