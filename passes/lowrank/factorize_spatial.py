"""A vertical and a horizontal convolution for one with a two-dimensional kernel.

    W[o, i, y, x] ~ sum_r V[r, i, y] H[o, r, x]

(Jaderberg, Vedaldi and Zisserman, *Speeding up convolutional neural networks with low rank expansions*, BMVC
2014, arXiv:1405.3866, scheme 2). As one matrix [i y, o x] the weights have this as their truncated SVD. The
vertical filters are its singular vectors in the metric of the columns that the layer reads; the horizontal
ones are fitted to the layer's outputs, as that paper does by data reconstruction, here in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.form import (
    Factors,
    Ranks,
    Stage,
    conv_attributes,
    kernel_on,
    size_after,
    steps,
)
from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.problem import Problem, positive, whitening
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Spatial:
    """Rank r: r vertical filters over all channels, then horizontal ones over those r maps.

    As one matrix the weights are [channels * height, outputs * width]; vertical filters are its leading left
    singular vectors, in the metric of what the layer reads in columns. The horizontal ones are then fitted to
    the outputs, all correlations taken into account.
    """

    name: str = "spatial"

    def why_not(self, layer: Layer) -> str | None:
        if layer.node.op_type != "Conv" or len(layer.kernel) != 2:
            return "it is no two-dimensional convolution"
        return None if min(layer.kernel) > 1 else "its kernel is a single row or column"

    def ranks(self, layer: Layer, multiple: int) -> list[Ranks]:
        height, width = layer.kernel
        return [(r,) for r in steps(min(layer.channels * height, layer.outputs * width), multiple)]

    def stages(self, layer: Layer, ranks: Ranks) -> list[Stage]:
        (rank,) = ranks
        first = (rank, layer.channels, *kernel_on(layer, (0,)))
        second = (layer.outputs, rank, *kernel_on(layer, (1,)))
        return [
            Stage(first, size_after(layer, (0,)), conv_attributes(layer, (0,))),
            Stage(second, size_after(layer, (0, 1)), conv_attributes(layer, (1,))),
        ]

    def errors(self, layer: Layer, problem: Problem, ranks: list[Ranks]) -> list[float]:
        most = max((rank for (rank,) in ranks), default=0)
        if not most or problem.energy <= 0:
            return [0.0] * len(ranks)
        responses = problem.explained(_features(layer, _vertical(layer, problem)[:most]))
        kept = np.cumsum(np.square(responses).sum(axis=1))[layer.kernel[1] - 1 :: layer.kernel[1]]
        return [max(0.0, 1 - float(kept[rank - 1]) / problem.energy) for (rank,) in ranks]

    def factor(self, layer: Layer, problem: Problem, ranks: Ranks) -> Factors:
        vertical, horizontal, matrix = _fitted(layer, problem, _vertical(layer, problem)[: ranks[0]])
        first, second = self.stages(layer, ranks)
        return Factors((vertical.reshape(first.shape), horizontal.reshape(second.shape)), matrix)


def _vertical(layer: Layer, problem: Problem) -> Array:
    """All vertical filters, most important first, [at most channels * height, channels * height]."""
    height, width = layer.kernel
    rows = layer.channels * height
    weights = problem.target.reshape(layer.outputs, rows, width)
    matrix = weights.transpose(1, 0, 2).reshape(rows, -1)
    second = np.einsum("iaja->ij", problem.second.reshape(rows, width, rows, width)) / width
    root = whitening(second)
    _, _, right = np.linalg.svd(root.T @ matrix, full_matrices=False)
    filters = positive(right @ matrix.T)
    sizes = np.linalg.norm(filters @ root, axis=1)
    return np.asarray(filters / np.maximum(sizes, 1e-9 * max(float(sizes.max(initial=0)), 1e-300))[:, None])


def _features(layer: Layer, vertical: Array) -> Array:
    """What vertical filters give at each column of the kernel, [rank * width, n]."""
    width, rank = layer.kernel[1], len(vertical)
    return np.asarray(np.einsum("rn,ab->ranb", vertical, np.eye(width)).reshape(rank * width, -1))


def _fitted(layer: Layer, problem: Problem, vertical: Array) -> tuple[Array, Array, Array]:
    """The filters, the best horizontal ones behind them [outputs, rank * width], and the matrix of both."""
    features = _features(layer, vertical)
    horizontal = problem.fit(features)
    return vertical, horizontal, horizontal @ features


@dataclass(frozen=True)
class FactorizeSpatial(RankOptions):
    """Replace k x k convolutions by k x 1 and 1 x k ones of fewer channels in between."""

    name: ClassVar[str] = "factorize-spatial"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [Spatial()], module, ctx)
