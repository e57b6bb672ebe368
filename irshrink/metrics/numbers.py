"""Metrics of outputs as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from irshrink.agreement import Agreement
from irshrink.errors import SamplesError
from irshrink.metrics.metric import Array, Observation, scores_of


@dataclass
class Cosine:
    """Cosine similarity with the float model's outputs; of several outputs that of the worst."""

    title: ClassVar[str] = "Cosine similarity"
    share: ClassVar[bool] = True
    falls: ClassVar[bool] = False
    agreement: Agreement = field(default_factory=Agreement)
    itself: bool = True

    def add(self, seen: Observation) -> None:
        self.itself = self.itself and seen.given is seen.expected
        if not self.itself:
            self.agreement.add(seen.expected, seen.given)

    def value(self) -> float:
        return 1.0 if self.itself else min(output.cosine for output in self.agreement.scores())


@dataclass
class MeanAbsoluteError:
    """Of the one output and the labels; without labels of all outputs and the float model's."""

    title: ClassVar[str] = "Mean absolute error"
    share: ClassVar[bool] = False
    falls: ClassVar[bool] = True
    labelled: bool = False
    total: float = 0.0
    count: int = 0

    def add(self, seen: Observation) -> None:
        if not self.labelled:
            for name, expected in seen.expected.items():
                self._take(expected, seen.given[name])
            return
        label, output = np.asarray(seen.label, np.float64), next(iter(seen.given.values()))
        if len(seen.given) != 1 or output.size != label.size:
            raise SamplesError(
                f"metric 'mae' compares one output with 'y': {output.size} numbers with {label.size}. "
                "Class indices are integers; leave 'y' out to compare with the float model."
            )
        self._take(label, output)

    def _take(self, wanted: Array, given: Array) -> None:
        self.total += float(np.abs(wanted.reshape(-1).astype(np.float64) - given.reshape(-1)).sum())
        self.count += given.size

    def value(self) -> float:
        return self.total / max(1, self.count)


@dataclass
class KullbackLeibler:
    """Mean of ``sum p log(p / q)``, p the float model's probabilities, q the other's, in nats.

    Scores that are not probabilities are made ones by a softmax.
    """

    title: ClassVar[str] = "Kullback-Leibler divergence"
    share: ClassVar[bool] = False
    falls: ClassVar[bool] = True
    total: float = 0.0
    count: int = 0

    def add(self, seen: Observation) -> None:
        expected = scores_of(seen.expected, "kl")
        probable = bool((expected >= 0).all() and abs(expected.sum() - 1) < 1e-3)
        p, q = (_logarithms(s, probable) for s in (expected, scores_of(seen.given, "kl")))
        self.total += float((np.exp(p) * (p - q)).sum())
        self.count += 1

    def value(self) -> float:
        return self.total / max(1, self.count)


def _logarithms(scores: Array, probable: bool) -> Array:
    """Logarithms of probabilities, none of them below 1e-12."""
    from scipy.special import log_softmax

    if not probable:
        return np.asarray(log_softmax(scores))
    held = np.maximum(scores, 1e-12)
    return np.asarray(np.log(held / held.sum()))
