"""Operators that compute in integers."""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.program.ops.base import (
    Addition,
    FixedPoint,
    Float32,
    Int8,
    Int32,
    Op,
    Requantization,
    Window,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvInt8(Op):
    """2-D convolution of int8 [N,H,W,Ci] by int8 weights [Co,kh,kw,Ci/groups].

    ``acc = bias + sum(x * w)`` over the window, where a padded x is ``input_zero_point``. The input zero
    point is already folded into ``bias``. With ``residual`` the requantized result is operand a of an
    addition whose operand b is ``inputs[1]``, of the output's shape.

    ``weight_bits`` is how the weights are stored, not what they are: 4 for integers in [-8, 7], 2 for
    [-2, 1], in two's complement. ``sparse`` is stored without those that are 0, ``huffman`` in a Huffman
    code where the target's kernels decode it.
    """

    weight: Int8
    weight_bits: int = 8
    sparse: bool = False
    huffman: bool = False
    bias: Int32
    window: Window
    groups: int
    input_zero_point: int
    requantization: Requantization | FixedPoint
    residual: Addition | None = None

    @property
    def depthwise(self) -> bool:
        """One input channel per group."""
        return self.groups > 1 and self.weight.shape[3] == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseInt8(Op):
    """int8 [..., K] by int8 weights [N, K]: ``acc = bias + x @ w.T``, input zero point folded into bias.

    ``weight_bits``, ``sparse`` and ``huffman`` as for :class:`ConvInt8`.
    """

    weight: Int8
    weight_bits: int = 8
    sparse: bool = False
    huffman: bool = False
    bias: Int32
    requantization: Requantization | FixedPoint


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMulInt8(Op):
    """Product of two int8 tensors [B..., M, K] and [B..., K, N] (batches equal): ``sum((a-za) * (b-zb))``."""

    zero_points: tuple[int, int]
    requantization: Requantization | FixedPoint


@dataclass(frozen=True, kw_only=True, eq=False)
class AddInt8(Op):
    """Sum (or difference, by a negative multiplier) of two int8 tensors; NumPy broadcasting."""

    addition: Addition


@dataclass(frozen=True, kw_only=True, eq=False)
class MulInt8(Op):
    """Product of two int8 tensors, NumPy broadcasting: ``requantize((a-za) * (b-zb))``."""

    zero_points: tuple[int, int]
    requantization: Requantization | FixedPoint


@dataclass(frozen=True, kw_only=True, eq=False)
class PReluInt8(Op):
    """int8 x and slopes, NumPy broadcasting: ``positive(x - zx)`` where that is at least 0, else
    ``negative((x - zx) * (slope - zs))``; both requantizations to the same integers."""

    zero_points: tuple[int, int]
    positive: Requantization
    negative: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolInt8(Op):
    """Average over a window of int8 [N,H,W,C]: ``requantize(sum(x - zx over valid x), multipliers[count])``.

    ``count`` is the number of window positions inside the input (of all positions when padding counts as
    zeros); ``multipliers`` maps it to float32.
    """

    window: Window
    input_zero_point: int
    count_padding: bool
    multipliers: dict[int, float]
    zero_point: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class TableInt8(Op):
    """``table[x + 128]``: any function of one int8 value (Sigmoid, Tanh, Clip, a change of scale)."""

    table: Int8  # [256]


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxInt8(Op):
    """Softmax over the last axis of int8 data, by a table of exponentials.

    ``e[i] = exp_table[max(x) - x[i]]``, ``s`` the float32 sum of e in order,
    ``y[i] = clip(rint(e[i] / s * inverse_scale) + zero_point, -128, 127)``.
    """

    exp_table: Float32  # [256], exp_table[d] = float32(exp(-d * input_scale))
    inverse_scale: float
    zero_point: int
