"""Running a whole program, one operator after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irshrink.console import plural
from irshrink.errors import SamplesError
from irshrink.program.program import Port, Program
from irshrink.program.reference import (  # noqa: F401 - importing a family registers its operators
    classical,
    convolution,
    dense,
    dynamic,
    elementwise,
    float16,
    floating,
    indexing,
    int16,
    integers,
    movement,
    pooling,
    recurrent,
    resample,
    tflm,
    trees,
    vectors,
)
from irshrink.program.reference.dispatch import Array, evaluate_op

__all__ = ["evaluate_op", "run_program", "values"]


def run_program(program: Program, inputs: Sequence[Array]) -> list[Array]:
    """One inference.

    Args:
        inputs: one array per input port, in port order, of the port's logical shape and its tensor's type.

    Returns:
        One array per output port, in port order, likewise.

    Raises:
        SamplesError: the inputs do not fit the ports.
    """
    tensors = values(program, inputs)
    return [tensors[port.tensor].reshape(port.shape) for port in program.outputs]


def values(program: Program, inputs: Sequence[Array]) -> dict[str, Array]:
    """Every tensor of one inference by name, in physical shape.

    Raises:
        SamplesError: the inputs do not fit the ports.
    """
    if len(inputs) != len(program.inputs):
        raise SamplesError(f"The program takes {plural(len(program.inputs), 'input')}, not {len(inputs)}.")
    tensors: dict[str, Array] = dict(program.constants)
    for port, array in zip(program.inputs, inputs, strict=True):
        tensors[port.tensor] = _input(program, port, array)
    for op in program:
        with np.errstate(all="ignore"):  # infinities and NaN are results like any other
            result = evaluate_op(op, [tensors[name] for name in op.inputs], program)
        declared = program.tensors[op.output]
        assert result.dtype == declared.dtype, (op.name, result.dtype, declared)
        assert result.shape == declared.shape, (op.name, result.shape, declared)
        tensors[op.output] = result
    return tensors


def _input(program: Program, port: Port, array: Array) -> Array:
    tensor = program.tensors[port.tensor]
    if array.shape != port.shape or array.dtype != tensor.dtype:
        raise SamplesError(
            f"Input '{port.name}' is {tensor.dtype} of shape {list(port.shape)}, "
            f"not {array.dtype} of shape {list(array.shape)}."
        )
    return array.reshape(tensor.shape)
