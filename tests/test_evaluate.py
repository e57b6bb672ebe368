"""Metrics, and which of them a model gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.agreement import Agreement, cosine
from irshrink.errors import SamplesError
from irshrink.evaluate import Score, compare, evaluate, is_classifier
from irshrink.samples import InputSpec, Samples, load_samples

Array = np.ndarray[Any, np.dtype[Any]]
X = np.eye(4, 5, dtype=np.float32)


def samples(folder: Path, **arrays: Any) -> Samples:
    np.savez(folder / "s.npz", x=X, **arrays)
    spec = InputSpec("x", (1, 5), np.dtype(np.float32))
    return load_samples(folder / "s.npz", [spec], role="evaluation")


def first_four(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {"scores": feeds["x"][:, :4]}


def always_first(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {"scores": np.array([[1.0, 0.0, 0.0, 0.0]])}


def shifted(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": feeds["x"] + np.float32(1)}


def test_top1_with_labels(tmp_path: Path) -> None:
    data = samples(tmp_path, y=np.array([0, 1, 2, 0]))
    assert evaluate(first_four, data) == Score("top-1", 0.75, 4)
    accuracy = compare(first_four, always_first, data)
    assert (accuracy.original.value, accuracy.compiled.value) == (0.75, 0.5)
    assert accuracy.drop == 0.25


def test_agreement_without_labels(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    accuracy = compare(first_four, always_first, samples(tmp_path), lambda i, n: seen.append((i, n)))
    assert accuracy.original == Score("agreement", 1.0, 4)
    assert accuracy.compiled == Score("agreement", 0.25, 4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cosine_for_everything_else(tmp_path: Path) -> None:
    accuracy = compare(shifted, shifted, samples(tmp_path))
    assert accuracy.compiled.metric == "cosine"
    assert accuracy.compiled.value == pytest.approx(1.0)


def test_cosine_of_zeros() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, one) == 0.0
    assert cosine(one, -one) == 0.0
    assert cosine(one, one * np.nan) == 0.0
    assert cosine(np.array([np.inf, 1.0]), np.array([np.inf, 2.0])) == pytest.approx(1.0)


def test_a_small_output_does_not_vanish_beside_a_large_one(tmp_path: Path) -> None:
    """A score of one element, wrong in half of the samples, and a state of 256 that is right."""

    def wrong_score(feeds: Mapping[str, Array]) -> dict[str, Array]:
        state, score = np.full((1, 256), 3.0), feeds["x"][:, :1] + 1
        return {"state": state, "score": score}

    def right_state(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {"state": np.full((1, 256), 3.0), "score": np.ones((1, 1))}

    accuracy = compare(wrong_score, right_state, samples(tmp_path))
    state, score = accuracy.outputs
    assert (state.name, state.elements, state.cosine) == ("state", 256, 1.0)
    assert (score.elements, score.max_abs_difference, score.max_abs_value) == (1, 1.0, 2.0)
    assert score.cosine == pytest.approx(5 / np.sqrt(7 * 4))  # 2, 1, 1, 1 and 1, 1, 1, 1
    assert accuracy.compiled.value == score.cosine
    assert accuracy.drop == pytest.approx(1 - score.cosine)


def test_nan_of_the_compiled_model_is_no_difference() -> None:
    agreement = Agreement()
    for given in (np.ones(3), np.full(3, np.nan), np.ones(3)):
        agreement.add({"y": np.ones(3)}, {"y": given})
    [score] = agreement.scores()
    assert (score.cosine, score.max_abs_difference) == (pytest.approx(2 / 3), None)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 10), True), ((1, 10, 1, 1), True), ((1, 1), False), ((1, 5), False), ((1, 2, 3), False)],
)
def test_what_a_classifier_is(shape: tuple[int, ...], expected: bool) -> None:
    assert is_classifier({"x": np.zeros((1, 5))}, {"y": np.zeros(shape)}) is expected


def test_two_outputs_are_no_classifier() -> None:
    assert not is_classifier({"x": np.zeros((1, 5))}, {"a": np.zeros((1, 3)), "b": np.zeros((1, 3))})


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"s.npz: has no labels. Give class indices as the array 'y'"):
        evaluate(first_four, samples(tmp_path))
    with pytest.raises(SamplesError, match=r"label 4, but the model has 4 classes, 0\.\.3"):
        compare(first_four, first_four, samples(tmp_path, y=np.array([0, 1, 4, 0])))
    with pytest.raises(
        SamplesError, match=r"has labels, but the model's outputs are not one vector of scores"
    ):
        compare(lambda _: {"y": np.zeros((2, 2))}, first_four, samples(tmp_path, y=np.zeros(4, np.int64)))
