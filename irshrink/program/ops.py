"""The operators of a program. Each is a frozen record of one computation with all its constants.

Shapes are physical: images are [N, H, W, C]. An operator has any number of inputs and one output. What each
computes is written twice: in docs/integer-semantics.md for people, in ``reference`` for machines.

Notation: ``zx`` zero point, ``requantize(acc, m, zy) = clip(rint(float32(acc) * m) + zy, lo, hi)``; ``rint``
rounds half to even; ``clip(x, lo, hi) = lo if x < lo else hi if x > hi else x``. Every float32 operation
rounds once (no fused multiply-add); a mean is a sum times ``float32(1 / count)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvInt8(Op):
    """2-D convolution of int8 [N,H,W,Ci] by int8 weights [Co,kh,kw,Ci/groups].

    ``acc = bias + sum(x * w)`` over the window, where a padded x is ``input_zero_point``. The input zero
    point is already folded into ``bias``. With ``residual`` the requantized result is operand a of an
    addition whose operand b is ``inputs[1]``, of the output's shape.
    """

    weight: Int8
    bias: Int32
    window: Window
    groups: int
    input_zero_point: int
    requantization: Requantization
    residual: Addition | None = None

    @property
    def depthwise(self) -> bool:
        """One input channel per group."""
        return self.groups > 1 and self.weight.shape[3] == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseInt8(Op):
    """int8 [..., K] by int8 weights [N, K]: ``acc = bias + x @ w.T``, input zero point folded into bias."""

    weight: Int8
    bias: Int32
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMulInt8(Op):
    """Product of two int8 tensors [B..., M, K] and [B..., K, N] (batches equal): ``sum((a-za) * (b-zb))``."""

    zero_points: tuple[int, int]
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class AddInt8(Op):
    """Sum (or difference, by a negative multiplier) of two int8 tensors; NumPy broadcasting."""

    addition: Addition


@dataclass(frozen=True, kw_only=True, eq=False)
class MulInt8(Op):
    """Product of two int8 tensors, NumPy broadcasting: ``requantize((a-za) * (b-zb))``."""

    zero_points: tuple[int, int]
    requantization: Requantization


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
class MaxPool(Op):
    """Largest value of a window of [N,H,W,C], int8 or float32; padding never wins."""

    window: Window


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Transpose(Op):
    """Copy with permuted axes, any element type: output axis i is input axis ``permutation[i]``."""

    permutation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Op):
    """Copy with a constant border: ``pads[axis] = (before, after)``."""

    pads: tuple[tuple[int, int], ...]
    value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Op):
    """Concatenation along ``axis``; an int8 input with a table goes through it (change of scale)."""

    axis: int
    tables: tuple[Int8 | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Op):
    """Copy of ``x[starts[i] : ends[i] : steps[i]]`` per axis, steps positive."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Op):
    """The same bytes under another shape; costs nothing, the output shares the input's memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Op):
    """float32 to int8: ``clip(rint(x / scale) + zero_point, -128, 127)``, NaN gives zero_point."""

    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Dequantize(Op):
    """int8 to float32: ``float32(x - zero_point) * scale``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvF32(Op):
    """2-D convolution of float32 [N,H,W,Ci] by weights [Co,kh,kw,Ci/groups].

    The accumulator starts at ``bias`` and takes one rounded product after the other in the order ky, kx, ci;
    window positions outside the input contribute a product with 0. Then clip to [low, high].
    """

    weight: Float32
    bias: Float32
    window: Window
    groups: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseF32(Op):
    """float32 [..., K] by weights [N, K]; accumulates from ``bias`` in order of k, then clips."""

    weight: Float32
    bias: Float32
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMulF32(Op):
    """Product of two float32 tensors [B..., M, K] and [B..., K, N] (batches equal), from 0 in order of k."""


BinaryKind = Literal["add", "sub", "mul", "div", "min", "max"]
UnaryKind = Literal[
    "clip", "sigmoid", "tanh", "exp", "erf", "gelu", "hardswish", "hardsigmoid",
    "leakyrelu", "elu", "sqrt", "neg", "abs", "reciprocal", "floor", "ceil",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryF32(Op):
    """Elementwise on two float32 tensors, NumPy broadcasting. ``constant`` replaces a missing second input.

    ``min`` is ``a if a < b else b``, ``max`` is ``a if a > b else b``.
    """

    kind: BinaryKind
    constant: Float32 | None = None
    constant_first: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class UnaryF32(Op):
    """Elementwise function of float32; ``alpha`` and ``beta`` as in the ONNX operator.

    clip: low and high. gelu: ``alpha`` 1 is the tanh approximation, 0 the exact one (erf).
    """

    kind: UnaryKind
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolF32(Op):
    """Average of a window of float32 [N,H,W,C]: sum in order ky, kx, times float32(1 / count)."""

    window: Window
    count_padding: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxF32(Op):
    """Softmax over the last axis: ``exp(x - max)`` by our exp, sum in order, division."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerNormF32(Op):
    """Normalization of the last axis: ``y = (x - mean) / sqrt(var + epsilon) * gamma + beta``, ordered sums.

    ``mean = sum(x) * float32(1 / n)``, ``d = x - mean``, ``var = sum(d * d) * float32(1 / n)``.
    """

    gamma: Float32
    beta: Float32
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ReduceF32(Op):
    """Sum, mean or maximum over ``axes`` (kept as 1 in the output's memory order), in row-major order."""

    kind: Literal["sum", "mean", "max"]
    axes: tuple[int, ...]
