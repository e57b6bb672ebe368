"""quantize-mixed: bits for each layer under a budget."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference

from irshrink import onnxrt
from irshrink.compiler import compile_model
from irshrink.errors import BudgetError, RecipeError
from irshrink.fit import within_flash
from irshrink.judge import Counted, Expected, _expected_losses
from irshrink.lock import read_lock
from irshrink.module import Module
from irshrink.passes.quantize.mixed.assignment import (
    Candidate,
    assign,
    smallest,
    total_bytes,
    total_loss,
)
from irshrink.passes.quantize.mixed.layers import FLOAT, compose, find_layers
from irshrink.passes.quantize.mixed.quantize_mixed import QuantizeMixed
from irshrink.passes.quantize.mixed.search import file_bytes
from irshrink.passes.quantize.mixed.sensitivity import Method, sensitivity
from irshrink.pipeline import Pipeline
from irshrink.recipe import Recipe, make_recipe
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.verify import verify_structure

MODELS = Path(__file__).parents[1] / "models"
HOST = load_target("host")
QUICK = settings(deadline=None, max_examples=60, derandomize=True)

candidates = st.builds(
    Candidate,
    bits=st.sampled_from([8, 4, 2]),
    nbytes=st.integers(1, 60),
    loss=st.one_of(st.just(0.0), st.floats(1e-9, 10)),
)
networks = st.lists(st.lists(candidates, min_size=1, max_size=4), min_size=1, max_size=5)


@given(networks, st.integers(0, 200))
@QUICK
def test_the_assignment_is_the_best_of_all(layers: list[list[Candidate]], extra: int) -> None:
    limit = smallest(layers) + extra
    found = assign(layers, limit)
    assert found is not None
    allowed = [choice for choice in product(*layers) if total_bytes(choice) <= limit]
    best = min(total_loss(choice) for choice in allowed)
    assert total_bytes(found) <= limit
    assert total_loss(found) == pytest.approx(best, rel=1e-9)
    equal = [total_bytes(choice) for choice in allowed if total_loss(choice) == total_loss(found)]
    assert total_bytes(found) == min(equal)


@given(networks, st.lists(st.integers(0, 200), min_size=2, max_size=4))
@QUICK
def test_more_bytes_never_lose_more(layers: list[list[Candidate]], extra: list[int]) -> None:
    found = [assign(layers, smallest(layers) + more) for more in sorted(extra)]
    losses = [total_loss(choice) for choice in found if choice is not None]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(losses))
    assert assign(layers, smallest(layers) - 1) is None


def test_the_assignment_is_that_of_an_integer_program() -> None:
    """A network of 80 layers, too many to try all: SciPy's solver finds the same, within its tolerance."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    rng = np.random.default_rng(0)
    layers = [
        [Candidate(bits, int(size) * bits // 8 + 40, float(unit * 4.0**-bits)) for bits in (8, 4, 2)]
        for size, unit in zip(rng.lognormal(8, 1.5, 80), rng.lognormal(0, 2, 80), strict=True)
    ]
    limit = smallest(layers) * 2
    flat = [candidate for layer in layers for candidate in layer]
    loss = np.array([c.loss for c in flat])
    one_each = np.kron(np.eye(80), np.ones((1, 3)))
    sizes = np.array([[c.nbytes for c in flat]], np.float64)
    solved = milp(
        loss * 1e3,
        integrality=np.ones(240),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes, -np.inf, limit)],
    )
    found = assign(layers, limit)
    assert found is not None
    assert total_bytes(found) <= limit
    assert total_loss(found) == pytest.approx(solved.fun / 1e3, rel=1e-3)


def build() -> Module:
    """A classifier of three layers with random weights."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (6, 1, 3, 3), "b2": (6,), "w3": (6, 5), "b3": (5,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", group=6),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "third"),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 3, 6, 6)), ("y", (1, 5)))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return Module(ir.from_proto(shape_inference.infer_shapes(model)))


def calibrated(samples: int = 24) -> Module:
    module = build()
    module.calibration = random_samples(input_specs(module.graph), samples)
    return module


def run(module: Module, **options: Any) -> Module:
    step = make_pass("quantize-mixed", {"samples": 6, **options})
    return Pipeline([step], verify=verify_structure).run(module.clone(), HOST)


def uniform(module: Module, bits: int) -> Module:
    result = module.clone()
    Pipeline([make_pass("quantize-int8", {"weight_bits": bits})]).run(result, load_target("host"))
    return result


def stored_bits(module: Module) -> dict[str, int]:
    """Bits of the weights, by the name of their node."""
    found = {}
    for node in module.graph:
        if node.op_type in ("Conv", "Gemm"):
            producer = node.inputs[1].producer() if node.inputs[1] is not None else None
            dtype = None if producer is None else producer.inputs[0].dtype  # type: ignore[union-attr]
            found[str(node.name)] = FLOAT if dtype is None else {"INT8": 8, "INT4": 4, "INT2": 2}[dtype.name]
    return found


def test_a_size_is_kept_to_the_byte() -> None:
    module = calibrated()
    sizes = [file_bytes(uniform(module, bits)) for bits in (8, 4)]
    for limit in (sizes[0], (sizes[0] + sizes[1]) // 2, sizes[1]):
        result = run(module, max_size=limit, bits=[8, 4])
        assert file_bytes(result) <= limit
        assert file_bytes(result) == result.history[-1].stats["file_bytes"]
    with pytest.raises(BudgetError, match=rf"takes {sizes[1]:,} bytes, 1 more than") as info:
        run(module, max_size=sizes[1] - 1, bits=[8, 4])
    assert info.value.exit_code == 2


def test_a_larger_size_is_never_predicted_to_lose_more() -> None:
    module = calibrated()
    small, large = (file_bytes(uniform(module, bits)) for bits in (2, 8))
    predicted = [
        run(module, max_size=limit).history[-1].stats["predicted_loss"]
        for limit in np.linspace(small, large, 4).astype(int).tolist()
    ]
    assert predicted == sorted(predicted, reverse=True)


def test_the_search_is_the_step_that_it_reports() -> None:
    module = calibrated()
    found = run(module, max_drop=0.2)
    again = run(module, max_drop=0.2)
    assert found.text() == again.text()
    step = dict(found.history[-1].stats["step"])
    assert step.pop("pass") == "quantize-int8"
    replayed = module.clone()
    Pipeline([make_pass("quantize-int8", step)]).run(replayed, load_target("host"))
    assert replayed.text() == found.text()
    assert "judge" not in step
    rows = found.history[-1].stats["layer_decisions"]
    assert {row["name"]: row["bits"] for row in rows} == stored_bits(found)
    assert all(list(row["loss"].values()) == sorted(row["loss"].values()) for row in rows)


def test_weights_have_so_many_bits_in_the_mean() -> None:
    module, predicted = calibrated(), []
    for mean in (2, 3, 4.0, 5.5, 8):
        found = run(module, mean_bits=mean, quantize={"rounding": "gptq", "compensate": True})
        stats = found.history[-1].stats
        rows = stats["layer_decisions"]
        weights, bits = sum(r["weights"] for r in rows), sum(r["bits"] * r["weights"] for r in rows)
        assert mean - 4 < bits / weights <= mean
        assert {row["name"]: row["bits"] for row in rows} == stored_bits(found)
        assert (stats["step"]["rounding"], stats["step"]["compensate"]) == ("gptq", True)
        predicted.append(stats["predicted_loss"])
    assert predicted == sorted(predicted, reverse=True)
    Pipeline([make_pass("prune-weights", {"min_elements": 60, "sparsity": 0.7})]).run(module, HOST)
    assert sorted(stored_bits(run(module, mean_bits=2)).values()) == [2, 2, 4]  # zeros are not left out of 2


def test_layers_that_make_up_for_each_other_are_judged_together() -> None:
    module = calibrated()
    options = {"quantize": {"rounding": "gptq", "bias_correction": "empirical", "compensate": True}}
    found = run(module, max_drop=0.1, **options)
    stats = found.history[-1].stats
    assert stats["expected_drop"] <= 0.1
    assert stats["step"]["compensate"]
    assert set(stored_bits(found).values()) != {8}
    with pytest.raises(BudgetError, match="with the most bits everywhere"):
        run(module, max_drop=0.0, bits=[4, 2], **options)


def test_a_variant_takes_over_what_was_found_on_another() -> None:
    first = run(calibrated(), max_drop=0.1)
    second = calibrated(3)
    second.taken_over = first.measured
    again = run(second, max_drop=0.1)
    assert again.text() == first.text()


def test_a_larger_drop_gives_no_larger_file() -> None:
    module = calibrated()
    sizes = [file_bytes(run(module, max_drop=drop, bits=[8, 4, 2])) for drop in (0.02, 0.1, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == file_bytes(uniform(module, 2))


def test_budgets_that_cannot_be_kept() -> None:
    module = calibrated()
    with pytest.raises(BudgetError, match="with the most bits everywhere the model is expected to lose"):
        run(module, max_drop=0.0, bits=[2])
    with pytest.raises(BudgetError, match=r"is the smallest model expected to lose at most 0\.00 points"):
        run(module, max_drop=0.00001, max_size=100, bits=[FLOAT, 8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": [8, 5]}, "bits is"),
        ({"bits": [32]}, "bits is"),
        ({"max_drop": 1.5}, "it is a fraction"),
        ({"max_size": 0}, "max_size is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"mean_bits": 1}, "mean_bits is 1; 2 are the fewest of bits"),
        ({"mean_bits": 4, "max_size": 100}, "mean_bits stands in place of max_drop and max_size"),
        ({"quantize": {"weight_bits": 4}}, "quantize has 'weight_bits', which this pass decides"),
        ({"quantize": {"metod": "mse"}}, "Did you mean 'method'"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_pass("quantize-mixed", options)


def test_it_needs_data() -> None:
    module = build()
    module.calibration = None
    with pytest.raises(RecipeError, match="quantize-mixed needs calibration data"):
        Pipeline([QuantizeMixed()]).run(module, load_target("host"))


def test_a_layer_may_stay_float() -> None:
    """Where nothing may be lost every layer does, and the model computes what it did."""
    module = calibrated()
    found = run(module, max_drop=0.0, bits=[FLOAT, 8])
    assert set(stored_bits(found).values()) == {FLOAT}
    step = found.history[-1].stats["step"]
    assert set(step["keep_float"]) == set(stored_bits(found))
    mixed = run(module, max_drop=0.004, bits=[FLOAT, 8, 4])
    assert FLOAT not in set(stored_bits(mixed).values()) or mixed.history[-1].stats["expected_drop"] <= 0.004


def test_a_composed_mixture_is_the_quantized_model() -> None:
    module = calibrated()
    quantized = {bits: uniform(module, bits) for bits in (8, 4)}
    layers = find_layers(module, quantized)
    bits = [4, 8, 4]
    composed = compose(quantized[4], layers, bits)
    names = {layer.name: b for layer, b in zip(layers, bits, strict=True)}
    direct = module.clone()
    Pipeline([make_pass("quantize-int8", {"layer_bits": names})]).run(direct, load_target("host"))
    assert composed.text() == direct.text()


@pytest.mark.parametrize("method", ["measured", "scaled", "output-error"])
def test_what_is_rounded_more_costs_more(method: Method) -> None:
    module = calibrated()
    layers = find_layers(module, {bits: uniform(module, bits) for bits in (8, 4, 2)})
    assert module.calibration is not None
    losses = sensitivity(module, layers, module.calibration, method, lambda done, total: None)
    assert len(losses) == 3
    assert all(0 <= one[8] < one[4] < one[2] for one in losses)


def test_drops_are_counted_as_compile_counts_them() -> None:
    module = calibrated()
    samples = module.calibration
    assert samples is not None
    counted = Counted(module, samples)
    assert counted.drop(module) == 0
    assert counted.points == "points of agreement"
    mixture = uniform(module, 2)
    before, after = (onnxrt.session(one.model) for one in (module, mixture))
    answers = [
        [int(np.argmax(next(iter(onnxrt.run(session, feeds).values())))) for feeds in samples.feeds()]
        for session in (before, after)
    ]
    assert counted.drop(mixture) == pytest.approx(np.mean(np.array(answers[0]) != np.array(answers[1])))
    assert Expected(module, samples).drop(module) == 0
    assert Expected(module, samples).drop(mixture) > Expected(module, samples).drop(uniform(module, 8))


def test_a_sure_answer_that_changes_counts() -> None:
    """No small noise explains it, so what the float model believed is lost; a toss-up costs little."""
    sure = np.log(np.array([[0.998, 0.001, 0.001]] * 100))
    changed = sure.copy()
    changed[3] = sure[3, [1, 0, 2]]
    assert _expected_losses(sure, sure).mean() == 0
    assert _expected_losses(sure, changed).mean() == pytest.approx(0.997 / 100)
    near = np.log(np.array([[0.36, 0.34, 0.30]] * 100))
    noisy = near + np.random.default_rng(0).normal(0, 0.05, near.shape)
    assert (noisy.argmax(axis=1) != 0).any()
    assert 0 < _expected_losses(near, noisy).mean() < 0.02


@pytest.mark.long
def test_compile_by_budget_and_again_from_the_lock(tmp_path: Path) -> None:
    data = str(MODELS / "kws-samples.npz")
    options = {"target": "host", "calibration": data, "test_inputs": 1}
    recipe = make_recipe({**options, "quantize": "mixed", "max_size": "40K"})
    report = compile_model(MODELS / "kws.onnx", recipe, tmp_path / "a")
    model = (tmp_path / "a" / "model.onnx").read_bytes()
    assert len(model) <= 40 << 10
    lock = read_lock(tmp_path / "a" / "recipe.lock")
    assert lock is not None
    (step,) = lock.recipe["steps"]
    assert step["pass"] == "quantize-int8"
    assert report["recipe"] == lock.recipe
    page = (tmp_path / "a" / "report.html").read_text("utf-8")
    assert "Bits of the weights of every layer" in page
    assert all(name in page for name in step["layer_bits"])
    again = make_recipe({**lock.recipe, "calibration": data})
    compile_model(MODELS / "kws.onnx", again, tmp_path / "b")
    assert (tmp_path / "b" / "model.onnx").read_bytes() == model
    too_large = make_recipe({**options, "quantize": "int8", "max_size": "40K"})
    with pytest.raises(BudgetError, match="size: the ONNX model takes"):
        compile_model(MODELS / "kws.onnx", too_large, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_bits_are_taken_away_until_the_flash_suffices() -> None:
    seen: list[tuple[str | None, int | None]] = []

    def build_one(recipe: Recipe) -> str:
        seen.append((recipe.quantize, recipe.max_size))
        if len(seen) == 3:
            return "built"
        error = BudgetError("flash: too much", over=(1000, 50)[len(seen) - 1])
        error.model_bytes = (9000, 7990)[len(seen) - 1]
        raise error

    recipe = Recipe(target="cortex-m4", quantize="mixed", calibration="x.npz", flash=65536)
    assert within_flash(build_one, recipe) == "built"
    assert seen == [("int8", None), ("mixed", 8000), ("mixed", 7940)]
    with pytest.raises(BudgetError, match="RAM"):
        within_flash(lambda _: _fail("RAM: too much"), recipe)


def test_a_flash_that_the_fewest_bits_do_not_fit_is_what_is_spoken_of() -> None:
    def build_one(recipe: Recipe) -> str:
        if recipe.quantize == "mixed":
            raise BudgetError("size: too large", least_over=1234)
        error = BudgetError("flash: too much", over=1000)
        error.model_bytes = 9000
        raise error

    recipe = Recipe(target="cortex-m4", quantize="mixed", calibration="x.npz", flash=65536)
    with pytest.raises(BudgetError, match=r"flash: .* takes about 66,770 bytes, 1,234 more than the 65,536"):
        within_flash(build_one, recipe)


def _fail(message: str) -> None:
    raise BudgetError(message)


def test_a_budget_in_the_users_metric() -> None:
    stats = run(calibrated(), max_drop=0.05, judge="counted", metric="kl").history[-1].stats
    assert stats["expected_drop"] <= 0.05
    tighter = run(calibrated(), max_drop=0.001, judge="counted", metric="kl").history[-1].stats
    assert tighter["file_bytes"] > stats["file_bytes"]
    with pytest.raises(RecipeError, match="metric and relative_drop are for judge = 'counted'"):
        make_pass("quantize-mixed", {"metric": "kl"})
