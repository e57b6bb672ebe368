"""From the values a tensor takes to the range worth representing: what calibration keeps of the data.

An observer's memory does not depend on how many values it sees: two numbers, or a histogram of fixed size.

Sources: percentile and entropy clipping after Migacz, *8-bit Inference with TensorRT*, GTC 2017 (2048 bins,
the threshold with the smallest Kullback-Leibler divergence between the distribution and its quantized
copy); the search for the least squared error after Banner et al., *Post-training 4-bit quantization of
convolutional networks*, NeurIPS 2019, on a histogram instead of an assumed distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: Functions of one value: [n] to [functions, n].
Read = Callable[[Array], Array]

#: Bins of every histogram; Migacz's number.
BINS = 2048
#: A range below this is one value; a histogram of it would divide by nothing.
SMALLEST_WIDTH = 1e-30
#: Levels of an int8 tensor.
LEVELS = 256


@dataclass(frozen=True)
class Range:
    """The real numbers a tensor should represent, ``min <= max``; what lies outside is clipped."""

    min: float
    max: float


@dataclass(frozen=True)
class ChannelExtremes:
    """The smallest and the largest value of each channel, [channels]."""

    low: Array
    high: Array

    def joined(self, other: ChannelExtremes) -> ChannelExtremes:
        return ChannelExtremes(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass
class MinMax:
    """The smallest and the largest value seen; NaN if there was one."""

    low: float = np.inf
    high: float = -np.inf

    def update(self, values: Array) -> None:
        if values.size:
            self.low = float(np.minimum(self.low, values.min()))
            self.high = float(np.maximum(self.high, values.max()))

    def range(self) -> Range:
        return Range(self.low, self.high) if self.low <= self.high else Range(0.0, 0.0)


@dataclass
class Histogram:
    """Counts of values in ``BINS`` equal bins over a range known from a first pass over the data."""

    low: float
    high: float
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def update(self, values: Array) -> None:
        if not self.is_point:
            self.counts += np.bincount(self._bins(values), minlength=BINS)

    def update_weighted(self, values: Array, axis: int, weights: Array) -> None:
        """Count each value as often as the weight of its channel says, float64 [channels].

        Args:
            axis: of ``values``, the one that counts channels.
        """
        if self.is_point:
            return
        rows = np.moveaxis(values, axis, 0).reshape(len(weights), -1)
        bins = self._bins(rows)
        repeated = np.repeat(weights, rows.shape[1])
        self.counts = self.counts + np.bincount(bins, weights=repeated, minlength=BINS)

    def _bins(self, values: Array) -> Array:
        """The bin of each value, flat."""
        position = (values.ravel() - np.float32(self.low)) * np.float32(BINS / (self.high - self.low))
        bins: Array = np.clip(position.astype(np.int32), 0, BINS - 1)
        return bins

    @property
    def is_point(self) -> bool:
        """Whether all values are the same for all purposes."""
        return self.high - self.low < SMALLEST_WIDTH

    @property
    def centres(self) -> Array:
        """The middle of each bin, float64 [BINS]."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """The range that holds ``percentile`` % of the values, half of the rest cut off at each end."""
    cumulative = np.cumsum(histogram.counts)
    if cumulative[-1] == 0:
        return Range(histogram.low, histogram.high)
    tail = cumulative[-1] * (100 - percentile) / 200
    width = (histogram.high - histogram.low) / BINS
    first = int(np.searchsorted(cumulative, tail, side="right"))
    last = int(np.searchsorted(cumulative, cumulative[-1] - tail, side="left"))
    return Range(histogram.low + first * width, histogram.low + (last + 1) * width)


def mse_range(histogram: Histogram, symmetric: bool, read: Read | None = None) -> Range:
    """The range whose quantization, rounding and clipping, has the least mean squared error.

    Args:
        read: what is made of values, [n] to [functions, n]; the error is then that of the results.

    Both ends shrink in turn from the full range; a coarse search, then a fine one around its result.
    """
    if histogram.is_point:
        return Range(histogram.low, histogram.high)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    error = _Error(histogram, read)
    ends = _shrink_both(error, low, high, np.linspace(0.1, 1.0, 91))
    for _ in range(2):
        ends = _shrink_one(error, ends, low, high, symmetric)
    return Range(*ends)


def _shrink_both(error: _Error, low: float, high: float, factors: Array) -> tuple[float, float]:
    errors = [error.of(low * f, high * f) for f in factors]
    # On a tie the wider range: it clips less of what calibration did not see.
    best = len(factors) - 1 - int(np.argmin(errors[::-1]))
    return low * float(factors[best]), high * float(factors[best])


def _shrink_one(
    error: _Error, ends: tuple[float, float], low: float, high: float, symmetric: bool
) -> tuple[float, float]:
    factors = np.linspace(0.1, 1.0, 181)
    if symmetric:
        return _shrink_both(error, low, high, factors)
    errors = [error.of(ends[0], high * f) for f in factors]
    upper = high * float(factors[len(factors) - 1 - int(np.argmin(errors[::-1]))])
    errors = [error.of(low * f, upper) for f in factors]
    return low * float(factors[len(factors) - 1 - int(np.argmin(errors[::-1]))]), upper


class _Error:
    """Squared errors of quantizing what a histogram counts, or what is made of it."""

    def __init__(self, histogram: Histogram, read: Read | None) -> None:
        self._x, self._read = histogram.centres, read or _itself
        self._counts, self._exact = histogram.counts, self._read(histogram.centres)

    def of(self, low: float, high: float) -> float:
        """The sum over the histogram when ``[low, high]`` is divided into 255 steps."""
        step = (high - low) / (LEVELS - 1)
        quantized = (
            np.round(np.clip(self._x, low, high) / step) * step if step > 0 else np.zeros_like(self._x)
        )
        return float((np.square(self._read(quantized) - self._exact) @ self._counts).sum())


def _itself(x: Array) -> Array:
    return x[np.newaxis]


def entropy_range(histogram: Histogram) -> Range:
    """The clipped range with the smallest KL divergence between the values and their quantized copy.

    Migacz's procedure on the magnitudes, with as many levels as int8 has on one side of zero: 128 when
    values have both signs, 256 when they have one.
    """
    if histogram.is_point or not histogram.counts.any():
        return Range(histogram.low, histogram.high)
    two_sided = histogram.low < 0 < histogram.high
    levels = LEVELS // 2 if two_sided else LEVELS
    limit = max(abs(histogram.low), abs(histogram.high))
    bins = np.minimum((np.abs(histogram.centres) * (BINS / limit)).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, weights=histogram.counts, minlength=BINS)
    counts[0] = counts[1]  # zero is represented exactly; behind a ReLU it would drown everything else
    sizes = range(levels, BINS + 1, 8)
    divergences = [_divergence(counts, size, levels) for size in sizes]
    best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    threshold = sizes[best] * limit / BINS
    return Range(max(histogram.low, -threshold), min(histogram.high, threshold))


def _divergence(counts: Array, size: int, levels: int) -> float:
    """KL divergence of the first ``size`` bins, the rest clipped onto the last, from ``levels`` levels."""
    kept = counts[:size]
    reference = kept.astype(np.float64)
    reference[-1] += counts[size:].sum()
    level = np.arange(size) * levels // size
    filled = (kept > 0).astype(np.float64)
    total = np.bincount(level, weights=kept, minlength=levels)
    share = np.bincount(level, weights=filled, minlength=levels)
    quantized = np.where(filled > 0, (total / np.maximum(share, 1))[level], 0.0)
    if quantized.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), quantized / quantized.sum()
    # A bin that only holds clipped values has no quantized copy; Migacz smooths, as here.
    q = np.where(q > 0, q, 1e-12)
    support = p > 0
    return float(np.sum(p[support] * np.log(p[support] / q[support])))
