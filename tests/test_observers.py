"""Ranges chosen from histograms against brute force on the values themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from irshrink.calibration.observers import (
    BINS,
    Histogram,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)

Array = np.ndarray[Any, np.dtype[Any]]

rng = np.random.default_rng(7)
DISTRIBUTIONS: dict[str, Array] = {
    "normal": rng.standard_normal(20_000),
    "relu": np.maximum(rng.standard_normal(20_000), 0),
    "laplace": rng.laplace(size=20_000) * 3 + 1,
    "outliers": np.append(rng.standard_normal(20_000), [40.0, -25.0, 39.0]),
    "negative": -rng.gamma(2.0, size=20_000),
    "two bumps": np.concatenate([rng.normal(-3, 0.2, 10_000), rng.normal(5, 0.5, 10_000)]),
    "few values": rng.choice([0.0, 0.25, 1.0, 6.0], 20_000),
}


@pytest.fixture(params=DISTRIBUTIONS)
def values(request: pytest.FixtureRequest) -> Array:
    return DISTRIBUTIONS[request.param].astype(np.float32)


def histogram(values: Array) -> Histogram:
    result = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values, 5):
        result.update(part)
    return result


def test_histogram_equals_numpy_s(values: Array) -> None:
    """But for values within float32's rounding of an edge."""
    counted = histogram(values)
    expected, _ = np.histogram(values.astype(np.float64), BINS, (counted.low, counted.high))
    assert counted.counts.sum() == values.size
    assert np.abs(np.cumsum(counted.counts) - np.cumsum(expected)).max() <= 0.002 * values.size or (
        values.size > np.unique(values).size * 100  # few values: each may lie on an edge
    )


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99, 100.0])
def test_percentile_cuts_as_much_as_it_may(values: Array, percentile: float) -> None:
    """Half of the rest at each end, and one more bin would be too much."""
    counted = histogram(values)
    found = percentile_range(counted, percentile)
    tail = round(values.size * (100 - percentile) / 200)  # a whole number here; either side of it will do
    width = (counted.high - counted.low) / BINS
    edge = 1e-5 * (counted.high - counted.low)  # a value on an edge may count on either side
    assert np.sum(values < found.min - edge) <= tail + 0.5
    assert np.sum(values > found.max + edge) <= tail + 0.5
    assert np.sum(values < found.min + width + edge) > tail - 0.5 or percentile == 100.0
    assert np.sum(values > found.max - width - edge) > tail - 0.5 or percentile == 100.0


def true_error(values: Array, low: float, high: float) -> float:
    step = (high - low) / 255
    if step <= 0:
        return float(np.square(values).mean())
    quantized = np.round(np.clip(values, low, high) / step) * step
    return float(np.square(values - quantized).mean())


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_finds_a_range_as_good_as_a_search_over_the_values(values: Array, symmetric: bool) -> None:
    found = mse_range(histogram(values), symmetric)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
        assert found.min == -found.max
    shares = np.linspace(0.05, 1.0, 39)
    x = values.astype(np.float64)
    pairs = [(low * s, high * s) for s in shares]
    if not symmetric:
        pairs += [(low * s, high * t) for s in shares[::3] for t in shares[::3]]
    best = min(true_error(x, a, b) for a, b in pairs)
    assert true_error(x, found.min, found.max) <= 1.1 * best + 1e-12


def literal_entropy(counted: Histogram) -> Range:
    """Migacz's procedure (GTC 2017, the slide "Pseudocode"), loop by loop."""
    levels = 128 if counted.low < 0 < counted.high else 256
    limit = max(abs(counted.low), abs(counted.high))
    bins = [0.0] * BINS
    for centre, count in zip(counted.centres, counted.counts, strict=True):
        bins[min(int(abs(centre) * (BINS / limit)), BINS - 1)] += count
    bins[0] = bins[1]
    best, threshold = math.inf, BINS
    for size in range(levels, BINS + 1, 8):
        reference = bins[:size]
        reference[-1] += sum(bins[size:])
        copies = [0.0] * size
        for level in range(levels):
            members = [i for i in range(size) if i * levels // size == level]
            filled = [i for i in members if bins[i] > 0]
            for i in filled:
                copies[i] = sum(bins[j] for j in members) / len(filled)
        total, copied = sum(reference), sum(copies)
        if copied == 0:
            continue
        divergence = 0.0
        for p, q in zip(reference, copies, strict=True):
            if p > 0:
                share = q / copied if q > 0 else 1e-12
                divergence += p / total * math.log(p / total / share)
        if divergence <= best:
            best, threshold = divergence, size
    cut = threshold * limit / BINS
    return Range(max(counted.low, -cut), min(counted.high, cut))


@pytest.mark.parametrize("name", ["normal", "outliers", "relu"])
def test_entropy_is_the_procedure_step_by_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 512 bins: the loops are slow."""
    monkeypatch.setattr("irshrink.calibration.observers.BINS", 512)
    monkeypatch.setattr(f"{__name__}.BINS", 512)
    values = DISTRIBUTIONS[name].astype(np.float32)
    counted = Histogram(float(values.min()), float(values.max()), np.zeros(512, np.int64))
    counted.update(values)
    expected, found = literal_entropy(counted), entropy_range(counted)
    assert (found.min, found.max) == pytest.approx((expected.min, expected.max))
