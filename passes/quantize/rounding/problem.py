"""What a rounding method is asked: integers for the weights of one layer, given how its error counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Problem:
    """Find integers q, low <= q <= high, that make ``tr(D H D^T)`` small for ``D = scale * q - rows``.

    What is exactly 0 in ``rows`` was pruned, and stays 0.

    Attributes:
        rows: the weights wanted, float64 [g, o, n]: groups, outputs of a group, inputs of a group.
        scale: the real number that 1 stands for, float64 [g, o, 1], positive.
        hessian: float64 [g, n, n], symmetric and positive definite.
        low, high: the least and the largest integer.
    """

    rows: Array
    scale: Array
    hessian: Array
    low: int
    high: int

    def nearest(self, rows: Array | None = None) -> Array:
        """Integers nearest to ``rows`` (to the wanted ones, without)."""
        wanted = self.rows if rows is None else rows
        return np.asarray(np.clip(np.rint(wanted / self.scale), self.low, self.high))

    @property
    def pruned(self) -> Array:
        """Whether a weight has to stay 0, bool [g, o, n]."""
        return np.asarray(self.rows == 0)

    def error(self, integers: Array) -> Array:
        """``D H D^T`` of every output, [g, o]."""
        off = integers * self.scale - self.rows
        return np.asarray(((off @ self.hessian) * off).sum(axis=2))


#: Returns the integers as float64 [g, o, n].
Rounding = Callable[[Problem], Array]
