"""Operators of classical machine learning: trees, support vectors, and what stands around them.

Inputs are rows [N, F] of float32 unless said otherwise; every sum is float32 in the stated order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irshrink.program.ops.base import Float32, Int32, Op

Aggregate = Literal["sum", "average", "min", "max"]
VectorKernel = Literal["linear", "poly", "rbf", "sigmoid"]
Norm = Literal["max", "l1", "l2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeEnsemble(Op):
    """Scores [N, T] of decision trees over rows [N, F].

    Comparisons are of *keys*: the int32 that orders like a float32 (its bits, or ``-2**31 - bits`` where the
    sign is set, so that -0 and 0 are equal). Node n goes to ``children[n, 0]`` if
    ``key(x[features[n]]) <= thresholds[n]``, else to ``children[n, 1]``; features F..2F-1 are the same F
    values again. Of a NaN the key is 2**31 - 1 in the first F and -2**31 in the second F.

    A child (and a root) at or above 0 is a node, below it is leaf ``-1 - child``. Leaf l adds ``weights[i]``
    to target ``targets[i]`` for i in ``starts[l]..starts[l + 1] - 1``, each target at most once.

    - sum: from 0, tree after tree; average: that divided by the number of trees;
    - min, max: the smallest or largest weight, 0 for a target that no leaf named;

    plus ``base[t]`` in the end.
    """

    features: Int32  # [nodes]
    thresholds: Int32  # [nodes]
    children: Int32  # [nodes, 2]
    roots: Int32  # [trees]
    starts: Int32  # [leaves + 1]
    targets: Int32
    weights: Float32
    base: Float32  # [T]
    aggregate: Aggregate


@dataclass(frozen=True, kw_only=True, eq=False)
class SupportVectors(Op):
    """Kernel values [N, S] of rows against ``vectors`` [S, F].

    ``dot = sum(x * v)``, ``square = sum((x - v) * (x - v))``, both from 0 in order of F.
    linear: ``dot``; rbf: ``exp((-gamma) * square)``; with ``z = gamma * dot + coef0`` poly: z multiplied by
    itself ``degree - 1`` times, first to last; sigmoid: ``tanh(z)``.
    """

    kind: VectorKernel
    vectors: Float32
    gamma: float = 0.0
    coef0: float = 0.0
    degree: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class PairwiseScores(Op):
    """One score for each pair of C classes (i < j, in that order) from kernel values [N, S], [N, C(C-1)/2].

    Vectors ``starts[i]..starts[i + 1] - 1`` are class i's. The score of (i, j) is the sum from 0 of
    ``coefficients[j - 1, s] * k[s]`` over class i's, then of ``coefficients[i, s] * k[s]`` over class j's,
    then of ``rho``.
    """

    coefficients: Float32  # [C - 1, S]
    starts: Int32  # [C + 1]
    rho: Float32  # one a pair


@dataclass(frozen=True, kw_only=True, eq=False)
class PairwiseVotes(Op):
    """How many of its pairs each class wins, float32 [N, C]: (i, j) goes to i if its score > 0, else to j."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairwiseProbabilities(Op):
    """Probabilities [N, C] from the scores of pairs (Wu, Lin and Weng, JMLR 5, 2004, second method).

    The steps, each rounded to float32, are in docs/classical.md.
    """

    prob_a: Float32
    prob_b: Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class ChooseClass(Op):
    """int32 [N]: ``labels`` of the first largest of scores [N, C]; NaN is never larger.

    With a ``threshold`` scores are [N, 1]: ``labels[1] if score > threshold else labels[0]``.
    """

    labels: Int32
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalizeF32(Op):
    """Rows divided by their norm; rows whose norm (of l2: sum of squares) is 0 stay.

    max: the largest value; l1: ``sum(|x|)`` in order, from 0; l2: ``sqrt(x * x / sum(x * x))`` with the sign
    of x.
    """

    norm: Norm


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftmaxZeroF32(Op):
    """Softmax over the last axis that leaves zeros out: ``e = exp(x - max)`` where ``|x| > 1e-7``, else
    ``x * exp(-max)``; divided by the sum, in order from 0, of the first kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Impute(Op):
    """``values[column] if x is replaced else x``, float32 or int32; ``replaced`` NaN stands for every NaN."""

    values: Float32 | Int32  # [F]
    replaced: float | int


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Op):
    """``values[i]`` for the ``keys[i]`` that equals x, else ``default``; elementwise, int32 or float32 to
    either. Keys ascend; a NaN equals a NaN key, which is the last one.
    """

    keys: Float32 | Int32
    values: Float32 | Int32
    default: float | int


@dataclass(frozen=True, kw_only=True, eq=False)
class OneHot(Op):
    """float32 [..., C]: 1 where ``categories[c]`` equals the int32 element, else 0."""

    categories: Int32
