"""Values on their way into and out of a program: what the user has (the ONNX graph's types) and what the
compiled function takes and gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import SamplesError
from irshrink.program import elements
from irshrink.program.program import Port, Program
from irshrink.program.reference.requantize import saturate
from irshrink.samples import castable

Array = NDArray[Any]


def encode_inputs(program: Program, feeds: Mapping[str, Array]) -> list[Array]:
    """One inference's inputs in port order, in the stored types: real numbers are quantized.

    Args:
        feeds: arrays by input name, of the graph's element types or what :func:`castable` allows for them; an
            array that already has the stored type is taken as it is.

    Raises:
        SamplesError: an input is missing, holds NaN, or is of another type or shape.
    """
    return [_encode(program, port, feeds) for port in program.inputs]


def decode(program: Program, port: Port, stored: Array) -> Array:
    """An output as the graph has it: its shape and element type, real numbers where it is float32."""
    quantization = program.tensors[port.tensor].quantization
    shaped = stored.reshape(port.shape)
    if not elements.is_real(port.element) or quantization is None or shaped.dtype.kind == "f":
        return elements.restored(shaped, port.element)
    centred = shaped.astype(np.float32) - np.float32(quantization.zero_point)
    return elements.restored(centred * np.float32(quantization.scale), port.element)


def quantize(values: Array, scale: float, zero_point: int) -> NDArray[np.int8]:
    """``clip(rint(x / scale) + zero_point, -128, 127)`` in float32: what the operator Quantize computes."""
    with np.errstate(over="ignore"):  # a quotient beyond float32 saturates like any other
        rounded = np.rint(values.astype(np.float32) / np.float32(scale))
    return saturate(np.nan_to_num(rounded, nan=0.0, posinf=np.inf, neginf=-np.inf), zero_point)


def _encode(program: Program, port: Port, feeds: Mapping[str, Array]) -> Array:
    if port.name not in feeds:
        given = ", ".join(f"'{name}'" for name in sorted(feeds)) or "none"
        raise SamplesError(f"no array for the input '{port.name}'; given: {given}.")
    array, tensor = np.asarray(feeds[port.name]), program.tensors[port.tensor]
    if array.shape not in (port.shape, port.shape[1:] if port.shape[:1] == (1,) else port.shape):
        raise SamplesError(
            f"input '{port.name}' takes the shape {list(port.shape)}, the array has {list(array.shape)}."
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise SamplesError(f"input '{port.name}' holds NaN.")
    shaped = np.ascontiguousarray(array).reshape(port.shape)
    if array.dtype == np.dtype(tensor.dtype):
        return _checked(port, shaped)
    if not elements.is_real(port.element):
        return _encode_integers(port, shaped)
    if not castable(array.dtype, np.dtype(np.float32)):
        raise SamplesError(f"input '{port.name}' takes {port.element}, the array is {array.dtype}.")
    with np.errstate(over="ignore"):  # becomes infinity, which saturates
        real = shaped.astype(np.float32)  # the pixels of an image, say
    if tensor.quantization is None:
        return real
    return quantize(real, tensor.quantization.scale, tensor.quantization.zero_point)


def _encode_integers(port: Port, array: Array) -> Array:
    """Integers and truth values of any type whose numbers the graph's type can hold."""
    low, high = elements.limits(port.element)
    if array.dtype.kind not in "iub":
        raise SamplesError(f"input '{port.name}' takes {port.element}, the array is {array.dtype}.")
    if array.size and (array.min() < low or array.max() > high):
        raise SamplesError(
            f"input '{port.name}' holds {array.min()} to {array.max()}; the target takes {low} to {high}."
        )
    stored = elements.stored(array.astype(port.element))
    assert stored is not None, "within the limits"
    return stored


def _checked(port: Port, array: Array) -> Array:
    """An array of the stored type; truth values must be 0 or 1."""
    if port.element == "bool" and array.size and array.max() > 1:
        raise SamplesError(f"input '{port.name}' takes truth values, 0 or 1; the array holds {array.max()}.")
    return array
