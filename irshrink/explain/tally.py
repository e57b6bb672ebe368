"""Running sums over samples about one value of a graph, in float and rounded. Memory does not grow with data.

    signal-to-noise ratio = -10 log10(mean over samples of sum (f - q)^2 / sum f^2) dB

with f the value in float and q what stands for it in the quantized model, over all elements of a sample: a
sample counts the same however large its values are.
An ideal rounding of values that are spread evenly over n levels has 20 log10(n) dB: 48 dB for 8 bits (Jayant
and Noll, *Digital Coding of Waveforms*, 1984, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log10
from typing import Any

import numpy as np

from irshrink.calibration.observers import Range
from irshrink.graph.quantized import Affine

Array = np.ndarray[Any, np.dtype[Any]]

#: Bits of a float32 below those that a bin is named by: sign, exponent and 3 bits of the fraction are left.
_SHIFT = 20
_BINS = 1 << (32 - _SHIFT)
#: What no noise at all is told as.
BEST_DB = 200.0


def decibels(signal: float, noise: float) -> float:
    """The ratio of two energies in dB, at most :data:`BEST_DB`; 0 energy of both is no noise."""
    if noise <= 0 or not np.isfinite(noise):
        return BEST_DB if noise <= 0 else -BEST_DB
    return -BEST_DB if signal <= 0 else float(np.clip(10 * log10(signal / noise), -BEST_DB, BEST_DB))


@dataclass
class Magnitudes:
    """A histogram of any range: 8 bins an octave, by sign, from the bits of float32."""

    counts: Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def update(self, values: Array) -> None:
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
        self.counts += np.bincount(bits >> np.uint32(_SHIFT), minlength=_BINS)

    @property
    def ordered(self) -> tuple[Array, Array]:
        """The finite bins from the smallest number to the largest: their middles and their counts."""
        half = _BINS // 2
        finite = half - (1 << (23 - _SHIFT))  # the last exponent is that of infinity and NaN
        starts = (np.arange(finite, dtype=np.uint32) << np.uint32(_SHIFT)).view(np.float32).astype(np.float64)
        middles = (starts + np.append(starts[1:], 2.0**128)) / 2
        middles[0] = 0.0
        below = self.counts[half : half + finite][::-1]
        return np.concatenate([-middles[::-1], middles]), np.concatenate([below, self.counts[:finite]])

    def quantiles(self, *shares: float) -> tuple[float, ...]:
        """The values below which such shares of all lie, to a twelfth of their size."""
        middles, counts = self.ordered
        total = np.cumsum(counts)
        if not total[-1]:
            return (0.0,) * len(shares)
        places = [int(np.searchsorted(total, max(share * total[-1], 1))) for share in shares]
        return tuple(float(middles[min(place, len(middles) - 1)]) for place in places)


@dataclass
class Tally:
    """Sums about one point.

    Attributes:
        grid: what it is rounded to.
        axis: that counts channels in the arrays; None where there are none.
        ends: the smallest and largest float value of each sample.
        power: energy of the float value, over all samples.
        signal, alone, weights, whole, rounding: of each sample, relative to its energy (so that ``signal``
        counts
            samples that are not 0), energies of the float value, and of its difference to: the
            layer's result from float inputs, rounded; that before rounding it; the whole quantized model's;
            and of rounding alone.
        shift: the same of the mean error of each channel that rounded constants make: what a bias could mend.
        clip: the same of what lies outside of the grid, ``clipped`` how many values lie below and above.
        channel_low, channel_high, channel_noise, channel_power: per channel: ends of the float value, energy
            of the layer's error, and of the float value.
    """

    grid: Affine | None
    axis: int | None
    count: int = 0
    ends: list[tuple[float, float]] = field(default_factory=list)
    magnitudes: Magnitudes = field(default_factory=Magnitudes)
    codes: Array | None = None
    power: float = 0.0
    signal: float = 0.0
    shift: float = 0.0
    alone: float = 0.0
    weights: float = 0.0
    whole: float = 0.0
    rounding: float = 0.0
    clip: float = 0.0
    clipped: tuple[int, int] = (0, 0)
    channel_low: Array | None = None
    channel_high: Array | None = None
    channel_noise: Array | None = None
    channel_power: Array | None = None

    def add(self, real: Array, computed: Array, whole: Array) -> None:
        """One sample.

        Args:
            real: in float.
            computed: by the layer with rounded constants from float inputs, not rounded yet.
            whole: what stands for the value in the quantized model.
        """
        real, computed, whole = (np.asarray(a, np.float32) for a in (real, computed, whole))
        self.count += real.size
        if real.size == 0:
            return
        self.ends.append((float(real.min()), float(real.max())))
        self.magnitudes.update(real)
        rounded = self._round(computed)
        error = rounded - real
        power = energy(real)
        self.power += power
        self._channels(real, error)
        if power == 0:
            return
        self.signal += 1
        self.alone += energy(error) / power
        self.weights += energy(computed - real) / power
        self.rounding += energy(rounded - computed) / power
        self.whole += energy(whole - real) / power
        self.clip += self._clip(real) / power
        self.shift += self._shift(computed - real) / power

    def snr(self, noise: float) -> float:
        return decibels(self.signal, noise)

    @property
    def seen(self) -> Range:
        """The range of the float value over all samples."""
        lows, highs = zip(*self.ends, strict=True) if self.ends else ((0.0,), (0.0,))
        return Range(min(lows), max(highs))

    def _round(self, values: Array) -> Array:
        """What DequantizeLinear makes of QuantizeLinear's codes, which are counted."""
        if self.grid is None:
            return values
        limits = np.iinfo(self.grid.dtype)
        scale = np.float32(self.grid.scale)
        codes = np.clip(np.rint(values / scale) + self.grid.zero_point, limits.min, limits.max)
        if self.codes is None:
            self.codes = np.zeros(int(limits.max) - int(limits.min) + 1, np.int64)
        places = np.nan_to_num(codes, nan=limits.min).astype(np.int32).reshape(-1) - int(limits.min)
        self.codes += np.bincount(places, minlength=self.codes.size)
        return np.asarray((codes - np.float32(self.grid.zero_point)) * scale)

    def _clip(self, real: Array) -> float:
        """Energy of what lies outside of the grid; the values are counted."""
        if self.grid is None:
            return 0.0
        low, high = self.grid.range
        below, above = real < low - self.grid.scale / 2, real > high + self.grid.scale / 2
        self.clipped = self.clipped[0] + int(below.sum()), self.clipped[1] + int(above.sum())
        return energy(real[below] - np.float32(low)) + energy(real[above] - np.float32(high))

    def _shift(self, error: Array) -> float:
        """Energy of the mean of each channel."""
        if self.axis is None:
            return 0.0
        means = error.mean(axis=self._others(error), dtype=np.float64)
        return energy(means) * float(error.size / means.size)

    def _others(self, values: Array) -> tuple[int, ...]:
        """The axes that do not count channels."""
        return tuple(i for i in range(values.ndim) if i != self.axis)

    def _channels(self, real: Array, error: Array) -> None:
        if self.axis is None:
            return
        others = self._others(real)
        low, high = real.min(axis=others), real.max(axis=others)
        noise, power = (np.square(values).sum(axis=others, dtype=np.float64) for values in (error, real))
        if self.channel_low is None:
            self.channel_low, self.channel_high = low, high
            self.channel_noise, self.channel_power = noise, power
            return
        assert self.channel_high is not None
        assert self.channel_noise is not None
        self.channel_low = np.minimum(self.channel_low, low)
        self.channel_high = np.maximum(self.channel_high, high)
        self.channel_noise = self.channel_noise + noise
        self.channel_power = self.channel_power + power


def energy(values: Array) -> float:
    """Sum of squares, in float64; infinite where a value is not finite."""
    total = float(np.einsum("i,i->", values.reshape(-1), values.reshape(-1), dtype=np.float64))
    return total if np.isfinite(total) else inf
