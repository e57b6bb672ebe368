"""Operators between int16 activations: zero point 0, weights int8, sums int32.

``requantize(acc, m) = clip(rint(float32(acc) * m), low, high)`` to int16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from irshrink.program.ops.base import Float32, Int8, Int32, Op, Window


@dataclass(frozen=True, kw_only=True)
class ToInt16:
    """From an int32 sum to int16: ``clip(rint(float32(acc) * multiplier), low, high)``.

    ``multiplier`` is float32, one per output channel or one in all; ``low`` and ``high`` carry a fused clamp.
    """

    multiplier: Float32
    low: int = -32768
    high: int = 32767


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvInt16(Op):
    """2-D convolution of int16 [N,H,W,Ci] by int8 weights [Co,kh,kw,Ci/groups]: ``acc = bias + sum(x * w)``.

    A padded x is 0.
    """

    weight: Int8
    bias: Int32
    window: Window
    groups: int
    result: ToInt16


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseInt16(Op):
    """int16 [..., K] by int8 weights [N, K]: ``acc = bias + x @ w.T``."""

    weight: Int8
    bias: Int32
    result: ToInt16


@dataclass(frozen=True, kw_only=True, eq=False)
class AddInt16(Op):
    """Sum of two int16 tensors, NumPy broadcasting, in float32:
    ``clip(rint(f(f(a * ma) + f(b * mb))), low, high)``, each product and the sum rounded once.

    ``multipliers`` are ``f(sa / sy)`` and ``f(sb / sy)``, the second negative to subtract.
    """

    multipliers: tuple[float, float]
    low: int = -32768
    high: int = 32767


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolInt16(Op):
    """Average of int16 [N,H,W,C] over a window: the exact sum, requantized by the multiplier of the number of
    positions (those inside the image, or all of them where padding counts)."""

    window: Window
    count_padding: bool
    multipliers: Mapping[int, float]
    low: int = -32768
    high: int = 32767


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizeInt16(Op):
    """float32 to int16: ``clip(rint(x / scale), -32768, 32767)``, NaN gives 0."""

    scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DequantizeInt16(Op):
    """int16 to float32: ``float32(x) * scale``."""

    scale: float
