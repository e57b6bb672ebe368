"""Operators that compute in float32.

Matrix products and convolutions are ``fused`` where the target multiplies and adds with a single rounding:
their sums take ``fma(x, w, acc)`` instead of ``acc + x * w``, and end with an addition of 0, which removes
the sign of -0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irshrink.program.ops.base import Float32, Op, Window
from irshrink.program.ops.stored import StoredWeights


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvF32(Op):
    """2-D convolution of float32 [N,H,W,Ci] by weights [Co,kh,kw,Ci/groups].

    The accumulator starts at ``bias`` and takes one rounded product after the other in the order ky, kx, ci;
    window positions outside the input contribute a product with 0. Then clip to [low, high].

    ``winograd``: 3x3 windows in tiles of 2x2 results (irshrink/program/winograd.py); ``fourier``: by
    transforms of so many values along each row (irshrink/program/fourier.py), 0 without. Both are fused.
    """

    weight: Float32
    bias: Float32
    window: Window
    groups: int
    low: float
    high: float
    codes: StoredWeights | None = None
    fused: bool = False
    winograd: bool = False
    fourier: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseF32(Op):
    """float32 [..., K] by weights [N, K]; accumulates from ``bias`` in order of k, then clips.

    ``sparse`` is stored without the weights that are 0, which are no products then: infinity times one of
    them adds nothing.
    """

    weight: Float32
    bias: Float32
    low: float
    high: float
    codes: StoredWeights | None = None
    fused: bool = False
    sparse: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMulF32(Op):
    """Product of two float32 tensors [B..., M, K] and [B..., K, N] (batches equal), from 0 in order of k."""

    fused: bool = False


BinaryKind = Literal["add", "sub", "mul", "div", "min", "max", "prelu", "pow"]
ReduceKind = Literal["sum", "mean", "max", "min", "prod", "l1", "sumsquare"]
UnaryKind = Literal[
    "clip", "sigmoid", "tanh", "exp", "erf", "gelu", "hardswish", "hardsigmoid",
    "leakyrelu", "elu", "sqrt", "neg", "abs", "reciprocal", "floor", "ceil", "round", "sign",
    "selu", "celu", "thresholdedrelu", "shrink", "softsign", "softplus", "mish", "log", "power",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryF32(Op):
    """Elementwise on two float32 tensors, NumPy broadcasting. ``constant`` replaces a missing second input.

    ``min`` is ``a if a < b else b``, ``max`` is ``a if a > b else b``, ``prelu`` is
    ``a * b if a < 0 else a``.
    ``pow`` is ``exp(b * log(|a|))``, negated where a is negative and b odd, NaN where a is negative and b not
    whole, 1 where b is 0.
    """

    kind: BinaryKind
    constant: Float32 | None = None
    constant_first: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class UnaryF32(Op):
    """Elementwise function of float32; ``alpha`` and ``beta`` as in the ONNX operator.

    clip: low and high. gelu: ``alpha`` 1 is the tanh approximation, 0 the exact one (erf). selu: ``beta`` is
    gamma. shrink: lambda and bias. power: ``x ** alpha``.
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
    """Reduction over ``axes`` (kept as 1 in the output's memory order), in row-major order.

    ``l1`` is the sum of magnitudes, ``sumsquare`` of squares; of equal largest or
    smallest values the first counts.
    """

    kind: ReduceKind
    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CumSumF32(Op):
    """Sums along ``axis``: of all values up to each one, without itself when ``exclusive`` (then from 0).

    ``reverse`` sums from the end.
    """

    axis: int
    exclusive: bool
    reverse: bool
