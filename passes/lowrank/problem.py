"""What a layer's weights are worth: the squared error of its outputs as a function of other weights.

A layer that should compute T x and computes M x is off by

    E |T x - M x|^2 = tr((T - M) H (T - M)^T),      H = E[x x^T]

With H = L L^T this is the squared norm of (T - M) L: the best M of rank r is the truncated SVD of T L with
the whitening undone (Chen et al., *DRONE: data-aware low-rank compression for large NLP models*, NeurIPS
2021; Wang et al., *SVD-LLM: truncation-aware singular value decomposition*, arXiv:2403.07378). L and its
inverse are not needed: with T L = U S V^T the best M is U_r U_r^T T, and U are the eigenvectors of T H T^T,
the principal axes of the outputs (Zhang et al., *Accelerating very deep convolutional networks for
classification and detection*, arXiv:1505.06798, section 3.1).

Any layer that begins with given linear features z = B x has as its best last matrix the least-squares
solution A = T H B^T (B H B^T)^-1, and A z is a problem of the same kind on z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Added to the diagonal of a matrix before it is inverted, of its mean: what float64 leaves of a zero.
_NOISE = 1e-10
#: Turns that take back what this addition moved the solution by.
_REFINEMENTS = 3


@dataclass(frozen=True)
class Problem:
    """
    Attributes:
        target: the matrix T, float64 [outputs, n].
        second: H, float64 [n, n], symmetric and positive semidefinite.
    """

    target: Array
    second: Array

    @cached_property
    def products(self) -> Array:
        """T H, [outputs, n]."""
        return np.asarray(self.target @ self.second)

    @cached_property
    def energy(self) -> float:
        """E |T x|^2."""
        return float((self.products * self.target).sum())

    @cached_property
    def axes(self) -> tuple[Array, Array]:
        """Energies of the outputs along their principal axes, falling, and the axes, [outputs, outputs]."""
        gram = self.products @ self.target.T
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        return np.maximum(values[::-1], 0.0), positive(vectors[:, ::-1].T).T

    def fit(self, features: Array) -> Array:
        """The best A of ``A B x``, [outputs, m], for features B, [m, n]."""
        mixed = features @ self.products.T
        return np.asarray(solve_symmetric(features @ self.second @ features.T, mixed).T)

    def explained(self, features: Array) -> Array:
        """Responses Y, [m, outputs]: |Y[:k]|^2 is the energy of T x that the first k features can give.

        With B H B^T = C C^T they are C^-1 B H T^T, so one factorization serves all k.
        """
        from scipy.linalg import solve_triangular

        root = whitening(features @ self.second @ features.T)
        return np.asarray(solve_triangular(root, features @ self.products.T, lower=True))

    def error(self, matrix: Array) -> float:
        """Relative squared error E |T x - M x|^2 / E |T x|^2; 0 where the layer computes nothing."""
        off = self.target - matrix
        return float((off @ self.second * off).sum()) / self.energy if self.energy > 0 else 0.0

    def reduced(self, features: Array) -> Problem:
        """The problem of the layer behind the features B: what is computed from z = B x."""
        second = features @ self.second @ features.T
        return Problem(self.fit(features), (second + second.T) / 2)

    def tail(self) -> Array:
        """The relative squared error of the best matrix of rank 0, 1, ..., float64 [outputs + 1]."""
        values = self.axes[0]
        left = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
        return np.asarray(left / left[0] if left[0] > 0 else left)

    def split(self, rank: int) -> tuple[Array, Array]:
        """Factors A [outputs, rank] and B [rank, n] of the best matrix of that rank.

        The features B x have a second moment of 1 each: factors of even size keep their precision in few
        bits.
        """
        values, vectors = self.axes
        kept = vectors[:, :rank]
        floor = max(float(values[0]) if len(values) else 0.0, 1e-300) * 1e-12
        size = np.sqrt(np.maximum(values[:rank], floor))
        return kept * size, (kept / size).T @ self.target


def positive(rows: Array) -> Array:
    """Rows whose sign means nothing, with that which makes the largest element of each positive."""
    largest = np.abs(rows).argmax(axis=1)[:, np.newaxis]
    return np.asarray(rows * np.where(np.take_along_axis(rows, largest, 1) < 0, -1.0, 1.0))


def damped(second: Array, share: float) -> Array:
    """H with a share of its mean moment added to all: few samples say nothing of most directions."""
    size = float(np.diagonal(second).mean()) if len(second) else 0.0
    return np.asarray(second + share * size * np.eye(len(second)))


def solve_symmetric(matrix: Array, right: Array) -> Array:
    """``matrix^-1 right`` for a positive semidefinite matrix; directions of no size are left out."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    size = float(np.diagonal(matrix).mean()) if len(matrix) else 0.0
    if size <= 0:
        return np.zeros_like(right)
    safe = (matrix + matrix.T) / 2 + _NOISE * size * np.eye(len(matrix))
    try:
        root = cho_factor(safe, lower=True)
        found = cho_solve(root, right)
        for _ in range(_REFINEMENTS):
            found += cho_solve(root, right - matrix @ found)
        return np.asarray(found)
    except LinAlgError:
        return np.asarray(np.linalg.pinv(safe, hermitian=True) @ right)


def whitening(second: Array) -> Array:
    """L with L L^T = H, lower triangular [n, n]; directions that no data has get a little."""
    size = float(np.diagonal(second).mean())
    added = _NOISE * size if size > 0 else 1.0
    return np.asarray(np.linalg.cholesky((second + second.T) / 2 + added * np.eye(len(second))))
