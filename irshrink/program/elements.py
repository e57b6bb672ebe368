"""How element types of ONNX live on the target: float32, int8, int32 and bytes that are 0 or 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.program import Quantization

Array = NDArray[Any]

#: ONNX element type (NumPy name) -> element type of the program's tensor.
STORAGE: dict[str, str] = {
    "float32": "float32", "float16": "float32", "float64": "float32", "bfloat16": "float32",
    "int8": "int8", "uint8": "int8",
    "int16": "int32", "uint16": "int32", "int32": "int32", "uint32": "int32",
    "int64": "int32", "uint64": "int32",
    "bool": "uint8",
}  # fmt: skip

INT32 = np.iinfo(np.int32)


def is_real(element: str) -> bool:
    """Whether the numbers of this ONNX type are float32 on the target."""
    return STORAGE.get(element) == "float32"


def codes(element: str) -> Quantization | None:
    """How 8-bit integers are stored: int8 as it is, uint8 less 128. None for other types."""
    if STORAGE.get(element) != "int8":
        return None
    return Quantization(1.0, -128 if element == "uint8" else 0)


def limits(element: str) -> tuple[int, int]:
    """Smallest and largest value of an ONNX integer type that the target can hold."""
    if element == "bool":
        return 0, 1
    exact = np.iinfo(element)
    return max(exact.min, INT32.min), min(exact.max, INT32.max)


def stored(array: Array) -> Array | None:
    """An array of an ONNX type as the target stores it; None when a number does not fit.

    The largest and smallest int64, which exporters write for "no bound", become those of int32.
    """
    element = array.dtype.name
    if is_real(element):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if element == "bool":
        return array.astype(np.uint8)
    held = codes(element)
    if held is not None:
        return (array.astype(np.int16) + held.zero_point).astype(np.int8)
    saturated = array
    if element == "int64":
        ends = np.iinfo(np.int64)
        saturated = np.where(array == ends.max, INT32.max, np.where(array == ends.min, INT32.min, array))
    if saturated.size and (saturated.max() > INT32.max or saturated.min() < INT32.min):
        return None
    return saturated.astype(np.int32)


def restored(array: Array, element: str) -> Array:
    """What :func:`stored` stored, in its ONNX type; float16 and the like come back rounded."""
    if array.dtype == np.int8 and element == "uint8":
        return (array.astype(np.int16) + 128).astype(np.uint8)
    if element == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    with np.errstate(over="ignore"):
        return array.astype(element)
