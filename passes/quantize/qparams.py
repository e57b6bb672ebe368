"""Scales and zero points.

``real = scale * (q - zero_point)`` with q in int8 (Jacob et al., *Quantization and training of neural
networks for efficient integer-arithmetic-only inference*, CVPR 2018, section 2.1). Scales are float32, zero
is represented exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.calibration.observers import Range

Array = np.ndarray[Any, np.dtype[Any]]

QMIN, QMAX = -128, 127
#: Below this a tensor is zero for all purposes; products of two scales stay normal float32 numbers.
SMALLEST_SCALE = 2.0**-60


@dataclass(frozen=True)
class QParams:
    """One scale (a float32 number) and one zero point for a whole tensor."""

    scale: float
    zero_point: int


def fixed_qparams(op_type: str, symmetric: bool) -> QParams | None:
    """The scale of operators whose result has the same range whatever the data: [0, 1) or (-1, 1)."""
    if op_type == "Tanh":
        return QParams(1 / 128, 0)
    if op_type in ("Sigmoid", "Softmax"):
        return QParams(1 / 128, 0) if symmetric else QParams(1 / 256, -128)
    return None


def activation_qparams(values: Range, symmetric: bool) -> QParams | None:
    """The scale that spreads a range (extended to hold 0) over int8; None when the range is only 0.

    Symmetric: zero point 0, the larger magnitude at 127.
    """
    low, high = min(values.min, 0.0), max(values.max, 0.0)
    if symmetric:
        scale = float(np.float32(max(-low, high) / QMAX))
        return QParams(scale, 0) if scale > SMALLEST_SCALE else None
    scale = float(np.float32((high - low) / (QMAX - QMIN)))
    if scale <= SMALLEST_SCALE:
        return None
    zero_point = int(np.clip(np.rint(QMIN - low / scale), QMIN, QMAX))
    return QParams(scale, zero_point)


def quantize_tensor(values: Array, params: QParams) -> Array:
    """int8 of a constant, as QuantizeLinear computes it: divide, round half to even, saturate."""
    scaled: Array = np.rint(values.astype(np.float32) / np.float32(params.scale)) + params.zero_point
    return np.clip(scaled, QMIN, QMAX).astype(np.int8)
