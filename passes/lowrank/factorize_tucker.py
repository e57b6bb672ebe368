"""Fewer channels in front of a kernel and behind it: 1 x 1, the core, 1 x 1.

    W[o, i, y, x] ~ sum_pq U[o, q] C[q, p, y, x] V[p, i]

(Tucker-2 decomposition: Kim et al., *Compression of deep convolutional neural networks for fast and low power
mobile applications*, ICLR 2016, arXiv:1511.06530). V are the leading directions of the channels in the metric
of what the layer reads, taps taken together; the core behind them is fitted to the outputs and split along
their principal axes U.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.form import Factors, Ranks, Stage, conv_attributes, size_after, steps
from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.problem import Problem, positive, whitening
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Tucker:
    """Ranks (channels read, channels written) of the core.

    Channels in front are the leading directions of the layer's channels in the metric of what it reads, taps
    taken together; the core is fitted to the outputs behind them, and split along their principal axes.
    """

    name: str = "tucker"

    def why_not(self, layer: Layer) -> str | None:
        if layer.node.op_type != "Conv" or prod(layer.kernel) == 1:
            return "it is no convolution with a kernel"
        return None

    def ranks(self, layer: Layer, multiple: int) -> list[Ranks]:
        read, written = steps(layer.channels, multiple), steps(layer.outputs, multiple)
        return [(a, b) for a in _some(read) for b in _some(written) if b <= a * prod(layer.kernel)]

    def stages(self, layer: Layer, ranks: Ranks) -> list[Stage]:
        read, written = ranks
        ones, every = (1,) * len(layer.kernel), tuple(range(len(layer.kernel)))
        before, after = size_after(layer, ()), size_after(layer, every)
        return [
            Stage((read, layer.channels, *ones), before, {}),
            Stage((written, read, *layer.kernel), after, conv_attributes(layer, every)),
            Stage((layer.outputs, written, *ones), after, {}),
        ]

    def errors(self, layer: Layer, problem: Problem, ranks: list[Ranks]) -> list[float]:
        reads = sorted({read for read, _ in ranks})
        if not reads or problem.energy <= 0:
            return [0.0] * len(ranks)
        responses = problem.explained(_features(layer, _directions(layer, problem)[: reads[-1]]))
        kept = {}
        for read in reads:
            some = responses[: read * prod(layer.kernel)]
            axes = np.linalg.eigvalsh(some.T @ some)[::-1]
            kept[read] = np.cumsum(np.maximum(axes, 0.0))
        return [max(0.0, 1 - float(kept[read][written - 1]) / problem.energy) for read, written in ranks]

    def factor(self, layer: Layer, problem: Problem, ranks: Ranks) -> Factors:
        read, written = ranks
        front = _directions(layer, problem)[:read]
        features = _features(layer, front)
        back, core = problem.reduced(features).split(written)
        shapes = [stage.shape for stage in self.stages(layer, ranks)]
        arrays = (front.reshape(shapes[0]), core.reshape(shapes[1]), back.reshape(shapes[2]))
        return Factors(arrays, back @ core @ features)


def _some(ranks: list[int]) -> list[int]:
    """At most 12 of them, the last one always: pairs are many."""
    stride = -(-len(ranks) // 12)
    return ranks[::-1][::stride][::-1]


def _directions(layer: Layer, problem: Problem) -> Array:
    """Directions of the channels by importance, [channels, channels]; what they give has a moment of 1."""
    taps = prod(layer.kernel)
    weights = problem.target.reshape(layer.outputs, layer.channels, taps)
    second = np.einsum("iaja->ij", problem.second.reshape(layer.channels, taps, layer.channels, taps)) / taps
    root = whitening(second)
    white = root.T @ np.einsum("oia,oja->ij", weights, weights, optimize=True) @ root
    vectors = np.linalg.eigh((white + white.T) / 2)[1][:, ::-1]
    from scipy.linalg import solve_triangular

    return positive(solve_triangular(root.T, vectors, lower=False).T)


def _features(layer: Layer, front: Array) -> Array:
    """The directions at every tap, [directions * taps, n]."""
    taps = prod(layer.kernel)
    return np.asarray(np.einsum("ri,ab->raib", front, np.eye(taps)).reshape(len(front) * taps, -1))


@dataclass(frozen=True)
class FactorizeTucker(RankOptions):
    """Put 1 x 1 convolutions around kernels, which then have fewer channels on both sides."""

    name: ClassVar[str] = "factorize-tucker"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [Tucker()], module, ctx)
