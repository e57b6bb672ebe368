"""How good a model is on samples, and how much of that a compiled one keeps. Streamed, one sample at a time.

Metrics, all of them fractions of which 1 is best:

- ``top-1``: the class with the largest score is the label;
- ``agreement``: the class with the largest score is the float model's, for classifiers without labels;
- ``cosine``: cosine similarity with the float model's output, for everything that is no classifier; of
  several outputs that of the worst (:mod:`irshrink.agreement`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from irshrink.agreement import Agreement, OutputScore
from irshrink.errors import ModelError, SamplesError
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
#: Arrays by input name in the graph's shapes in, real numbers by output name out.
Run = Callable[[dict[str, Array]], Mapping[str, Array]]
Metric = Literal["top-1", "agreement", "cosine"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """``value`` of ``metric`` over so many samples."""

    metric: Metric
    value: float
    samples: int


@dataclass(frozen=True)
class Accuracy:
    """The same metric before and after, and every output beside the float model's."""

    original: Score
    compiled: Score
    outputs: tuple[OutputScore, ...] = ()

    @property
    def drop(self) -> float:
        """What was lost, as a fraction: 0.01 is one percentage point. Negative for a gain."""
        return self.original.value - self.compiled.value


def evaluate(run: Run, samples: Samples, progress: Progress | None = None) -> Score:
    """Top-1 of a classifier on labelled samples.

    Raises:
        SamplesError: there are no labels, or the model is no classifier for them.
    """
    labels = _labels(samples)
    correct = 0
    for index, feeds in enumerate(samples.feeds()):
        outputs = run(feeds)
        _require_classes(outputs, int(labels[index]), samples)
        correct += _answer(outputs) == int(labels[index])
        _report(progress, index, samples)
    return Score("top-1", correct / len(samples), len(samples))


def rehearse(original: Run, samples: Samples) -> None:
    """Whether the float model can be judged on these samples, told before any long work.

    Raises:
        SamplesError: the labels do not fit the model's output.
        ModelError: an output is NaN.
    """
    outputs = original(next(samples.feeds()))
    _require_numbers(outputs, samples, 0)
    if samples.labels is not None:
        _require_classes(outputs, int(samples.labels.max()), samples)


def compare(original: Run, compiled: Run, samples: Samples, progress: Progress | None = None) -> Accuracy:
    """Run both on every sample: top-1 with labels, else agreement (classifiers) or cosine similarity.

    A model is a classifier when its one output is a vector of two or more scores that is not as long as its
    input (which would be an autoencoder).

    Raises:
        SamplesError: the labels do not fit the model's output.
        ModelError: an output of the original is NaN.
    """
    labels = samples.labels
    metric: Metric | None = None if labels is None else "top-1"
    agreement = Agreement()
    before = after = 0
    for index, feeds in enumerate(samples.feeds()):
        expected, given = original(feeds), compiled(feeds)
        _require_numbers(expected, samples, index)
        if metric is None:
            metric = "agreement" if is_classifier(feeds, expected) else "cosine"
        if labels is not None:
            _require_classes(expected, int(labels[index]), samples)
            before += _answer(expected) == int(labels[index])
            after += _answer(given) == int(labels[index])
        elif metric == "agreement":
            before += 1
            after += _answer(given) == _answer(expected)
        agreement.add(expected, given)
        _report(progress, index, samples)
    assert metric is not None, "load_samples refuses empty data"
    count, outputs = len(samples), agreement.scores()
    found = (before / count, after / count)
    if metric == "cosine":
        found = (1.0, min(output.cosine for output in outputs))
    return Accuracy(Score(metric, found[0], count), Score(metric, found[1], count), outputs)


def is_classifier(feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> bool:
    """One output, a vector of two or more scores (dimensions of 1 do not count), not as long as an input."""
    if len(outputs) != 1:
        return False
    scores = next(iter(outputs.values()))
    vector = scores.size >= 2 and max(scores.shape) == scores.size
    return vector and all(scores.size != array.size for array in feeds.values())


def _answer(outputs: Mapping[str, Array]) -> int:
    return int(np.argmax(next(iter(outputs.values()))))


def _require_numbers(outputs: Mapping[str, Array], samples: Samples, index: int) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            where = samples.source.describe(int(samples.select[index]))
            raise ModelError(
                f"{samples.path}: output '{name}' of the float model is NaN on {where}. "
                "Check the preprocessing of the samples, and the model."
            )


def _labels(samples: Samples) -> Array:
    if samples.labels is None:
        raise SamplesError(f"{samples.path}: has no labels. Give class indices as the array 'y'.")
    return samples.labels


def _require_classes(outputs: Mapping[str, Array], label: int, samples: Samples) -> None:
    scores = next(iter(outputs.values()))
    if len(outputs) != 1 or max(scores.shape, default=1) != scores.size or scores.size < 2:
        raise SamplesError(
            f"{samples.path}: has labels, but the model's outputs are not one vector of scores. "
            "Leave the labels 'y' out to compare with the float model."
        )
    if label >= scores.size:
        raise SamplesError(
            f"{samples.path}: label {label}, but the model has {scores.size} classes, 0..{scores.size - 1}."
        )


def _report(progress: Progress | None, index: int, samples: Samples) -> None:
    if progress is not None:
        progress(index + 1, len(samples))
