"""Weights that make a layer compute what it should, from sums over calibration data.

A layer that reads x and should give t has, with the bias b, the weights

    W = argmin E |W x + b - t|^2 + k |W - W0|^2 = (C + k W0) (H + k I)^-1,    b = E[t] - W E[x]
    H = E[(x - E[x]) (x - E[x])^T],    C = E[(t - E[t]) (x - E[x])^T]

(ridge regression, but towards the weights W0 that the layer has, not towards zero: where the data say little
about a direction the layer keeps what it learned from far more data; Hoerl and Kennard, *Ridge regression*,
Technometrics 1970). Without a bias H and C are not taken about the means.

All that this needs are the matrices, one of each a group of the layer, however many samples there were. How
strong k must be is asked of samples that the weights were not fitted to: the error on those follows from
their matrices as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Strengths that are tried, as shares of the mean second moment of an input; infinite changes the bias alone.
STRENGTHS = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-6)
#: After so many strengths in a row that do worse than the best one weaker ones are not tried.
PATIENCE = 3
#: The least strength, which keeps a matrix of too few samples from being singular.
NOISE = 1e-7
#: What sums of squares are off by, as a share of them: moments around a mean that are smaller are none.
_ROUNDING = 1e-12


@dataclass
class Regression:
    """Sums over pairs of vectors: x, what a layer reads, and t, what it should give.

    Attributes:
        count: pairs seen.
        x, t: sums of the vectors, float64 [g, n] and [g, o].
        xx, tx: sums of ``x x^T`` and ``t x^T``, [g, n, n] and [g, o, n].
        tt: sums of the squares of t, [g, o].
    """

    count: int
    x: Array
    t: Array
    xx: Array
    tx: Array
    tt: Array

    @classmethod
    def zero(cls, groups: int, outputs: int, inputs: int) -> Regression:
        shapes = ((inputs,), (outputs,), (inputs, inputs), (outputs, inputs), (outputs,))
        return cls(0, *(np.zeros((groups, *shape)) for shape in shapes))

    def update(self, rows: Array, wanted: Array) -> None:
        """Add pairs: ``rows`` [g, positions, n] and ``wanted`` [g, positions, o]."""
        x, t = rows.astype(np.float64), wanted.astype(np.float64)
        self.count += x.shape[1]
        self.x += x.sum(axis=1)
        self.t += t.sum(axis=1)
        self.xx += x.swapaxes(1, 2) @ x
        self.tx += t.swapaxes(1, 2) @ x
        self.tt += np.square(t).sum(axis=1)

    def __add__(self, other: Regression) -> Regression:
        return Regression(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def fit(self, start: Array, strength: float, has_bias: bool) -> tuple[Array, Array]:
        """The best weights near ``start``, [g, o, n], and biases, [g, o], which are 0 without.

        Args:
            strength: of the pull towards ``start``, a share of the mean second moment of an input; with an
                infinite one the weights stay and only the bias moves.
        """
        hessian, cross, _ = self._moments(has_bias)
        weights = start.astype(np.float64)
        if np.isfinite(strength):
            pull = self._pull(hessian, max(strength, NOISE))[:, None, None]
            # the change of the weights is solved for: it vanishes exactly where there is nothing to repair
            left = cross - weights @ hessian
            change = np.linalg.solve(hessian + pull * np.eye(hessian.shape[1]), left.swapaxes(1, 2))
            weights = weights + change.swapaxes(1, 2)
        return weights, self.bias(weights) if has_bias else np.zeros(weights.shape[:2])

    def _pull(self, hessian: Array, strength: float) -> Array:
        """Towards the start, [g]; inputs that hardly vary leave rounding errors, which are no moments."""
        count = max(1, self.count)
        sizes, squares = (np.diagonal(m, axis1=1, axis2=2).mean(axis=1) for m in (hessian, self.xx / count))
        pull = np.maximum(strength * sizes, _ROUNDING * squares)
        return np.asarray(np.where(pull > 0, pull, 1.0))

    def bias(self, weights: Array) -> Array:
        """The bias that gives outputs the mean that they should have, [g, o]."""
        count = max(1, self.count)
        return np.asarray(self.t / count - np.einsum("gon,gn->go", weights, self.x / count))

    def error(self, weights: Array, bias: Array) -> Array:
        """Mean squared error of each output, float64 [g, o]."""
        hessian, cross, energy = self._moments(False)
        x, t = self.x / max(1, self.count), self.t / max(1, self.count)
        squares = ((weights @ hessian - 2 * cross) * weights).sum(axis=2) + energy
        mean = np.einsum("gon,gn->go", weights, x) - t
        return np.asarray(np.maximum(squares + bias * (bias + 2 * mean), 0.0))

    def energy(self) -> Array:
        """Variance of each wanted output, float64 [g, o]."""
        return self._moments(True)[2]

    def _moments(self, centred: bool) -> tuple[Array, Array, Array]:
        count = max(1, self.count)
        hessian, cross, energy = self.xx / count, self.tx / count, self.tt / count
        if not centred:
            return hessian, cross, energy
        x, t = self.x / count, self.t / count
        return (
            hessian - x[:, :, np.newaxis] * x[:, np.newaxis, :],
            cross - t[:, :, np.newaxis] * x[:, np.newaxis, :],
            np.maximum(energy - np.square(t), 0.0),
        )


@dataclass(frozen=True)
class Repaired:
    """What :func:`repaired` found.

    Attributes:
        weights, bias: [g, o, n] and [g, o].
        strength: the pull that was chosen; None where the layer stays exactly as it was.
        before, after: squared error on the samples held back, relative to the variance of what is wanted;
            ``after`` is that of the weights fitted without these samples.
    """

    weights: Array
    bias: Array
    strength: float | None
    before: float
    after: float


def repaired(
    fitted: Regression,
    held: Regression,
    start: Array,
    bias: Array,
    has_bias: bool,
    strengths: Sequence[float] = STRENGTHS,
) -> Repaired:
    """Weights fitted to all samples, as strongly as does best on those held back.

    The layer stays as it was where no strength does better on the samples held back than not changing
    anything, or where the weights fitted to all do worse on them.

    Args:
        fitted, held: sums over the samples to fit to, and over those to choose by.
        start, bias: what the layer has, [g, o, n] and [g, o].
    """
    scale = float(held.energy().sum()) or 1.0
    before = float(held.error(start, bias).sum())
    best, least, worse = None, before, 0
    for strength in strengths:
        if (not has_bias and not np.isfinite(strength)) or worse == PATIENCE:
            continue
        error = float(held.error(*fitted.fit(start, strength, has_bias)).sum())
        worse += best is not None
        if error < least:
            best, least, worse = strength, error, 0
    if best is not None:
        weights, shift = (fitted + held).fit(start, best, has_bias)
        if float(held.error(weights, shift).sum()) <= before:
            return Repaired(weights, shift, best, before / scale, least / scale)
    return Repaired(start, bias, None, before / scale, before / scale)
