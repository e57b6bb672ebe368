"""Rounding methods, and the layer-by-layer refinement that calls them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.calibration.calibrate import each_sample
from irshrink.calibration.elimination import eliminate, factor
from irshrink.calibration.walk import LayerWalk
from irshrink.errors import RecipeError
from irshrink.module import Module, module_from_text
from irshrink.passes.quantize.rounding import ROUNDINGS, Problem, RoundingName, refine
from irshrink.passes.quantize.rounding.quantease import descend
from irshrink.passes.quantize.rounding.weight_range import search_scale
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.small_net import RESIDUAL, error, outputs, quantized, small_net

Array = np.ndarray[Any, np.dtype[Any]]
LEARNED: tuple[RoundingName, ...] = ("gptq", "quantease", "adaround")


def problem(seed: int, groups: int = 2, outputs: int = 3, size: int = 12, high: int = 7) -> Problem:
    """Weights and correlated inputs, one of which is always 0."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((groups, outputs, size))
    x = rng.standard_normal((groups, 40, 3)) @ rng.standard_normal((groups, 3, size))
    x += 0.3 * rng.standard_normal(x.shape)
    x[:, :, size // 2] = 0
    hessian = x.swapaxes(1, 2) @ x / 40 + 1e-3 * np.eye(size)
    scale = np.abs(rows).max(axis=2, keepdims=True) / high
    return Problem(rows, scale, hessian, -high - 1, high)


@pytest.mark.parametrize("name", LEARNED)
@settings(deadline=None, max_examples=12, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([1, 7]))
def test_learned_integers_are_better_than_the_nearest(name: RoundingName, seed: int, high: int) -> None:
    asked = problem(seed, high=high)
    found = ROUNDINGS[name](asked)
    assert found.min() >= -high - 1
    assert found.max() <= high
    np.testing.assert_array_equal(found, np.rint(found))
    nearest = asked.error(asked.nearest()).sum()
    assert asked.error(found).sum() <= nearest * (1 + 1e-9)
    np.testing.assert_array_equal(found, ROUNDINGS[name](asked))


@pytest.mark.parametrize("name", LEARNED)
@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(0, 1000))
def test_where_inputs_are_independent_nearest_is_best(name: RoundingName, seed: int) -> None:
    asked = problem(seed)
    diagonal = np.random.default_rng(seed).uniform(0.1, 2, (2, 12))[:, :, np.newaxis] * np.eye(12)
    asked = Problem(asked.rows, asked.scale, diagonal, asked.low, asked.high)
    np.testing.assert_array_equal(ROUNDINGS[name](asked), asked.nearest())


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(0, 1000))
def test_descent_never_climbs_and_ends_where_no_step_helps(seed: int) -> None:
    asked = problem(seed)
    rng = np.random.default_rng(seed)
    start = rng.integers(-7, 8, asked.rows.shape).astype(float)
    found = descend(asked, start)
    assert (asked.error(found) <= asked.error(start) + 1e-9).all()
    settled = ROUNDINGS["quantease"](asked)
    for j in range(asked.rows.shape[2]):
        for step in (-1, 1):
            moved = settled.copy()
            moved[:, :, j] = np.clip(moved[:, :, j] + step, -8, 7)
            assert (asked.error(moved) >= asked.error(settled) - 1e-9).all()


def test_gptq_is_the_same_for_each_group_alone() -> None:
    asked = problem(3)
    both = ROUNDINGS["gptq"](asked)
    for g in range(2):
        alone = Problem(asked.rows[g : g + 1], asked.scale[g : g + 1], asked.hessian[g : g + 1], -8, 7)
        np.testing.assert_array_equal(ROUNDINGS["gptq"](alone)[0], both[g])


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_wanted_stays_as_it_is(order: Literal["C", "F"]) -> None:
    asked = problem(3)
    rows = asked.rows.swapaxes(1, 2).copy().swapaxes(1, 2) if order == "F" else asked.rows.copy()
    settled = eliminate(rows, factor(asked.hessian), lambda wanted, _: np.rint(wanted))
    np.testing.assert_array_equal(rows, asked.rows)
    np.testing.assert_array_equal(settled, np.rint(settled))


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.5, 0.9]))
def test_gptq_with_zeros_is_the_same_for_each_output_without_them(seed: int, share: float) -> None:
    asked = problem(seed, outputs=5)
    pruned = np.random.default_rng(seed).random(asked.rows.shape) < share
    pruned[:, 1] = pruned[:, 0]  # these are settled together, the others side by side
    asked = replace(asked, rows=np.where(pruned, 0.0, asked.rows))
    found = ROUNDINGS["gptq"](asked)
    for group, output in np.ndindex(2, 5):
        inputs = np.flatnonzero(~pruned[group, output])
        alone = replace(
            asked,
            rows=asked.rows[group : group + 1, output : output + 1, inputs],
            scale=asked.scale[group : group + 1, output : output + 1],
            hessian=asked.hessian[group : group + 1, inputs[:, np.newaxis], inputs],
        )
        if len(inputs):
            np.testing.assert_array_equal(ROUNDINGS["gptq"](alone)[0, 0], found[group, output, inputs])
    assert (found[pruned] == 0).all()


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(0, 1000), st.booleans())
def test_a_searched_span_is_no_worse(seed: int, per_channel: bool) -> None:
    asked = problem(seed, groups=4, high=1)
    asked = Problem(asked.rows, np.full_like(asked.scale, asked.scale.max()), asked.hessian, -2, 1)
    for kind in ("mse", "output"):
        scale = search_scale(asked, kind, Problem.nearest, 2, per_channel)
        assert (scale <= asked.scale).all()
        assert len(np.unique(scale.reshape(2, 2, 3), axis=1)[0]) == 1  # parts of one output share it
        assert len(np.unique(scale)) == 1 or per_channel
    found = Problem(asked.rows, scale, asked.hessian, -2, 1)
    assert found.error(found.nearest()).sum() <= asked.error(asked.nearest()).sum() * (1 + 1e-9)


def test_every_name_has_a_method() -> None:
    assert set(get_args(RoundingName)) == set(ROUNDINGS)


@pytest.mark.parametrize("kept_bytes", [0, 10_000, 10**9])
def test_a_walk_reads_what_the_whole_model_computes(kept_bytes: int) -> None:
    module = quantized(small_net())
    samples = module.calibration
    assert samples is not None
    layers = [node for node in module.graph if node.op_type in ("Conv", "Gemm")]
    names = [str(node.inputs[0].name) for node in layers if node.inputs[0]]
    walk = LayerWalk(module, samples, optimize=False, kept_bytes=kept_bytes)
    expected = list(each_sample(module, samples, names))
    for node, name in zip(layers, names, strict=True):
        for x, arrays in zip(walk.read(node), expected, strict=True):
            np.testing.assert_allclose(x, arrays[name], atol=1e-6)


@pytest.mark.parametrize(("bits", "share"), [(2, 0.8), (4, 0.95)])
def test_few_bits_lose_less_when_layers_are_looked_at(bits: Any, share: float) -> None:
    plain = np.mean([error(small_net(seed=s), weight_bits=bits) for s in range(4)])
    best = {"rounding": "quantease", "weight_range": "output", "weight_bits": bits}
    better = np.mean([error(small_net(seed=s), **best) for s in range(4)])
    assert better < share * plain


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_method_in_the_pass(name: RoundingName, per_channel: bool) -> None:
    module = small_net(seed=1)
    options = {"rounding": name, "weight_bits": 4, "per_channel": per_channel, "compensate": True}
    first, second = (
        quantized(module, **options).to_proto().SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second
    assert error(module, **options) < error(module, weight_bits=4, per_channel=per_channel) * 1.5


def test_errors_made_before_are_compensated() -> None:
    """The first layer is rounded to 2 bits; the second can take back what its weights reach."""
    losses = {}
    for compensate in (False, True):
        errors = []
        for seed in range(4):
            module = small_net(RESIDUAL[:1], seed=seed, output=(1, 4, 8, 8))
            wide = _with_second_layer(module, seed)
            errors.append(error(wide, layer_bits={"node_c1": 2}, compensate=compensate, rounding="gptq"))
        losses[compensate] = np.mean(errors)
    assert losses[True] < 0.9 * losses[False]


def _with_second_layer(module: Module, seed: int) -> Module:
    """Another Conv behind a net of one."""
    weight = np.random.default_rng(seed).standard_normal((3, 4, 1, 1)).astype(np.float32)
    graph = module.graph
    value = ir.Value(name="w9", shape=ir.Shape(weight.shape), type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = ir.tensor(weight, name="w9")
    graph.register_initializer(value)
    last = graph.outputs[0]
    node = ir.node("Conv", [last, value], name="node_c9")
    node.outputs[0].name, node.outputs[0].type = "y9", ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape([1, 3, 8, 8])
    graph.append(node)
    graph.outputs[0] = node.outputs[0]
    return module


def test_large_layers_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = error(small_net(), weight_bits=4, rounding="gptq")
    monkeypatch.setattr(refine, "LARGEST_MATRIX", 9)
    assert error(small_net(), weight_bits=4, rounding="gptq") < 2 * whole + 0.01


def test_a_model_of_constants_and_dead_channels() -> None:
    """An input that is always 0, weights of 0, a bias far above the weights: nothing divides by nothing."""
    module = module_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3] x) => (float[1, 3] z)
        <float[3, 3] w = {0.0, 1.0, 2.0, 0.0, 3.0, -1.0, 0.0, 0.5, 1e-9}, float[3] b = {5.0, -1.0, 1e6},
         float[3, 3] v = {1.0, 1.0, 2.0, 0.0, 3.0, -1.0, 0.0, 0.5, 1.0}>
        { n = Sub (x, x)
          a = Gemm (n, w, b)
          y = Gemm (a, v)
          z = Gemm <transB = 1> (y, w, b) }"""
    )
    module.calibration = random_samples(input_specs(module.graph), 8, 0)
    for name in ROUNDINGS:
        result = quantized(module, rounding=name, bias_correction="empirical", compensate=True, weight_bits=4)
        assert np.isfinite(outputs(result)).all()


def test_variants_share_what_the_first_one_settled() -> None:
    options = {"rounding": "gptq", "bias_correction": "empirical", "compensate": True, "weight_bits": 4}
    first = small_net()
    other = first.clone()
    step = [make_pass("quantize-int8", options)]
    Pipeline(step).run(first, load_target("host"))
    other.taken_over = first.measured
    Pipeline(step).run(other, load_target("host"))
    np.testing.assert_array_equal(outputs(first), outputs(other))


def test_a_layer_whose_rows_are_not_known_is_rounded_to_nearest() -> None:
    module = module_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 1, 4, 4] x) => (float[1, 1, 8, 8] y) <float[1, 1, 2, 2] w = {1.0, 2.0, 3.0, -4.0}>
        { y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (x, w) }"""
    )
    module.calibration = random_samples(input_specs(module.graph), 4, 0)
    result = quantized(module, rounding="gptq")
    assert result.history[0].notes == (
        "ConvTranspose 'y' is rounded to nearest: its padding follows from the shape of its output",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping is 0.0; it must be above 0 and at most 1"),
        ({"rounding": "up"}, "rounding: 'up' is not known. Known: adaround, gptq, nearest, quantease"),
        ({"bias_correction": True}, "bias_correction"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_pass("quantize-int8", options)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", LEARNED)
@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(0, 1000))
def test_pruned_weights_stay_zero(name: RoundingName, seed: int) -> None:
    asked = problem(seed)
    pruned = np.random.default_rng(seed).random(asked.rows.shape) < 0.5
    asked = Problem(np.where(pruned, 0.0, asked.rows), asked.scale, asked.hessian, asked.low, asked.high)
    found = ROUNDINGS[name](asked)
    assert (found[pruned] == 0).all()
    assert (found[~pruned] != 0).any()
    assert asked.error(found).sum() <= asked.error(asked.nearest()).sum() * (1 + 1e-9)
