"""Least squares for a layer that a Relu or a Clip reads: what the activation cuts off need not be right.

With r the activation, low <= r <= high, and s what is added to the layer's output before it, the error is

    |r(W x + b + s) - r(t + s)|^2      at most the squared distance of W x + b + s from the set of all z
                                       with r(z) = r(t + s)

which is one number where t + s is between the bounds and everything beyond a bound elsewhere. That distance
to a convex set is convex in W and b; it falls in turns: take the nearest point z of the set for every output,
then fit W and b to z, with the same matrix of second moments every time. (Zhang, Zou, He and Sun,
*Accelerating very deep convolutional networks*, IEEE TPAMI 2016, section 3.2, minimize the error itself with
auxiliary variables.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from irshrink.calibration.regression import Repaired

Array = np.ndarray[Any, np.dtype[Any]]

#: The least strength: vectors are float32 here.
LEAST_STRENGTH = 1e-3
STRENGTHS = (1.0, 0.1)
#: Turns of fitting; most of the way is behind after half of them.
TURNS = 12


@dataclass
class Rows:
    """Vectors themselves, of some samples.

    Attributes:
        x: what the layer reads, float32 [g, positions, n] each.
        t: what it should give, [g, positions, o] each.
        s: what is added to it, as ``t``.
    """

    x: list[Array] = field(default_factory=list)
    t: list[Array] = field(default_factory=list)
    s: list[Array] = field(default_factory=list)

    def joined(self) -> tuple[Array, Array, Array]:
        return tuple(np.concatenate(part, axis=1).astype(np.float32) for part in (self.x, self.t, self.s))  # type: ignore[return-value]

    def extend(self, other: Rows) -> Rows:
        return Rows(self.x + other.x, self.t + other.t, self.s + other.s)


def repaired_behind(
    fitted: Rows,
    held: Rows,
    bounds: tuple[float, float],
    start: Array,
    bias: Array,
    strengths: Sequence[float] = STRENGTHS,
) -> Repaired:
    """As :func:`irshrink.calibration.regression.repaired`, by the error behind the activation.

    Args:
        bounds: of the activation; infinite where there is none.
        start, bias: what the layer has, [g, o, n] and [g, o].
    """
    scale = float(np.square(_centred(np.clip(sum(held.joined()[1:]), *bounds))).sum()) or 1.0
    before = _error(held, bounds, start, bias)
    best, least = None, before
    problem = _Problem(fitted, bounds, start, bias)
    for strength in strengths:
        error = _error(held, bounds, *problem.solve(strength))
        if error < least:
            best, least = strength, error
    if best is not None:
        weights, shift = _Problem(fitted.extend(held), bounds, start, bias).solve(best)
        if _error(held, bounds, weights, shift) <= before:
            return Repaired(weights, shift, best, before / scale, least / scale)
    return Repaired(start, bias, None, before / scale, before / scale)


class _Problem:
    """One set of rows, to be solved at several strengths."""

    def __init__(self, rows: Rows, bounds: tuple[float, float], start: Array, bias: Array) -> None:
        self._x, t, s = rows.joined()
        self._bounds, self._start, self._bias, self._s = bounds, start, bias, s
        self._sum = t + s
        mean = self._x.mean(axis=1, keepdims=True)
        self._x = self._x - mean
        self._mean = mean
        wide = self._x.astype(np.float64)
        self._hessian = wide.swapaxes(1, 2) @ wide / self._x.shape[1]

    def solve(self, strength: float) -> tuple[Array, Array]:
        """Weights [g, o, n] and bias [g, o]."""
        size = self._hessian.shape[1]
        level = np.diagonal(self._hessian, axis1=1, axis2=2).mean(axis=1)
        pull = np.maximum(strength * level, np.finfo(np.float64).tiny)[:, None, None]
        inverse = np.linalg.inv(self._hessian + pull * np.eye(size))
        weights, shift = self._start, self._bias + (self._start @ self._mean.swapaxes(1, 2))[:, :, 0]
        count = self._x.shape[1]
        for _ in range(TURNS):
            now = (self._x @ weights.swapaxes(1, 2).astype(np.float32)) + shift[:, np.newaxis].astype(
                np.float32
            )
            off = self._wanted(now + self._s) - self._s - now
            # fit the difference: the pull is towards the weights that there were
            step = off.swapaxes(1, 2) @ self._x / count - pull * (weights - self._start)
            weights = weights + step @ inverse
            shift = shift + off.mean(axis=1)
        return weights, shift - (weights @ self._mean.swapaxes(1, 2))[:, :, 0]

    def _wanted(self, now: Array) -> Array:
        """For each sum the nearest one that the activation makes the same of as of the right one."""
        low, high = self._bounds
        wanted = np.where(self._sum <= low, np.minimum(now, low), self._sum)
        return np.where(self._sum >= high, np.maximum(now, high), wanted)


def _error(rows: Rows, bounds: tuple[float, float], weights: Array, bias: Array) -> float:
    x, t, s = rows.joined()
    now = x @ weights.swapaxes(1, 2).astype(np.float32) + bias[:, np.newaxis].astype(np.float32)
    return float(np.square(np.clip(now + s, *bounds) - np.clip(t + s, *bounds)).sum(dtype=np.float64))


def _centred(array: Array) -> Array:
    return np.asarray(array - array.mean(axis=1, keepdims=True))
