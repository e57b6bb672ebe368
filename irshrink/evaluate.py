"""How good a model is on samples, and how much of that a compiled one keeps. Streamed, one sample at a time.

What is counted is a metric (:mod:`irshrink.metrics`): chosen by name, or what fits the model and the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from irshrink.agreement import Agreement, OutputScore
from irshrink.errors import ModelError, SamplesError
from irshrink.metrics.metric import Observation, Outputs, answer
from irshrink.metrics.table import fitting_metric, metric_named
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
#: Arrays by input name in the graph's shapes in, real numbers by output name out.
Run = Callable[[dict[str, Array]], Mapping[str, Array]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """``value`` of ``metric`` over so many samples."""

    metric: str
    value: float
    samples: int


@dataclass(frozen=True)
class Accuracy:
    """The same metric before and after, and every output beside the float model's.

    Attributes:
        title: what the metric is called in a report.
        share: whether it is a fraction, of which a hundredth is a point.
        falls: whether less is better.
    """

    original: Score
    compiled: Score
    outputs: tuple[OutputScore, ...] = ()
    title: str = ""
    share: bool = True
    falls: bool = False

    @property
    def drop(self) -> float:
        """What was lost, in the metric's own unit: of a share 0.01 is one point. Negative for a gain."""
        lost = self.original.value - self.compiled.value
        return -lost if self.falls else lost

    @property
    def relative_drop(self) -> float:
        """What was lost as a fraction of what there was; infinite where there was nothing."""
        if self.drop <= 0:
            return min(0.0, self.drop)
        return self.drop / abs(self.original.value) if self.original.value else inf


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
        correct += answer(outputs) == int(labels[index])
        _report(progress, index, samples)
    return Score("top-1", correct / len(samples), len(samples))


def rehearse(original: Run, samples: Samples, metric: str | None = None) -> None:
    """Whether the float model can be judged on these samples, told before any long work.

    Raises:
        SamplesError: the labels or the metric do not fit the model's output.
        ModelError: an output is NaN.
        RecipeError: there is no such metric, or it needs labels that there are not.
    """
    feeds = next(samples.feeds())
    outputs = original(feeds)
    require_numbers(outputs, samples, 0)
    labels = samples.labels
    if labels is not None and labels.dtype.kind != "f" and (metric is None or metric.startswith("top-")):
        _require_classes(outputs, int(labels.max()), samples)
    if metric is not None:
        metric_named(metric, labels)().add(Observation(feeds, outputs, outputs, _first(labels)))


def compare(
    original: Run,
    compiled: Run,
    samples: Samples,
    progress: Progress | None = None,
    metric: str | None = None,
) -> Accuracy:
    """Run both on every sample and count.

    Args:
        metric: a name of :mod:`irshrink.metrics.table`; None: top-1 with class labels, the mean absolute
            error with other labels, else agreement (classifiers) or cosine similarity.

    Raises:
        SamplesError: the labels or the metric do not fit the model's output.
        ModelError: an output of the original is NaN.
        RecipeError: there is no such metric, or it needs labels that there are not.
    """
    judges: _Judges | None = None
    for index, feeds in enumerate(samples.feeds()):
        expected, given = original(feeds), compiled(feeds)
        require_numbers(expected, samples, index)
        if judges is None:
            fitting = fitting_metric(samples.labels, is_classifier(feeds, expected))
            judges = _Judges(metric or fitting, samples)
        judges.add(index, feeds, expected, given)
        _report(progress, index, samples)
    assert judges is not None, "load_samples refuses empty data"
    return judges.accuracy()


class _Judges:
    """The same metric for the original and for the compiled model, and how near their outputs are."""

    def __init__(self, name: str, samples: Samples) -> None:
        make = metric_named(name, samples.labels)
        self._name, self._samples = name, samples
        self._before, self._after = make(), make()
        self._agreement = Agreement()

    def add(self, index: int, feeds: Outputs, expected: Outputs, given: Outputs) -> None:
        labels = self._samples.labels
        label = None if labels is None else labels[index]
        if label is not None and self._name.startswith("top-"):
            _require_classes(expected, int(label), self._samples)
        self._before.add(Observation(feeds, expected, expected, label))
        self._after.add(Observation(feeds, expected, given, label))
        self._agreement.add(expected, given)

    def accuracy(self) -> Accuracy:
        before, after = (
            Score(self._name, m.value(), len(self._samples)) for m in (self._before, self._after)
        )
        return Accuracy(
            before,
            after,
            outputs=self._agreement.scores(),
            title=self._after.title,
            share=self._after.share,
            falls=self._after.falls,
        )


def is_classifier(feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> bool:
    """One output, a vector of two or more scores (dimensions of 1 do not count), not as long as an input."""
    if len(outputs) != 1:
        return False
    scores = next(iter(outputs.values()))
    vector = scores.size >= 2 and max(scores.shape) == scores.size
    return vector and all(scores.size != array.size for array in feeds.values())


def _first(labels: Array | None) -> Any:
    return None if labels is None else labels[0]


def require_numbers(outputs: Mapping[str, Array], samples: Samples, index: int) -> None:
    """
    Raises:
        ModelError: an output of the float model is NaN on this sample.
    """
    for name, values in outputs.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            where = samples.source.describe(int(samples.select[index]))
            raise ModelError(
                f"{samples.path}: output '{name}' of the float model is NaN on {where}. "
                "Check the preprocessing of the samples, and the model."
            )


def _labels(samples: Samples) -> Array:
    if samples.classes is None:
        raise SamplesError(f"{samples.path}: has no labels. Give class indices as the array 'y'.")
    return samples.classes


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
