"""The weights of one layer with their zeros, fitted to what it should give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.calibration.regression import NOISE, Regression
from irshrink.passes.prune.sparse.fit import Method, Wanted, Zeros

Array = np.ndarray[Any, np.dtype[Any]]

#: Strengths of the pull towards the old weights that are tried, shares of an input's mean second moment.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
#: The strength where no sample is held back.
_USUAL = 0.1


@dataclass(frozen=True)
class Settled:
    """Attributes:
    rows, bias: of the layer, [g, o, n] and [g, o]; None for the bias that it has.
    error: of the outputs on samples that were held back, relative to their variance; on all samples where
        none was; None where it was not measured.
    """

    rows: Array
    bias: Array | None = None
    error: float | None = None


def settled(
    sums: tuple[Regression, Regression], start: Array, method: Method, zeros: Zeros, has_bias: bool
) -> Settled:
    """Fit with the strength that does best on the samples held back, then to all of them.

    Args:
        sums: over the samples to fit to, and over those held back.
        start: the dense weights, [g, o, n].
    """
    fitted, held = sums
    both = fitted + held
    if held.count == 0 or fitted.count == 0:
        rows, bias = _fit(both, start, _USUAL, method, zeros, has_bias)
        return Settled(rows, bias, _relative(both, rows, bias))
    errors = [
        _relative(held, *_fit(fitted, start, strength, method, zeros, has_bias)) for strength in STRENGTHS
    ]
    best = int(np.argmin(errors))
    rows, bias = _fit(both, start, STRENGTHS[best], method, zeros, has_bias)
    return Settled(rows, bias, errors[best])


def _fit(
    sums: Regression, start: Array, strength: float, method: Method, zeros: Zeros, has_bias: bool
) -> tuple[Array, Array]:
    rows = method(wanted_of(sums, start, strength, has_bias), zeros)
    return rows, sums.bias(rows) if has_bias else np.zeros(rows.shape[:2])


def wanted_of(sums: Regression, start: Array, strength: float, has_bias: bool) -> Wanted:
    """The dense weights that would do best, and the matrix by which others cost more."""
    weights, _ = sums.fit(start, strength, has_bias)
    count = max(1, sums.count)
    hessian, mean = sums.xx / count, sums.x / count
    if has_bias:
        hessian = hessian - mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
    sizes = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
    pull = np.maximum(max(strength, NOISE) * sizes, np.finfo(np.float64).tiny)
    pull = np.where(sizes > 0, pull, 1.0)
    return Wanted(weights, hessian + pull[:, np.newaxis, np.newaxis] * np.eye(hessian.shape[1]))


def _relative(sums: Regression, rows: Array, bias: Array) -> float:
    return float(sums.error(rows, bias).sum() / (sums.energy().sum() or 1.0))
