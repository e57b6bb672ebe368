"""Values on their way into and out of a program: what the user has (the ONNX graph's types) and what the
compiled function takes and gives.

One rule, here and wherever arrays are read: an array holds the numbers of the model, unless the user says
that it holds stored ones; where its type leaves that open (:func:`irshrink.samples.may_be_stored`) it is
refused.
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
from irshrink.samples import castable, may_be_stored

Array = NDArray[Any]


def encode_inputs(program: Program, feeds: Mapping[str, Array], *, stored: bool = False) -> list[Array]:
    """One inference's inputs in port order, in the stored types: real numbers are quantized.

    Args:
        feeds: arrays by input name, of the graph's element types or what :func:`castable` allows for them.
        stored: the arrays hold what the compiled function takes, or uint8 where the model has that.

    Raises:
        SamplesError: an input is missing, holds NaN, is of another type or shape, or of a type that leaves
            open whether its numbers are stored ones.
    """
    encode = _as_stored if stored else _encode
    return [encode(program, port, _shaped(port, feeds)) for port in program.inputs]


def stored_type(program: Program, port: Port, given: np.dtype[Any] | None) -> np.dtype[Any]:
    """The type of stored values: the tensor's, or uint8 where these are given and the model has them."""
    tensor = np.dtype(program.tensors[port.tensor].dtype)
    has_uint8 = tensor == np.int8 and "uint8" in (port.element, port.codes)
    return np.dtype(np.uint8) if given == np.uint8 and has_uint8 else tensor


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


def quantize_int16(values: Array, scale: float) -> NDArray[np.int16]:
    """``clip(rint(x / scale), -32768, 32767)`` in float32: what the operator QuantizeInt16 computes."""
    with np.errstate(over="ignore"):
        steps = np.rint(values.astype(np.float32) / np.float32(scale))
    limits = np.iinfo(np.int16)
    clipped = np.clip(np.nan_to_num(steps, nan=0.0), limits.min, limits.max)
    return np.asarray(clipped.astype(np.int16))


def _shaped(port: Port, feeds: Mapping[str, Array]) -> Array:
    if port.name not in feeds:
        given = ", ".join(f"'{name}'" for name in sorted(feeds)) or "none"
        raise SamplesError(f"no array for the input '{port.name}'; given: {given}.")
    array = np.asarray(feeds[port.name])
    if array.shape not in (port.shape, port.shape[1:] if port.shape[:1] == (1,) else port.shape):
        raise SamplesError(
            f"input '{port.name}' takes the shape {list(port.shape)}, the array has {list(array.shape)}."
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise SamplesError(f"input '{port.name}' holds NaN.")
    return np.ascontiguousarray(array).reshape(port.shape)


def _as_stored(program: Program, port: Port, array: Array) -> Array:
    wanted = stored_type(program, port, array.dtype)
    if array.dtype != wanted:
        raise SamplesError(f"input '{port.name}' is stored as {wanted}, the array is {array.dtype}.")
    if wanted == np.uint8 and port.element != "bool":
        return (array.astype(np.int16) - 128).astype(np.int8)
    return _checked(port, array)


def _encode(program: Program, port: Port, array: Array) -> Array:
    real = elements.is_real(port.element)
    if may_be_stored(array.dtype, np.dtype("float32" if real else port.element), port.codes):
        raise SamplesError(
            f"input '{port.name}': the array is {array.dtype}, numbers as the model takes them, or "
            f"quantized ones? Give the model's numbers as {port.element}; with stored=True arrays are taken "
            "as the build stores them."
        )
    if not real:
        return _encode_integers(port, array)
    if not castable(array.dtype, np.dtype(np.float32)):
        raise SamplesError(f"input '{port.name}' takes {port.element}, the array is {array.dtype}.")
    with np.errstate(over="ignore"):  # becomes infinity, which saturates
        numbers = array.astype(np.float32)  # the pixels of an image, say
    tensor = program.tensors[port.tensor]
    if tensor.quantization is None:
        return numbers
    if tensor.dtype == "int16":
        return quantize_int16(numbers, tensor.quantization.scale)
    return quantize(numbers, tensor.quantization.scale, tensor.quantization.zero_point)


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
