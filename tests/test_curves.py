"""Ranges of values that only functions of one value read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.calibration import CalibrationMethod, calibrate
from irshrink.calibration.curves import Curve, Functions, sampled, without_flat_ends
from irshrink.calibration.observers import Histogram, Range, mse_range
from irshrink.module import Module, module_from_text
from irshrink.passes.quantize.functions import functions_behind
from irshrink.passes.quantize.plan import make_plan
from irshrink.samples import input_specs, load_samples

Array = np.ndarray[Any, np.dtype[Any]]


def hardswish(x: Array) -> Array:
    return np.stack([x * np.clip(x / 6 + 0.5, 0, 1)])


def sigmoid(x: Array) -> Array:
    return np.stack([1 / (1 + np.exp(-x))])


def curve(function: Callable[[Array], Array], found: Range) -> Curve:
    return sampled(Functions(("y",), function), found)


def test_flat_ends_are_left_out() -> None:
    found = Range(-20.0, 10.0)
    cut = without_flat_ends(found, curve(hardswish, found))
    assert cut.min == pytest.approx(-3, abs=0.02)
    assert cut.min <= -3 + 0.01
    assert cut.max == 10
    wide = Range(-30.0, 30.0)
    both = without_flat_ends(wide, curve(sigmoid, wide))
    assert -10 < both.min < -7
    assert 7 < both.max < 10


@pytest.mark.parametrize("function", [lambda x: np.stack([x]), lambda x: np.stack([0 * x])])
def test_what_is_flat_nowhere_or_everywhere_keeps_its_range(function: Any) -> None:
    found = Range(-1.0, 7.0)
    assert without_flat_ends(found, curve(function, found)) == found


def test_all_functions_that_read_a_value_count() -> None:
    found = Range(-20.0, 10.0)
    several = curve(lambda x: np.concatenate([hardswish(x), np.stack([np.minimum(x, -5)])]), found)
    assert without_flat_ends(found, several) == found


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(0, 1000), st.floats(0.5, 8), st.floats(-6, 4))
def test_the_range_suits_what_is_made_of_the_value(seed: int, spread: float, mean: float) -> None:
    values = np.random.default_rng(seed).normal(mean, spread, 20_000).astype(np.float32)
    counted = Histogram(float(values.min()), float(values.max()))
    counted.update(values)
    read = curve(hardswish, Range(counted.low, counted.high))

    def error(found: Range) -> float:
        low, high = min(found.min, 0.0), max(found.max, 0.0)
        step = (high - low) / 255
        rounded = np.round(np.clip(values, low, high) / step) * step
        return float(np.square(hardswish(rounded) - hardswish(values)).sum())

    assert error(mse_range(counted, False, read.at)) <= error(mse_range(counted, False)) * 1.02


NET = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] z)
   <float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float three = {3.0}, float zero = {0.0}, float six = {6.0}>
{
   [first] a = Conv (x, w)
   [sum] b = Add (a, three)
   [clip] c = Clip (b, zero, six)
   [product] d = Mul (a, c)
   [quotient] e = Div (d, six)
   [second] z = Conv (e, w)
}"""


def found_in(text: str) -> dict[str, Functions]:
    module: Module = module_from_text(text)
    return functions_behind(module, make_plan(module.graph, (), lambda note: None))


def test_runs_of_operators_are_functions() -> None:
    found = found_in(NET)
    assert list(found) == ["a"]
    x = np.linspace(-5, 5, 11, dtype=np.float32)
    np.testing.assert_allclose(found["a"].evaluate(x), hardswish(x), atol=1e-6)


def test_a_value_that_something_else_reads_has_none() -> None:
    assert found_in(NET.replace("Conv (e, w)", "MatMul (e, a)")) == {}
    assert (
        found_in(NET.replace("=> (float[1, 2, 4, 4] z)", "=> (float[1, 2, 4, 4] z, float[1, 2, 4, 4] a)"))
        == {}
    )


def test_what_layers_make_of_channels_counts_through_functions(tmp_path: Path) -> None:
    """A channel that the next layer hardly reads may be clipped: its weights are 100 times smaller."""
    text = NET.replace(
        "float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}", "float[2, 2, 1, 1] w = {1.0, 0.0, 0.0, 50.0}"
    )
    module = module_from_text(
        text.replace("Conv (e, w)", "Conv (e, u)").replace(
            "float three", "float[2, 2, 1, 1] u = {1.0, 0.01, 1.0, 0.01}, float three"
        )
    )
    values = np.random.default_rng(0).normal(2, 1, (8, 2, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "s.npz", x=values)
    samples = load_samples(tmp_path / "s.npz", input_specs(module.graph), role="calibration")
    functions = functions_behind(module, make_plan(module.graph, (), lambda note: None))
    wide, narrow = (
        calibrate(module, samples, CalibrationMethod(name), ["a"], functions=functions)["a"].max
        for name in ("mse", "output")
    )
    assert narrow < 0.8 * wide
