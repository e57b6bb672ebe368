"""Scales and zero points.

``real = scale * (q - zero_point)`` with q in int8, or in int16 with the zero point 0 (Jacob et al.,
*Quantization and training of neural networks for efficient integer-arithmetic-only inference*, CVPR 2018,
section 2.1). Scales are float32, zero is represented exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from irshrink.calibration.observers import Range

Array = np.ndarray[Any, np.dtype[Any]]

Bits = Literal[8, 16]
#: By the bits of an activation.
TYPES: dict[Bits, ir.DataType] = {8: ir.DataType.INT8, 16: ir.DataType.INT16}
LIMITS: dict[Bits, np.iinfo[Any]] = {bits: np.iinfo(kind.numpy()) for bits, kind in TYPES.items()}
#: Below this a tensor is zero for all purposes; products of two scales stay normal float32 numbers.
SMALLEST_SCALE = 2.0**-60


@dataclass(frozen=True)
class QParams:
    """One scale (a float32 number) and one zero point for a whole tensor, of int8 or int16."""

    scale: float
    zero_point: int
    bits: Bits = 8


def fixed_qparams(op_type: str, symmetric: bool, bits: Bits = 8) -> QParams | None:
    """The scale of operators whose result has the same range whatever the data: [0, 1) or (-1, 1)."""
    if bits == 16:
        return QParams(1 / 32768, 0, bits) if op_type in ("Sigmoid", "Softmax", "Tanh") else None
    if op_type == "Tanh":
        return QParams(1 / 128, 0)
    if op_type in ("Sigmoid", "Softmax"):
        return QParams(1 / 128, 0) if symmetric else QParams(1 / 256, -128)
    return None


def activation_qparams(values: Range, symmetric: bool, bits: Bits = 8) -> QParams | None:
    """The scale that spreads a range (extended to hold 0) over the integers; None when the range is only 0.

    Symmetric, as int16 always is: zero point 0, the larger magnitude at 127 or 32767.
    """
    limits = LIMITS[bits]
    low, high = min(values.min, 0.0), max(values.max, 0.0)
    if symmetric or bits == 16:
        scale = float(np.float32(max(-low, high) / limits.max))
        return QParams(scale, 0, bits) if scale > SMALLEST_SCALE else None
    scale = float(np.float32((high - low) / (limits.max - limits.min)))
    if scale <= SMALLEST_SCALE:
        return None
    zero_point = int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))
    return QParams(scale, zero_point)


def quantize_tensor(values: Array, params: QParams) -> Array:
    """The integers of a constant, as QuantizeLinear computes them: divide, round half to even, saturate."""
    limits = LIMITS[params.bits]
    scaled: Array = np.rint(values.astype(np.float32) / np.float32(params.scale)) + params.zero_point
    return np.clip(scaled, limits.min, limits.max).astype(limits.dtype)
