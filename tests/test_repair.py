"""Repair without training: least squares on calibration data, never worse on what it was not fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.calibration.patches import input_rows, output_rows, weight_rows
from irshrink.calibration.regression import Regression, repaired
from irshrink.errors import RecipeError
from irshrink.graph.edit import constant, set_constant
from irshrink.module import Module, Original
from irshrink.passes.prune.repair.least_squares import is_held
from irshrink.passes.prune.repair.rectified import Rows, repaired_behind
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.small_net import small_net

Array = np.ndarray[Any, np.dtype[Any]]


#: Rows to fit to, and rows held back.
HALVES = (slice(None, None, 2), slice(1, None, 2))


def problem(seed: int, rows: int, noise: float) -> tuple[Array, Array, Array]:
    """Inputs [1, rows, 6], wanted outputs [1, rows, 3], weights to begin with [1, 3, 6]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, rows, 6)) @ rng.standard_normal((6, 6)) + rng.standard_normal(6)
    true = rng.standard_normal((1, 3, 6))
    t = x @ true.swapaxes(1, 2) + rng.standard_normal(3) + noise * rng.standard_normal((1, rows, 3))
    return x, t, true + rng.choice([0.0, 0.3]) * rng.standard_normal((1, 3, 6))


def sums(x: Array, t: Array) -> Regression:
    found = Regression.zero(1, t.shape[2], x.shape[2])
    found.update(x, t)
    return found


class TestRegression:
    def test_exact_data_give_exact_weights(self) -> None:
        x, t, start = problem(0, 50, 0.0)
        found = repaired(
            sums(x[:, :40], t[:, :40]), sums(x[:, 40:], t[:, 40:]), start, np.zeros((1, 3)), True
        )
        given_back = x @ found.weights.swapaxes(1, 2) + found.bias
        np.testing.assert_allclose(given_back, t, atol=1e-2 * float(t.std()))

    def test_the_error_is_that_of_the_rows(self) -> None:
        x, t, start = problem(1, 20, 0.5)
        bias = np.array([[0.1, -0.2, 0.3]])
        direct = np.square(x @ start.swapaxes(1, 2) + bias - t).mean(axis=1)
        np.testing.assert_allclose(sums(x, t).error(start, bias), direct, rtol=1e-9)

    def test_an_infinite_pull_moves_the_bias_alone(self) -> None:
        x, t, start = problem(2, 20, 0.5)
        weights, bias = sums(x, t).fit(start, np.inf, True)
        np.testing.assert_array_equal(weights, start)
        np.testing.assert_allclose((x @ start.swapaxes(1, 2) + bias).mean(axis=1), t.mean(axis=1))

    @pytest.mark.parametrize("strength", [0.0, 1e-6, 1e-2])
    def test_inputs_that_do_not_vary_say_nothing_about_weights(self, strength: float) -> None:
        """Around their mean are rounding errors alone, which solve to anything, or not at all."""
        rng = np.random.default_rng(0)
        x = np.tile(100 * rng.standard_normal(8), (1, 64, 1))
        start = np.ones((1, 3, 8))
        weights, _ = sums(x, rng.standard_normal((1, 64, 3))).fit(start, strength, True)
        np.testing.assert_allclose(weights, start, atol=0.05)

    @settings(deadline=None, max_examples=25, derandomize=True)
    @given(st.integers(0, 10**6), st.integers(4, 40), st.sampled_from([0.0, 0.5, 5.0]), st.booleans())
    def test_never_worse_on_what_is_held_back(self, seed: int, rows: int, noise: float, bias: bool) -> None:
        x, t, start = problem(seed, rows, noise)
        held = sums(x[:, ::4], t[:, ::4])
        zero = np.zeros((1, 3))
        found = repaired(
            sums(np.delete(x, np.s_[::4], 1), np.delete(t, np.s_[::4], 1)), held, start, zero, bias
        )
        assert found.after <= found.before
        assert held.error(found.weights, found.bias).sum() <= held.error(start, zero).sum() * (1 + 1e-9)

    @settings(deadline=None, max_examples=15, derandomize=True)
    @given(st.integers(0, 10**6), st.integers(8, 40), st.sampled_from([0.1, 2.0]))
    def test_never_worse_behind_an_activation(self, seed: int, rows: int, noise: float) -> None:
        x, t, start = problem(seed, rows, noise)
        added = np.asarray(np.random.default_rng(seed).standard_normal(t.shape))
        parts = [Rows([x[:, part]], [t[:, part]], [added[:, part]]) for part in HALVES]
        found = repaired_behind(parts[0], parts[1], (0.0, 6.0), start, np.zeros((1, 3)))

        def error(weights: Array, bias: Array) -> float:
            now = x @ weights.swapaxes(1, 2) + bias + added
            off = np.clip(now, 0, 6) - np.clip(t + added, 0, 6)
            return float(np.square(off[:, HALVES[1]]).sum())

        assert error(found.weights, found.bias) <= error(start, np.zeros((1, 3))) * (1 + 1e-5)

    def test_behind_a_relu_what_is_cut_off_is_free(self) -> None:
        rng = np.random.default_rng(4)
        x = rng.standard_normal((1, 400, 2))
        true = np.array([[[1.0, -1.0]]])
        t = np.where((y := x @ true.swapaxes(1, 2)) > 0, y, 3 * y)  # not linear, but the same behind a Relu
        rows = [Rows([x[:, half]], [t[:, half]], [0 * t[:, half]]) for half in HALVES]
        found = repaired_behind(rows[0], rows[1], (0.0, np.inf), 1.5 * true, np.zeros((1, 1)), (1e-3,))
        plain = repaired(
            sums(x[:, ::2], t[:, ::2]), sums(x[:, 1::2], t[:, 1::2]), 1.5 * true, np.zeros((1, 1)), True
        )
        off = [float(np.abs(one.weights - true).max()) for one in (found, plain)]
        assert off[0] < 0.1 < off[1]


def damaged(seed: int = 0) -> tuple[Module, Module]:
    """A net, and the same with its first weights changed."""
    module = small_net(seed=seed)
    module.calibration = random_samples(input_specs(module.graph), 32)
    whole = module.clone()
    module.original = Original(whole)
    rng = np.random.default_rng(seed)
    for node in module.graph:
        if node.op_type in ("Conv", "Gemm"):
            weight = constant(node.inputs[1])
            assert weight is not None
            noise = 0.3 * rng.standard_normal(weight.shape) * weight.std()
            set_constant(node, 1, (weight + noise).astype(np.float32), "weight")
    return whole, module


def run(module: Module) -> Array:
    session = onnxrt.session(module.model, optimize=False)
    feeds = random_samples(input_specs(module.graph), 16, 7).feeds()
    return np.concatenate([next(iter(onnxrt.run(session, feed).values())) for feed in feeds])


@pytest.mark.parametrize("seed", range(3))
def test_the_pass_repairs_any_change_of_weights(seed: int) -> None:
    whole, module = damaged(seed)
    before = float(np.square(run(module) - run(whole)).mean())
    Pipeline([make_pass("repair")]).run(module, load_target("host"))
    assert float(np.square(run(module) - run(whole)).mean()) < 0.05 * before
    assert module.history[-1].stats["layers"] == 3


def test_a_model_that_nobody_changed_stays() -> None:
    module = small_net()
    module.keep_original()
    before = run(module)
    Pipeline([make_pass("repair")]).run(module, load_target("host"))
    assert module.history[-1].stats["layers"] == 0
    np.testing.assert_array_equal(run(module), before)


def test_without_data() -> None:
    module = small_net()
    module.calibration = None
    with pytest.raises(RecipeError, match="repair needs at least two calibration samples"):
        Pipeline([make_pass("repair")]).run(module, load_target("host"))


def test_some_are_held_back_of_two_samples_on() -> None:
    for count in (2, 3, 4, 5, 9):
        held = [is_held(index, count) for index in range(count)]
        assert any(held)
        assert not all(held)


def test_places_of_outputs_are_those_of_inputs() -> None:
    module = small_net()
    node = next(iter(module.graph))
    weight = constant(node.inputs[1])
    assert weight is not None
    feeds = next(iter(random_samples(input_specs(module.graph), 1).feeds()))
    probe = module.clone()
    probe.graph.outputs.append(next(iter(probe.graph)).outputs[0])
    y = onnxrt.run(onnxrt.session(probe.model, optimize=False), feeds)["c1"]
    bias = constant(node.inputs[2])
    x = input_rows(node, weight.shape, feeds["x"], 10, np.random.default_rng(3))
    rows = output_rows(node, 1, y, 10, np.random.default_rng(3))
    np.testing.assert_allclose(
        x @ weight_rows(node, weight).swapaxes(1, 2) + bias, rows, rtol=1e-3, atol=1e-4
    )


def test_what_is_left_of_what_was_left() -> None:
    original = Original(small_net())
    once = original.without({"v": (None, np.array([0, 2, 5, 7]))})
    twice = once.without({"v": (None, np.array([1, 3])), "w": (np.array([0]),)})
    np.testing.assert_array_equal(twice.restricted("v", np.arange(16).reshape(2, 8)), [[2, 7], [10, 15]])
    assert once.restricted("w", np.arange(3)).tolist() == [0, 1, 2]
