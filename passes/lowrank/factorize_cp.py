"""Four small layers for one: 1 x 1, a vertical and a horizontal depthwise one, 1 x 1.

    W[o, i, y, x] ~ sum_r A[o, r] B[r, i] C[r, y] D[r, x]

(canonical polyadic decomposition: Lebedev et al., *Speeding-up convolutional neural networks using fine-tuned
CP-decomposition*, ICLR 2015, arXiv:1412.6553), by alternating least squares (Kolda and Bader, *Tensor
decompositions and applications*, SIAM Review 2009, section 3.4) in the metric of the channels read. A is then
fitted to the outputs. Without training it keeps less than the other forms at the same cost; it wins where
kernels are small and the target is slow at what the others leave.
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
from irshrink.passes.lowrank.problem import Problem, positive, solve_symmetric, whitening
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]

#: Turns of alternating least squares; the sum of squares hardly falls after that.
TURNS = 60
#: Ranks that are tried: each of them is a decomposition of its own.
TRIED = 6


@dataclass(frozen=True)
class Cp:
    """Rank r: the weights as a sum of r products of a vector for each axis.

    Found by alternating least squares in the metric of the channels read; the last layer is then fitted to
    the outputs. A sum of r products is not a nested sequence: each rank is computed for itself.
    """

    name: str = "cp"

    def why_not(self, layer: Layer) -> str | None:
        if layer.node.op_type != "Conv" or len(layer.kernel) != 2:
            return "it is no two-dimensional convolution"
        if min(layer.kernel) == 1:
            return "its kernel is a single row or column"
        return None if max(layer.kernel) <= 7 else "its kernel is large"

    def ranks(self, layer: Layer, multiple: int) -> list[Ranks]:
        height, width = layer.kernel
        most = min(layer.channels, layer.outputs) * min(height, width)
        found = steps(most, multiple)
        stride = -(-len(found) // TRIED)
        return [(rank,) for rank in found[::-1][::stride][::-1]]

    def stages(self, layer: Layer, ranks: Ranks) -> list[Stage]:
        (rank,) = ranks
        return [
            Stage((rank, layer.channels, 1, 1), size_after(layer, ()), {}),
            _depthwise(layer, rank, (0,), size_after(layer, (0,))),
            _depthwise(layer, rank, (1,), size_after(layer, (0, 1))),
            Stage((layer.outputs, rank, 1, 1), size_after(layer, (0, 1)), {}),
        ]

    def errors(self, layer: Layer, problem: Problem, ranks: list[Ranks]) -> list[float]:
        return [problem.error(self.factor(layer, problem, one).matrix) for one in ranks]

    def factor(self, layer: Layer, problem: Problem, ranks: Ranks) -> Factors:
        front, vertical, horizontal = _directions(layer, problem, ranks[0])
        features = np.einsum("ri,ra,rb->riab", front, vertical, horizontal).reshape(ranks[0], -1)
        sizes = np.linalg.norm(features @ whitening(problem.second), axis=1)
        scale = 1 / np.where(sizes > 0, sizes, 1.0)
        front, features = front * scale[:, None], features * scale[:, None]
        back = problem.fit(features)
        arrays = (front, vertical, horizontal, back)
        shaped = [a.reshape(s.shape) for a, s in zip(arrays, self.stages(layer, ranks), strict=True)]
        return Factors(tuple(shaped), back @ features)


def _depthwise(layer: Layer, rank: int, axes: tuple[int, ...], size: tuple[int, ...]) -> Stage:
    attributes = {**conv_attributes(layer, axes), "group": rank}
    return Stage((rank, 1, *kernel_on(layer, axes)), size, attributes)


def _directions(layer: Layer, problem: Problem, rank: int) -> tuple[Array, Array, Array]:
    """Vectors over channels, rows and columns, each [rank, size], those over the kernel of length 1."""
    height, width = layer.kernel
    taps = height * width
    second = np.einsum("iaja->ij", problem.second.reshape(layer.channels, taps, layer.channels, taps)) / taps
    root = whitening(second)
    weights = problem.target.reshape(layer.outputs, layer.channels, taps)
    white = np.einsum("oia,ij->oja", weights, root).reshape(layer.outputs, layer.channels, height, width)
    factors = [_start(white, axis, rank) for axis in range(4)]
    for _ in range(TURNS):
        for axis in range(4):
            factors[axis] = _solved(white, factors, axis)
            lengths = np.linalg.norm(factors[axis], axis=1, keepdims=True)
            if axis in (2, 3):
                factors[axis] = factors[axis] / np.where(lengths > 0, lengths, 1.0)
    from scipy.linalg import solve_triangular

    front = solve_triangular(root.T, factors[1].T, lower=False).T
    return positive(front), positive(factors[2]), positive(factors[3])


def _start(tensor: Array, axis: int, rank: int) -> Array:
    """The leading singular vectors of an unfolding, then vectors drawn from a fixed seed, [rank, size]."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    vectors = np.linalg.svd(unfolded, full_matrices=False)[0].T[:rank]
    drawn = np.random.default_rng([rank, axis]).standard_normal((rank - len(vectors), unfolded.shape[0]))
    return np.concatenate([vectors, drawn / np.sqrt(unfolded.shape[0])])


def _solved(tensor: Array, factors: list[Array], axis: int) -> Array:
    """The best vectors along one axis, those along the others given."""
    others = [factor for index, factor in enumerate(factors) if index != axis]
    gram = np.ones((len(factors[axis]), len(factors[axis])))
    for factor in others:
        gram *= factor @ factor.T
    products = others[0][:, :, None, None] * others[1][:, None, :, None] * others[2][:, None, None, :]
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    right = products.reshape(len(products), -1) @ unfolded.T
    return solve_symmetric(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)), right)


@dataclass(frozen=True)
class FactorizeCp(RankOptions):
    """Replace small convolutions by 1 x 1, two depthwise and 1 x 1 ones."""

    name: ClassVar[str] = "factorize-cp"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [Cp()], module, ctx)
