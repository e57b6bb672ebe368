"""Integers whose scale is found at run time, as ONNX's DynamicQuantizeLinear and MatMulInteger have them.

Stored integers are int8: codes of uint8 less 128, and their zero points too.
"""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.program.ops.base import Int8, Op


@dataclass(frozen=True, kw_only=True, eq=False)
class DynamicScale(Op):
    """float32 [1] of a float32 tensor: ``(high - low) / 255``, or 1 where that is 0.

    ``low`` and ``high`` are the smallest and largest value and 0; NaN counts as neither.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class DynamicZeroPoint(Op):
    """int8 [1] of (float32 tensor, its scale [1]): ``clip(rint(-low / scale) - 128, -128, 127)``.

    ``low`` as in :class:`DynamicScale`; NaN gives -128.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class DynamicQuantize(Op):
    """int8 of (float32 tensor, scale [1], int8 zero point [1]): ``clip(rint(x / scale) + zero, -128, 127)``.

    NaN gives the zero point.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseInteger(Op):
    """int32 [..., N] of (int8 [..., K], int8 zero point [1]): ``(x - zero) @ weight.T``.

    ``weight`` is [N, K]; for each of its rows ``256 * sum(|w|) < 2**31``: no sum overflows.
    """

    weight: Int8
