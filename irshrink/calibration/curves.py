"""Ranges of values that nothing but functions of one value reads: HardSwish behind a Conv, say.

What counts is not the value but what the functions make of it. HardSwish is 0 below -3, so the levels below
are better spent above; where it is steep an error costs more than where it is flat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.calibration.observers import LEVELS, Range

Array = np.ndarray[Any, np.dtype[Any]]
#: Points at which functions are sampled; straight lines in between.
SAMPLES = 4096
#: What passes for flat: part of the 256th part of what a function gives.
_FLAT = 1 / 16


@dataclass(frozen=True)
class Functions:
    """All that reads a value.

    Attributes:
        results: names of what they give, as many as there are functions.
        evaluate: at some points, float32 [n] to [functions, n].
    """

    results: tuple[str, ...]
    evaluate: Callable[[Array], Array]


@dataclass(frozen=True)
class Curve:
    """Functions of one value, sampled.

    Attributes:
        x: [n], rising.
        y: [functions, n].
    """

    x: Array
    y: Array

    def at(self, x: Array) -> Array:
        """[functions, len(x)], each divided by what it spans, so that they count alike."""
        span = np.ptp(self.y, axis=1)
        return np.stack(
            [np.interp(x, self.x, y) / (s if s > 0 else 1.0) for y, s in zip(self.y, span, strict=True)]
        )


def sampled(functions: Functions, found: Range) -> Curve:
    """The functions over a range and 0."""
    low, high = min(found.min, 0.0), max(found.max, 0.0)
    x = np.linspace(low, high, SAMPLES, dtype=np.float32)
    return Curve(x.astype(np.float64), functions.evaluate(x).astype(np.float64))


def without_flat_ends(found: Range, curve: Curve) -> Range:
    """The range without the ends in which no function changes."""
    inside = (curve.x >= found.min) & (curve.x <= found.max)
    x, y = curve.x[inside], curve.y[:, inside]
    if not x.size or not np.isfinite(y).all():
        return found
    tolerance = np.ptp(y, axis=1, keepdims=True) * _FLAT / LEVELS
    changed = np.flatnonzero((np.abs(y - y[:, :1]) > tolerance).any(axis=0))
    changes = np.flatnonzero((np.abs(y - y[:, -1:]) > tolerance).any(axis=0))
    if not changed.size:
        return found
    low = found.min if changed[0] <= 1 else float(x[changed[0] - 1])
    high = found.max if changes[-1] >= x.size - 2 else float(x[changes[-1] + 1])
    return Range(low, high)
