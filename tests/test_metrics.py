"""Every metric by hand, against SciPy, or against its definition; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.errors import RecipeError, SamplesError
from irshrink.evaluate import Accuracy, Score, compare
from irshrink.metrics.metric import Observation
from irshrink.metrics.table import fitting_metric, is_share, metric_named
from irshrink.recipe import make_recipe
from irshrink.samples import InputSpec, Samples, load_samples

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = np.array([0, 1])


def value(name: str, given: Array, labels: Array | None = None, expected: Array | None = None) -> float:
    """Of one output by sample, [samples, ...]."""
    metric = metric_named(name, labels)()
    for index, output in enumerate(given):
        right = {"y": output if expected is None else expected[index]}
        inputs = {"x": np.full(3, float(index))}
        metric.add(Observation(inputs, right, {"y": output}, None if labels is None else labels[index]))
    return metric.value()


def samples(folder: Path, **arrays: Any) -> Samples:
    np.savez(folder / "s.npz", x=np.eye(4, 5, dtype=np.float32), **arrays)
    return load_samples(folder / "s.npz", [InputSpec("x", (1, 5), np.dtype(np.float32))], role="evaluation")


def test_top_k_takes_the_first_of_equal_scores() -> None:
    scores = np.array([[[3.0, 2, 1, 0]], [[3.0, 2, 1, 0]], [[1.0, 1, 1, 1]]])
    labels = np.array([1, 3, 0])
    assert value("top-1", scores, labels) == pytest.approx(1 / 3)
    assert value("top-2", scores, labels) == pytest.approx(2 / 3)
    assert value("top-4", scores, labels) == 1


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=12))
def test_auc_is_how_often_a_positive_ranks_above_a_negative(pairs: list[tuple[int, int]]) -> None:
    labels, scores = np.array([label for label, _ in pairs]), np.array([float(s) for _, s in pairs])
    if len(set(labels.tolist())) < 2:
        with pytest.raises(SamplesError, match="all have the label"):
            value("auc", scores.reshape(-1, 1, 1), labels)
        return
    wins = np.sign(scores[labels == 1][:, None] - scores[labels == 0][None])
    expected = pytest.approx((wins.mean() + 1) / 2)
    assert value("auc", scores.reshape(-1, 1, 1), labels) == expected
    two = np.stack([-scores, scores], axis=1)
    assert value("auc", two, labels) == expected


def test_auc_of_several_classes_is_the_mean_of_each_against_the_rest() -> None:
    assert value("auc", np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2])) == 1


def test_f1_of_two_and_of_more_classes() -> None:
    labels = np.array([1, 1, 0, 0])
    assert value("f1", np.eye(2)[[1, 0, 1, 0]], labels) == pytest.approx(0.5)
    assert value("f1", np.array([[0.9], [0.2], [0.7], [0.1]]), labels) == pytest.approx(0.5)
    three = value("f1", np.eye(3)[[0, 1, 1]], np.array([0, 1, 2]))
    assert three == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_mean_absolute_error_with_labels_and_without() -> None:
    given = np.array([[[1.0]], [[4.0]]])
    assert value("mae", given, np.array([2.0, 2.0])) == 1.5
    assert value("mae", given, expected=np.zeros((2, 1, 1))) == 2.5
    with pytest.raises(SamplesError, match=r"1 numbers with 2"):
        value("mae", given, np.zeros((2, 2)))


def test_kullback_leibler_of_probabilities_and_of_logits() -> None:
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert value("kl", q, expected=p) == pytest.approx(expected)
    assert value("kl", np.log(q) + 3, expected=np.log(p)) == pytest.approx(expected)
    assert value("kl", np.array([[0.0, 1.0]]), expected=np.array([[1.0, 0.0]])) < 30


def test_what_a_metric_is_refused_for() -> None:
    with pytest.raises(RecipeError, match=r"'top-1' compares with the classes of samples"):
        metric_named("top-1", None)
    with pytest.raises(RecipeError, match=r"these have none"):
        metric_named("f1", np.array([0.5]))
    with pytest.raises(RecipeError, match=r"metric 'accuracy' is not known. There are top-1, top-5"):
        metric_named("accuracy", CLASSES)
    with pytest.raises(SamplesError, match=r"metric 'kl' needs a model whose one output is a vector"):
        value("kl", np.zeros((1, 2, 3)))


def test_what_fits() -> None:
    assert [fitting_metric(labels, True) for labels in (CLASSES, CLASSES * 0.5, None)] == [
        "top-1",
        "mae",
        "agreement",
    ]
    assert fitting_metric(None, False) == "cosine"
    assert [is_share(name) for name in ("f1", "kl", "a.py:b")] == [True, False, False]


OWN = """
def least(outputs, labels):
    return float(outputs["y"].min()) + float(labels.sum())

def error(expected, outputs, inputs):
    return float(abs(expected["y"] - outputs["y"]).max() + inputs["x"].shape[0])
error.lower_is_better = True

def wrong(weights): return 0
def fails(outputs): return 1 / 0
def nothing(outputs): return float("nan")
"""


def test_a_function_gets_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    given = np.array([[1.0], [2.0]])
    assert value(f"{tmp_path}/own.py:least", given, np.array([3, 4])) == 8
    assert value(f"{tmp_path}/own.py:error", given, expected=given + 1) == 3
    assert metric_named(f"{tmp_path}/own.py:error", None)().falls


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.py:wrong", "its parameter 'weights' is none of outputs, labels"),
        ("own.py:none", "has no function 'none'"),
        ("other.py:f", "there is no file"),
        ("broken.py:f", "cannot be run: SyntaxError"),
        ("own.py:fails", "ZeroDivisionError: division by zero"),
        ("own.py:nothing", "must be a finite number"),
    ],
)
def test_what_a_function_is_refused_for(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def f(:")
    with pytest.raises(RecipeError, match=message):
        value(f"{tmp_path}/{name}", np.ones((2, 1)))


def test_labels_that_are_numbers_are_a_regression(tmp_path: Path) -> None:
    data = samples(tmp_path, y=np.array([1.0, 0, 0, 0]))
    found = compare(lambda f: {"y": f["x"][:, 0]}, lambda f: {"y": f["x"][:, 0] + 1}, data)
    assert (found.original, found.compiled) == (Score("mae", 0.0, 4), Score("mae", 1.0, 4))
    assert (found.falls, found.share, found.drop) == (True, False, 1.0)
    assert found.relative_drop == np.inf
    assert data.classes is None
    assert data.digest() != samples(tmp_path, y=np.array([2.0, 0, 0, 0])).digest()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1.0, np.nan, 0, 0]), "labels 'y' hold NaN or infinity"),
        (np.array([1.0, 2.0]), r"have the shape \[2\], expected \[4\]"),
        (np.ones(4, bool), "they must be integers, the class indices, or real numbers"),
    ],
)
def test_numbers_that_are_refused(tmp_path: Path, labels: Array, message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        samples(tmp_path, y=labels)


def test_a_relative_drop() -> None:
    accuracy = Accuracy(Score("top-1", 0.5, 10), Score("top-1", 0.45, 10))
    assert accuracy.relative_drop == pytest.approx(0.1)
    recipe = make_recipe({"target": "host", "max_drop": "1% relative"})
    assert (recipe.max_drop, recipe.relative_drop) == (0.01, True)
    assert make_recipe({"target": "host", "metric": "mae", "max_drop": 3}).max_drop == 3
    with pytest.raises(RecipeError, match="is more than 100 %"):
        make_recipe({"target": "host", "metric": "f1", "max_drop": 3})
    with pytest.raises(RecipeError, match="metric 'best' is not known"):
        make_recipe({"target": "host", "metric": "best"})
