"""How far outputs are from those of another model: the mean over samples of signal-to-noise ratios in dB.

A mean of ratios in dB, so that one sample that is off weighs as one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from irshrink.evaluate import is_classifier
from irshrink.explain.tally import decibels

Array = np.ndarray[Any, np.dtype[Any]]
Metric = Literal["top-1", "agreement", "none"]
#: What no noise at all counts as.
MOST_DB = 100.0


@dataclass(frozen=True)
class Score:
    """A quantized model beside its float model.

    Attributes:
        snr_db: signal-to-noise ratio of the output that has the worst.
        metric: what ``value`` and ``best`` are: ``top-1`` against labels, ``agreement`` of a classifier's
        answers
            with the float model's; ``none`` for other models.
        value, best: the quantized model's and the float model's, as fractions; None for ``none``.
        outputs: the ratio of every output, by name.
    """

    snr_db: float
    metric: Metric
    value: float | None
    best: float | None
    outputs: Mapping[str, float]


class Scorer:
    """Adds up samples; see :class:`Score`.

    Args:
        names: of the outputs.
        labels: class indices, or None.
    """

    def __init__(self, names: Sequence[str], labels: Array | None) -> None:
        self._names = names
        self._labels = labels
        self._ratios = np.zeros(len(names))
        self._answers = True
        self._count = self._right = self._float_right = 0

    def add(self, feeds: Mapping[str, Array], real: Sequence[Array], given: Sequence[Array]) -> None:
        """The outputs of one sample, in the order of the names."""
        for i, (a, b) in enumerate(zip(real, given, strict=True)):
            x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
            power, noise = float(x @ x), float((x - y) @ (x - y))
            self._ratios[i] += min(decibels(power, noise), MOST_DB)
        self._answers &= is_classifier(feeds, dict(zip(self._names, real, strict=True)))
        if self._answers:
            expected, answer = int(np.argmax(real[0])), int(np.argmax(given[0]))
            label = expected if self._labels is None else int(self._labels[self._count])
            self._right += answer == label
            self._float_right += expected == label
        self._count += 1

    def score(self) -> Score:
        means = zip(self._names, self._ratios / self._count, strict=True)
        ratios = {name: float(mean) for name, mean in means}
        worst = min(ratios.values())
        if not self._answers:
            return Score(worst, "none", None, None, ratios)
        metric: Metric = "agreement" if self._labels is None else "top-1"
        return Score(worst, metric, self._right / self._count, self._float_right / self._count, ratios)
