"""Operators of TensorFlow Lite Micro's arithmetic, where it is not ours with another requantization.

``high`` and ``pot`` as in :class:`~irshrink.program.ops.base.FixedPoint`.
"""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.program.ops.base import FixedPoint, Int32, Op, Window

#: Of an addition's operands, before they are brought to a common scale.
ADDITION_LEFT_SHIFT = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class AddTflm(Op):
    """Sum or difference of two int8 tensors, NumPy broadcasting.

    ``a' = pot(high((a - za) * 2**20, Ma), ra)``, b likewise; ``a' + b'`` or ``a' - b'`` goes through
    ``requantization``. Multipliers and right shifts are those of ``operands``, one pair each.
    """

    zero_points: tuple[int, int]
    operands: tuple[tuple[int, int], tuple[int, int]]
    subtract: bool
    requantization: FixedPoint


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolTflm(Op):
    """Average over a window of int8 [N,H,W,C]: the sum of the stored values inside the image, divided by
    their number, halves away from zero, clipped. Input and output have one scale and zero point."""

    window: Window
    low: int = -128
    high: int = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanTflm(Op):
    """Mean over a window of int8 [N,H,W,C] that lies inside the image: ``requantize(sum(x - zx))``; the
    number of values is in the multiplier."""

    window: Window
    input_zero_point: int
    requantization: FixedPoint


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxTflm(Op):
    """Softmax over the last axis to scale 1/256 and zero point -128.

    ``e[i] = exp_table[max(x) - x[i]]`` in steps of 2**-31; ``s = sum(pot(e, 12))`` in steps of 2**-19;
    ``r, bits`` its reciprocal and its magnitude; ``y = clip(pot(high(r, e[i]), bits + 23) - 128)``.
    """

    exp_table: Int32  # [256]
