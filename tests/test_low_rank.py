"""Low rank: full rank changes nothing, the error is the tail of singular values, budgets are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs
from irshrink.changes import STATS_KEY
from irshrink.errors import RecipeError
from irshrink.graph.shapes import infer_shapes
from irshrink.layer_cost import Cost, Unit
from irshrink.module import Module, module_from_text
from irshrink.passes.lowrank.allocate import Candidate, Choice, choose_together
from irshrink.passes.lowrank.factorize_cp import Cp
from irshrink.passes.lowrank.factorize_spatial import Spatial
from irshrink.passes.lowrank.factorize_tucker import Tucker
from irshrink.passes.lowrank.form import Form
from irshrink.passes.lowrank.layers import find_layers
from irshrink.passes.lowrank.problem import Problem, whitening
from irshrink.passes.lowrank.svd import CHANNELS, DENSE
from irshrink.passes.lowrank.write import write_factors
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs, load_samples
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.builder import ModelBuilder
from irshrink.verify import verify_structure

Array = np.ndarray[Any, np.dtype[Any]]
HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'
CONV_FORMS = (CHANNELS, Spatial(), Tucker())


def random_problem(seed: int, outputs: int, size: int) -> Problem:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((size, size)) * np.exp(rng.normal(0, 1, size))
    return Problem(rng.standard_normal((outputs, size)), mixing @ mixing.T / size)


def conv_module(**attributes: Any) -> Module:
    builder = ModelBuilder(lambda options: options[0])
    builder.rng = np.random.default_rng(3)
    x = builder.input((1, 4, 9, 8))
    value = builder.op("Conv", x, builder.floats(5, 4, 3, 3), builder.floats(5), **attributes)
    module = Module(ir.from_proto(builder.model([value])))
    infer_shapes(module.model)
    return module


def run(module: Module, *steps: tuple[str, dict[str, Any]]) -> Module:
    copy = module.clone()
    passes = [make_pass(name, options) for name, options in steps]
    return Pipeline(passes, verify=verify_structure).run(copy, load_target("host"))


def outputs(module: Module, of: Module) -> Array:
    session = onnxrt.session(module.model, optimize=False)
    samples = of.calibration or random_samples(input_specs(of.graph), 4)
    return np.concatenate([next(iter(onnxrt.run(session, feeds).values())) for feeds in samples.feeds()])


def macs(module: Module) -> int:
    return sum(value or 0 for value in graph_macs(module.graph).values())


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 999), outs=st.integers(2, 9), size=st.integers(2, 12), data=st.data())
def test_the_error_of_rank_r_is_the_tail_of_the_whitened_singular_values(
    seed: int, outs: int, size: int, data: st.DataObject
) -> None:
    problem = random_problem(seed, outs, size)
    rank = data.draw(st.integers(1, min(outs, size)))
    singular = np.linalg.svd(problem.target @ whitening(problem.second), compute_uv=False)
    tail = np.square(singular[rank:]).sum() / np.square(singular).sum()
    out, into = problem.split(rank)
    assert problem.error(out @ into) == pytest.approx(tail, rel=1e-4, abs=1e-8)
    assert problem.tail()[rank] == pytest.approx(tail, rel=1e-4, abs=1e-8)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 999), rank=st.integers(1, 4))
def test_whitened_factors_lose_no_more_than_those_of_the_weights(seed: int, rank: int) -> None:
    problem = random_problem(seed, 6, 8)
    plain = Problem(problem.target, np.eye(8))
    whitened, other = (np.matmul(*one.split(rank)) for one in (problem, plain))
    assert problem.error(whitened) <= problem.error(other) + 1e-9


@pytest.mark.parametrize("form", CONV_FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 2, 0, 1]},
        {"strides": [2, 1], "pads": [1, 1, 1, 1]},
        {"dilations": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
    ],
    ids=["pads", "strides", "dilations", "same-upper", "same-lower"],
)
def test_full_rank_is_the_same_function(form: Form, attributes: dict[str, Any]) -> None:
    module = conv_module(**attributes)
    before = outputs(module, module)
    changed = module.clone()
    (layer,), _ = find_layers(changed.graph)
    ranks = form.ranks(layer, 1)[-1]
    problem = random_problem(1, *layer.rows.shape)
    problem = Problem(layer.rows, problem.second)
    stages = form.stages(layer, ranks)
    write_factors(layer, stages, form.factor(layer, problem, ranks))
    infer_shapes(changed.model)
    np.testing.assert_allclose(outputs(changed, module), before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    assert macs(changed) == sum(stage.macs for stage in stages)


def test_full_rank_of_a_matrix_is_the_same_function() -> None:
    text = """g (float[3, 6] x) => (float[3, 5] y)
       <float[5, 6] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 1, 8, 9,
                         0, 1, 0, 2, 0, 3, 4, 0, 5, 0, 6, 0},
        float[5] b = {1, 2, 3, 4, 5}>
    { y = Gemm <transB = 1, alpha = 2.0, beta = 0.5> (x, w, b) }"""
    module = module_from_text(HEADER + text)
    before = outputs(module, module)
    changed = module.clone()
    (layer,), _ = find_layers(changed.graph)
    ranks = DENSE.ranks(layer, 1)[-1]
    problem = Problem(layer.rows, random_problem(2, 5, 6).second)
    write_factors(layer, DENSE.stages(layer, ranks), DENSE.factor(layer, problem, ranks))
    np.testing.assert_allclose(outputs(changed, module), before, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("form", [Spatial(), Tucker()], ids=lambda form: form.name)
def test_the_errors_that_a_form_foretells_are_those_of_its_factors(form: Form) -> None:
    (layer,), _ = find_layers(conv_module().graph)
    problem = Problem(layer.rows, random_problem(4, *layer.rows.shape).second)
    ranks = form.ranks(layer, 1)
    foretold = form.errors(layer, problem, ranks)
    found = [problem.error(form.factor(layer, problem, one).matrix) for one in ranks]
    np.testing.assert_allclose(foretold, found, rtol=1e-3, atol=1e-6)


def test_cp_finds_a_sum_of_two_products() -> None:
    module = conv_module()
    (layer,), _ = find_layers(module.graph)
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.standard_normal((2, n)) for n in (5, 4, 3, 3))
    problem = Problem(np.einsum("ro,ri,ra,rb->oiab", a, b, c, d).reshape(5, -1), np.eye(36))
    assert problem.error(Cp().factor(layer, problem, (2,)).matrix) < 1e-6


def net() -> Module:
    """Two convolutions whose outputs lie near few directions, then a dense layer of full rank."""
    builder = ModelBuilder(lambda options: options[0])
    rng = builder.rng = np.random.default_rng(7)

    def near(outs: int, ins: int, rank: int, kernel: int) -> str:
        weights = rng.standard_normal((outs, rank)) @ rng.standard_normal((rank, ins * kernel**2))
        noise = 0.02 * rng.standard_normal(weights.shape)
        return builder.constant((weights + noise).reshape(outs, ins, kernel, kernel).astype(np.float32), True)

    x = builder.input((1, 4, 8, 8))
    a = builder.op("Relu", builder.op("Conv", x, near(16, 4, 3, 3), builder.floats(16), pads=[1] * 4))
    b = builder.op("Relu", builder.op("Conv", a, near(16, 16, 4, 3), builder.floats(16), pads=[1] * 4))
    pooled = builder.op("Flatten", builder.op("GlobalAveragePool", b))
    value = builder.op("Gemm", pooled, builder.floats(16, 8), builder.floats(8))
    module = Module(ir.from_proto(builder.model([value])))
    infer_shapes(module.model)
    module.calibration = random_samples(input_specs(module.graph), 12)
    return module


def relative(found: Array, wanted: Array) -> float:
    return float(np.square(found - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


def test_a_budget_of_macs_is_kept_and_told() -> None:
    module = net()
    wanted = outputs(module, module)
    small = run(module, ("low-rank", {"by": "macs", "budget": 0.5, "multiple": 1}))
    assert macs(small) <= 0.5 * macs(module)
    assert relative(outputs(small, module), wanted) < 0.02
    rows = small.history[-1].stats[STATS_KEY]
    assert [row["kind"] for row in rows] == ["rank"] * len(rows)
    assert all(row["output_error"] < 0.05 and "of the energy" in row["detail"] for row in rows)
    assert sum(row["after"]["macs"] for row in rows) <= 0.5 * macs(module)


def test_layers_fitted_in_turn_make_up_for_those_before_them() -> None:
    module = net()
    wanted = outputs(module, module)
    options = {"by": "rank", "budget": 3, "multiple": 1}
    errors = {
        sequential: relative(
            outputs(run(module, ("factorize-channels", {**options, "sequential": sequential})), module),
            wanted,
        )
        for sequential in (True, False)
    }
    assert errors[True] <= errors[False]


def test_two_runs_give_the_same_bytes() -> None:
    first, second = (run(net(), ("low-rank", {"budget": 0.2, "multiple": 1})) for _ in range(2))
    assert ir.to_proto(first.model).SerializeToString() == ir.to_proto(second.model).SerializeToString()


def test_factorized_layers_can_be_quantized() -> None:
    module = net()
    wanted = outputs(module, module)
    small = run(module, ("low-rank", {"by": "macs", "budget": 0.5, "multiple": 1}), ("quantize-int8", {}))
    assert relative(outputs(small, module), wanted) < 0.05


class Slow:
    """A target on which every layer costs the same, whatever its size: more layers cost more."""

    unit: Unit = "instructions"
    exact = True

    def of_node(self, node: ir.Node) -> Cost | None:
        assert node.outputs[0].shape is not None
        return Cost(1000.0, self.unit, "measured")


def test_what_costs_more_on_the_target_is_left_alone() -> None:
    module = net().clone()
    module.calibration = net().calibration
    steps = [make_pass("low-rank", {"budget": 0.3, "multiple": 1})]
    Pipeline(steps, verify=verify_structure, costs=Slow()).run(module, load_target("host"))  # type: ignore[arg-type]
    record = module.history[-1]
    assert not record.changed
    assert any("saves target" in note for note in record.notes)


def test_one_budget_takes_from_the_layer_that_loses_least() -> None:
    (layer,), _ = find_layers(conv_module().graph)

    def choice(errors: list[float], sensitivity: float) -> Choice:
        found = [Candidate(CHANNELS, (r,), e, 100.0 - 20 * r, 0.5) for r, e in enumerate(errors, start=1)]
        return Choice(layer, 100.0, found, sensitivity=sensitivity)

    choices = [choice([0.01, 0.02, 0.03], 1.0), choice([0.01, 0.02, 0.03], 10.0)]
    assert choose_together(choices, "macs", 0.8, 200.0)
    assert choices[0].chosen is not None
    assert choices[0].chosen.cost == 60.0
    assert choices[1].chosen is None
    assert "other layers" in choices[1].reason
    assert not choose_together(choices, "macs", 0.1, 200.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.5}, "budget is 1.5"),
        ({"by": "rank", "budget": 0.5, "scope": "layer"}, "by = rank"),
        ({"by": "rank", "budget": 4.0}, "by = rank"),
        ({"multiple": 0}, "multiple is 0"),
        ({"damping": -1.0}, "damping is -1.0"),
        ({"least_saving": 1.0}, "least_saving is 1.0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_pass("low-rank", options)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    module = conv_module()
    with pytest.raises(RecipeError, match="fit = outputs needs calibration data"):
        run(module, ("low-rank", {}))
    with pytest.raises(RecipeError, match="what layers cost on 'host' is not known here"):
        run(module, ("low-rank", {"fit": "weights", "saves": "target"}))
    with pytest.raises(RecipeError, match="keep: no node is named or is a 'nobody'"):
        run(module, ("low-rank", {"fit": "weights", "keep": ["nobody"]}))
    with pytest.raises(RecipeError, match="budget is 0"):
        make_pass("factorize-embedding", {"budget": 0.0})


def test_a_layer_to_be_kept_is_kept(tmp_path: Path) -> None:
    module = net()
    small = run(module, ("low-rank", {"by": "macs", "budget": 0.4, "multiple": 1, "keep": ["Gemm"]}))
    assert any("it is to be kept" in note for note in small.history[-1].notes)


def test_samples_of_a_file_serve_as_well(tmp_path: Path) -> None:
    module = net()
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "s.npz", x=rng.standard_normal((3, 1, 4, 8, 8)).astype(np.float32))
    module.calibration = load_samples(tmp_path / "s.npz", input_specs(module.graph), role="calibration")
    small = run(module, ("factorize-channels", {"by": "rank", "budget": 4, "multiple": 1}))
    assert macs(small) < macs(module)


@pytest.mark.parametrize("budget", [0.02, 0.2])
def test_a_budget_of_error_is_one_of_the_model_that_comes_out(budget: float) -> None:
    module = net()
    wanted = outputs(module, module)
    small = run(module, ("low-rank", {"budget": budget, "multiple": 1}))
    record = small.history[-1]
    assert relative(outputs(small, module), wanted) <= (1.5 * budget) ** 2
    assert not record.changed or record.stats["output_error"] <= budget**2
    assert macs(small) < macs(module) or not record.changed


def test_a_quantized_model_is_dequantized_changed_and_quantized_again() -> None:
    module = net()
    quantized = run(module, ("quantize-int8", {}))
    quantized.calibration = module.calibration
    small = run(quantized, ("low-rank", {"by": "macs", "budget": 0.5, "multiple": 1}))
    assert any("the model came quantized" in note for note in small.history[-1].notes)
    assert any(node.op_type == "DequantizeLinear" for node in small.graph)
    assert relative(outputs(small, module), outputs(module, module)) < 0.05
