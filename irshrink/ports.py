"""Values on their way into and out of a program: what the user has (the ONNX graph's types) and what the
compiled function takes and gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import SamplesError
from irshrink.program.program import Port, Program
from irshrink.program.reference.requantize import saturate

Array = NDArray[Any]


def encode_inputs(program: Program, feeds: Mapping[str, Array]) -> list[Array]:
    """One inference's inputs in port order, in the stored types: float values are quantized.

    Args:
        feeds: arrays by input name; an array that already has the stored type is taken as it is.

    Raises:
        SamplesError: an input is missing, or an array is of another type or size.
    """
    return [_encode(program, port, feeds) for port in program.inputs]


def decode(program: Program, port: Port, stored: Array) -> Array:
    """The real numbers of an output in the graph's shape: float32 where it is quantized, else as it is."""
    quantization = program.tensors[port.tensor].quantization
    shaped = stored.reshape(port.shape)
    if quantization is None or shaped.dtype.kind == "f":
        return shaped
    return (shaped.astype(np.float32) - np.float32(quantization.zero_point)) * np.float32(quantization.scale)


def quantize(values: Array, scale: float, zero_point: int) -> NDArray[np.int8]:
    """``clip(rint(x / scale) + zero_point, -128, 127)`` in float32: what the operator Quantize computes."""
    with np.errstate(over="ignore"):  # a quotient beyond float32 saturates like any other
        rounded = np.rint(values.astype(np.float32) / np.float32(scale))
    return saturate(np.nan_to_num(rounded, nan=0.0, posinf=np.inf, neginf=-np.inf), zero_point)


def _encode(program: Program, port: Port, feeds: Mapping[str, Array]) -> Array:
    if port.name not in feeds:
        raise SamplesError(f"no array for the input '{port.name}'; there are {', '.join(sorted(feeds))}.")
    array, tensor = feeds[port.name], program.tensors[port.tensor]
    if array.size != tensor.elements:
        raise SamplesError(
            f"input '{port.name}' takes the shape {list(port.shape)}, the array has {list(array.shape)}."
        )
    shaped = np.ascontiguousarray(array).reshape(port.shape)
    if array.dtype == np.dtype(tensor.dtype):
        return shaped
    # whole numbers that float32 holds exactly, such as the pixels of an image, are the graph's real numbers
    if np.can_cast(array.dtype, np.float32, "same_kind" if array.dtype.kind == "f" else "safe"):
        shaped = shaped.astype(np.float32)
    if shaped.dtype == np.dtype(tensor.dtype):
        return shaped
    if tensor.quantization is None or shaped.dtype != np.float32:
        raise SamplesError(f"input '{port.name}' takes {tensor.dtype}, the array is {array.dtype}.")
    return quantize(shaped, tensor.quantization.scale, tensor.quantization.zero_point)
