"""What all operators have, and the parts that several are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """What all operators have.

    Attributes:
        name: unique in the program; from the ONNX node, used in reports and generated code.
        origin: names of the ONNX nodes that it computes.
        inputs: names of the tensors that it reads.
        output: name of the tensor that it writes.
    """

    name: str
    origin: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """A sliding window over H and W. Pads are (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def extent(self) -> tuple[int, int]:
        """Rows and columns that one window spans, dilation included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width of an input of this size."""
        (eh, ew), (sh, sw), (top, left, bottom, right) = self.extent(), self.strides, self.pads
        return (height + top + bottom - eh) // sh + 1, (width + left + right - ew) // sw + 1


@dataclass(frozen=True, kw_only=True)
class Requantization:
    """int32 accumulator to int8: ``clip(rint(float32(acc) * multiplier) + zero_point, low, high)``.

    ``multiplier`` is float32, one per output channel or one in all. ``low`` and ``high`` carry a fused
    ReLU or Clip.
    """

    multiplier: Float32
    zero_point: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """int32 accumulator to int8 as TensorFlow Lite Micro does it, in 31-bit fixed point, two roundings:
    ``clip(pot(high(acc * 2**left, multiplier), right) + zero_point, low, high)``.

    ``high(a, b) = floor((a * b + 2**30) / 2**31)``; ``pot(x, e)`` is ``x / 2**e`` rounded, halves away from
    zero; ``left = max(shift, 0)``, ``right = max(-shift, 0)``. The product with ``2**left`` is modulo 2**32.

    Attributes:
        multiplier, shift: int32, one per output channel or one in all; the number they stand for is
            ``multiplier * 2**(shift - 31)``, shifts are -31 to 30.
    """

    multiplier: Int32
    shift: Int32
    zero_point: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Sum of two int8 values in int32 fixed point, rounded once, half to even:
    ``clip(half_even(((a - za) * Ma + (b - zb) * Mb) / 2**shift) + zy, low, high)``.

    ``Ma = rint(float64(sa) / sy * 2**shift)``, ``Mb`` likewise (negative to subtract); ``shift`` is the
    largest of 8..30 for which ``255 * (|Ma| + |Mb|) + 2**(shift - 1) < 2**31``: no sum can overflow.
    """

    multipliers: tuple[int, int]
    shift: int
    zero_points: tuple[int, int]
    zero_point: int
    low: int = -128
    high: int = 127
