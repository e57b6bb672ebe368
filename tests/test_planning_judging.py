"""How much accuracy a plan loses: counted as a compilation counts, with its standard error, or estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from irshrink import onnxrt
from irshrink.evaluate import compare
from irshrink.judge import Expected
from irshrink.module import Module
from irshrink.planning.judging import Judge
from irshrink.samples import Samples, input_specs, load_samples

Pair = tuple[Module, Module]


def linear(weights: np.ndarray[Any, Any]) -> Module:
    """Scores of five classes."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return Module(ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=8)))


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A model and the same with some noise."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((192, 5)) / 8
    return linear(weights), linear(weights + rng.standard_normal((192, 5)) / 80)


def data(folder: Path, module: Module, count: int, labels: str | None) -> Samples:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {"x": rng.standard_normal((count, 3, 8, 8)).astype(np.float32)}
    if labels == "classes":
        arrays["y"] = rng.integers(0, 5, count)
    if labels == "numbers":
        arrays["y"] = rng.standard_normal((count, 5))
    np.savez(folder / "data.npz", **arrays)
    return load_samples(folder / "data.npz", input_specs(module.graph), role="calibration")


@pytest.mark.parametrize(
    ("metric", "labels"),
    [("top-1", "classes"), ("top-2", "classes"), ("f1", "classes"), ("auc", "classes"), ("mae", "numbers"),
     ("agreement", None), ("kl", None), ("cosine", None), ("mae", None)],
)  # fmt: skip
@pytest.mark.parametrize("relative", [False, True])
def test_drops_are_those_of_a_compilation(
    pair: Pair, tmp_path: Path, metric: str, labels: str | None, relative: bool
) -> None:
    module, changed = pair
    samples = data(tmp_path, module, 120, labels)
    judge = Judge(module, samples, metric, 1.0, relative)
    before, after = onnxrt.session(module.model), onnxrt.session(changed.model)
    found = compare(lambda x: onnxrt.run(before, x), lambda x: onnxrt.run(after, x), samples, metric=metric)
    verdict = judge.judge(changed)
    assert not judge.estimated
    assert verdict.drop == (found.relative_drop if relative else found.drop)
    assert (judge.metric, judge.title, judge.share) == (metric, found.title, found.share)
    assert judge.original == found.original.value
    assert np.isclose(verdict.loss, Expected(module, samples).loss(changed))
    assert judge.judge(module).drop == 0
    assert judge.judge(module).spread == 0


def test_the_standard_error_is_that_of_paired_answers(pair: Pair, tmp_path: Path) -> None:
    module, changed = pair
    samples = data(tmp_path, module, 120, None)
    before, after = onnxrt.session(module.model), onnxrt.session(changed.model)
    lost = [
        float(onnxrt.run(before, x)["y"].argmax() != onnxrt.run(after, x)["y"].argmax())
        for x in samples.feeds()
    ]
    verdict = Judge(module, samples, "agreement", 1.0).judge(changed)
    assert verdict.drop == pytest.approx(np.mean(lost)) != 0
    assert np.isclose(verdict.spread, np.std(lost, ddof=1) / np.sqrt(120))


def test_the_jackknife_agrees_with_the_formula_where_there_is_one(pair: Pair, tmp_path: Path) -> None:
    module, changed = pair
    samples = data(tmp_path, module, 400, "classes")
    judge = Judge(module, samples, "top-1", 1.0)
    by_formula = judge.judge(changed).spread
    file = tmp_path / "metric.py"
    file.write_text(
        "def share(outputs, labels):\n    return (outputs['y'][:, 0].argmax(1) == labels).mean()\n"
    )
    own = Judge(module, samples, f"{file}:share", 1.0).judge(changed)
    assert own.drop == pytest.approx(judge.judge(changed).drop)
    assert 0.5 * by_formula < own.spread < 2 * by_formula


@pytest.mark.parametrize(
    ("count", "max_drop", "relative", "estimated"),
    [
        (300, None, False, True),
        (600, None, False, False),
        (300, 0.01, False, True),
        (300, 0.04, False, False),
    ],
)
def test_too_few_answers_are_estimated(
    pair: Pair, tmp_path: Path, count: int, max_drop: float | None, relative: bool, estimated: bool
) -> None:
    module, changed = pair
    samples = data(tmp_path, module, count, None)
    judge = Judge(module, samples, None, max_drop, relative)
    assert judge.metric == "agreement"
    assert judge.estimated == estimated
    verdict = judge.judge(changed)
    counted = Judge(module, samples, None, 1.0).judge(changed)
    assert verdict.spread > 0
    assert abs(verdict.drop - counted.drop) < 4 * counted.spread + 0.02


def test_no_numbers_are_estimated_where_outputs_are_no_classes(tmp_path: Path) -> None:
    module = linear(np.ones((192, 5)))
    samples = data(tmp_path, module, 20, None)
    for metric in ("cosine", "kl", "mae"):
        assert not Judge(module, samples, metric, 0.001).estimated


def test_the_smooth_loss_is_found_on_1024_samples(pair: Pair, tmp_path: Path) -> None:
    module, changed = pair
    samples = data(tmp_path, module, 1100, None)
    found = Judge(module, samples, None, 0.5).judge(changed).loss
    few = samples.spread(1024)
    assert np.isclose(found, Expected(module, few).loss(changed), rtol=1e-12)
