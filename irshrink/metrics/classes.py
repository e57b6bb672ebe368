"""Metrics of classifiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from irshrink.errors import SamplesError
from irshrink.metrics.metric import Array, Observation, answer, scores_of


@dataclass
class TopK:
    """How often the label is among the ``k`` classes with the largest scores; of equal scores the first."""

    share: ClassVar[bool] = True
    falls: ClassVar[bool] = False
    k: int = 1
    correct: int = 0
    count: int = 0

    @property
    def title(self) -> str:
        return f"Top-{self.k} accuracy"

    def add(self, seen: Observation) -> None:
        scores = next(iter(seen.given.values())).reshape(-1)
        self.correct += int(seen.label) in np.argsort(-scores, kind="stable")[: self.k]
        self.count += 1

    def value(self) -> float:
        return self.correct / self.count


@dataclass
class SameAnswer:
    """How often the class with the largest score is the float model's."""

    title: ClassVar[str] = "Agreement"
    share: ClassVar[bool] = True
    falls: ClassVar[bool] = False
    same: int = 0
    count: int = 0

    def add(self, seen: Observation) -> None:
        self.same += answer(seen.given) == answer(seen.expected)
        self.count += 1

    def value(self) -> float:
        return self.same / self.count


@dataclass
class Auc:
    """Area under the ROC curve; of more than two classes the mean of each against the rest.

    By ranks, equal scores counting half (Mann and Whitney 1947). Of two scores the difference ranks, which
    logits and probabilities order alike.
    """

    title: ClassVar[str] = "Area under the ROC curve"
    share: ClassVar[bool] = True
    falls: ClassVar[bool] = False
    scores: list[Array] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, seen: Observation) -> None:
        output = next(iter(seen.given.values()))
        single = len(seen.given) == 1 and output.size == 1
        self.scores.append(output.reshape(-1).astype(np.float64) if single else scores_of(seen.given, "auc"))
        self.labels.append(int(seen.label))

    def value(self) -> float:
        table, labels = np.stack(self.scores), np.array(self.labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise SamplesError(
                f"metric 'auc' needs samples of two classes, and all have the label {classes[0]}."
            )
        if table.shape[1] <= 2:
            return _area(table[:, -1] - (table[:, 0] if table.shape[1] == 2 else 0), labels == classes[-1])
        return float(np.mean([_area(table[:, c], labels == c) for c in classes if c < table.shape[1]]))


@dataclass
class F1:
    """Harmonic mean of precision and recall: of class 1 where there are two, else the mean of all classes.

    A model with one output says 1 from 0.5 on, so that it should end in a Sigmoid.
    """

    title: ClassVar[str] = "F1"
    share: ClassVar[bool] = True
    falls: ClassVar[bool] = False
    answers: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    classes: int = 2

    def add(self, seen: Observation) -> None:
        output = next(iter(seen.given.values()))
        if len(seen.given) == 1 and output.size == 1:
            self.answers.append(int(output.reshape(-1)[0] >= 0.5))
        else:
            self.classes = len(scores_of(seen.given, "f1"))
            self.answers.append(answer(seen.given))
        self.labels.append(int(seen.label))

    def value(self) -> float:
        answers, labels = np.array(self.answers), np.array(self.labels)
        asked = [1] if self.classes == 2 else sorted({*self.labels, *self.answers})
        return float(np.mean([_f1(answers == c, labels == c) for c in asked]))


def _area(scores: Array, positive: Array) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(np.nan_to_num(scores, nan=-np.inf))
    hits, misses = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _f1(said: Array, true: Array) -> float:
    """0 where neither the labels nor the answers have the class, as there was nothing to find."""
    both = int((said & true).sum())
    total = int(said.sum() + true.sum())
    return 2 * both / total if total else 0.0
