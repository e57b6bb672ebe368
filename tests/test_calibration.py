"""Ranges from streamed samples: observers on known distributions, and the model run that feeds them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.calibration import CalibrationMethod, calibrate, channel_means
from irshrink.calibration.observers import (
    BINS,
    Histogram,
    MinMax,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)
from irshrink.errors import ModelError
from irshrink.module import Module, module_from_text
from irshrink.samples import Samples, input_specs, load_samples

Array = np.ndarray[Any, np.dtype[Any]]
METHODS: tuple[Literal["minmax", "percentile", "entropy", "mse", "output"], ...] = (
    "minmax",
    "percentile",
    "entropy",
    "mse",
    "output",
)

NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] z)
   <float two = {2.0}>
{
   d = Mul (x, two)
   r = Relu (d)
   z = Sub (r, two)
}"""


def histogram(values: Array) -> Histogram:
    result = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values.astype(np.float32), 7):
        result.update(part)
    return result


def normal(count: int = 200_000) -> Array:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def samples(folder: Path, module: Module, values: Array) -> Samples:
    np.savez(folder / "s.npz", x=values)
    return load_samples(folder / "s.npz", input_specs(module.graph), role="calibration")


def photos(count: int) -> Array:
    return np.random.default_rng(count).uniform(-1, 1, (count, 2, 4, 4)).astype(np.float32)


def test_minmax() -> None:
    observer = MinMax()
    for part in np.array_split(normal(), 5):
        observer.update(part)
    assert observer.range() == Range(float(normal().min()), float(normal().max()))
    assert MinMax().range() == Range(0.0, 0.0)


def test_histogram_counts_everything_once() -> None:
    values = normal()
    counted = histogram(values)
    assert counted.counts.shape == (BINS,)
    assert counted.counts.sum() == values.size
    mean = counted.counts @ counted.centres / values.size
    assert mean == pytest.approx(values.mean(), abs=1e-2)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 5), st.floats(-100, 100), st.floats(0.001, 100))
def test_every_range_lies_inside_the_values(seed: int, centre: float, width: float) -> None:
    values = (np.random.default_rng(seed).standard_normal(500) * width + centre).astype(np.float32)
    counted = histogram(values)
    slack = (counted.high - counted.low) / BINS * 1.01
    for found in (percentile_range(counted, 99.0), entropy_range(counted)):
        assert counted.low - slack <= found.min <= found.max <= counted.high + slack
    best = mse_range(counted, symmetric=False)
    assert min(counted.low, 0.0) <= best.min <= best.max <= max(counted.high, 0.0)


def test_percentile_cuts_the_tails() -> None:
    found = percentile_range(histogram(normal()), 99.0)
    assert found.min == pytest.approx(-2.576, abs=0.05)
    assert found.max == pytest.approx(2.576, abs=0.05)
    everything = percentile_range(histogram(normal()), 100.0)
    assert everything.max == pytest.approx(float(normal().max()), abs=0.01)


def quantization_error(values: Array, found: Range) -> float:
    step = (found.max - found.min) / 255
    quantized = np.round(np.clip(values, found.min, found.max) / step) * step
    return float(np.square(values - quantized).mean())


def test_mse_clips_an_outlier_when_that_pays() -> None:
    values = np.append(normal(), np.float32(60))
    full = Range(float(values.min()), 60.0)
    found = mse_range(histogram(values), symmetric=False)
    assert found.max < 50
    assert quantization_error(values, found) < 0.8 * quantization_error(values, full)


def test_mse_keeps_a_uniform_range() -> None:
    values = np.random.default_rng(0).uniform(0, 6, 100_000).astype(np.float32)
    found = mse_range(histogram(values), symmetric=False)
    assert found.min == 0.0
    assert found.max == pytest.approx(6.0, rel=0.02)


def test_mse_symmetric() -> None:
    found = mse_range(histogram(normal()), symmetric=True)
    assert found.min == -found.max


def test_entropy_clips_outliers_and_ignores_the_zeros_of_relu() -> None:
    values = np.append(normal(), np.float32(60))
    assert entropy_range(histogram(values)).max < 20
    relu = np.maximum(normal(), 0)
    found = entropy_range(histogram(relu))
    assert found.min == 0
    assert found.max > 2.5


@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 3.0), np.array([0.0, 1e-38])])
def test_one_value_only(values: Array) -> None:
    counted = histogram(values)
    assert percentile_range(counted, 99.9) == entropy_range(counted) == mse_range(counted, False)


@pytest.mark.parametrize("method", METHODS)
def test_calibrate_sees_inputs_intermediates_and_outputs(tmp_path: Path, method: Any) -> None:
    module = module_from_text(NET)
    x = photos(20)
    progress: list[tuple[int, int]] = []
    ranges = calibrate(
        module,
        samples(tmp_path, module, x),
        CalibrationMethod(method),
        ["x", "d", "r", "z"],
        unclipped=["z"],
        progress=lambda done, total: progress.append((done, total)),
    )
    exact = {"x": x, "d": 2 * x, "r": np.maximum(2 * x, 0), "z": np.maximum(2 * x, 0) - 2}
    assert list(ranges) == ["x", "d", "r", "z"]
    assert ranges["z"] == Range(float(exact["z"].min()), float(exact["z"].max()))
    for name, values in exact.items():
        assert ranges[name].max <= values.max() * 1.01 + 0.01
        if method == "minmax":
            assert ranges[name] == Range(float(values.min()), float(values.max()))
    total = 20 if method == "minmax" else 40
    assert progress == [(i, total) for i in range(1, total + 1)]
    assert [v.name for v in module.graph.outputs] == ["z"]


def test_channel_means(tmp_path: Path) -> None:
    module = module_from_text(NET)
    x = photos(7)
    means = channel_means(module, samples(tmp_path, module, x), ["x", "d"])
    np.testing.assert_allclose(means["d"], 2 * x.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)


def test_memory_does_not_grow_with_samples(tmp_path: Path) -> None:
    module = module_from_text(NET.replace("4, 4", "64, 64"))
    x = np.random.default_rng(0).uniform(-1, 1, (80, 2, 64, 64)).astype(np.float32)
    data = samples(tmp_path, module, x)
    del x
    peaks = []
    for count in (4, 8, 80):  # the first run also pays for imports and caches
        tracemalloc.start()
        calibrate(module, data.head(count), CalibrationMethod("mse"), ["x", "d", "r", "z"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1]


def test_an_input_with_a_default_keeps_it(tmp_path: Path) -> None:
    module = module_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 4, 4] x, float s) => (float[1, 2, 4, 4] z) <float s = {2.0}> { z = Mul (x, s) }"""
    )
    ranges = calibrate(module, samples(tmp_path, module, photos(3)), CalibrationMethod(), ["s", "z"])
    assert ranges["s"] == Range(2.0, 2.0)


def test_overflow_in_the_model_is_named(tmp_path: Path) -> None:
    module = module_from_text(NET.replace("Relu (d)", "Exp (d)"))
    x = photos(3)
    x[1] = 100
    with pytest.raises(
        ModelError, match=r"value 'r' of the float model is NaN or infinite on calibration sample 1"
    ):
        calibrate(module, samples(tmp_path, module, x), CalibrationMethod(), ["d", "r"])


def test_output_clips_what_no_layer_reads_with_large_weights(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 2, 8, 8] x) => (float[1, 1, 8, 8] y)
       <float[1, 2, 1, 1] w = {1.0, 0.001}>
    {
       r = Relu (x)
       y = Conv (r, w)
    }"""
    module = module_from_text(text)
    values = normal(16 * 128).reshape(16, 1, 2, 8, 8)
    values[:, :, 1] *= 20
    data = samples(tmp_path, module, values)
    ends = {
        m: calibrate(module, data, CalibrationMethod(m), ["r"])["r"].max for m in ("minmax", "mse", "output")
    }
    assert ends["output"] < 10
    assert 20 < ends["mse"] <= ends["minmax"]
