"""What a metric is: fed one sample after the other, asked for a number at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from irshrink.errors import SamplesError

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Observation:
    """One sample.

    Attributes:
        inputs: by name, in the graph's shapes.
        expected: what the float model computes, by output name.
        given: what the model that is judged computes.
        label: a class index, numbers (of a regression), or None.
    """

    inputs: Outputs
    expected: Outputs
    given: Outputs
    label: Any


class Metric(Protocol):
    """A number over samples.

    Attributes:
        title: what a report calls it.
        share: whether it is a fraction of which 1 is best, shown as a percentage; else a plain number.
        falls: whether less is better.
    """

    @property
    def title(self) -> str: ...

    @property
    def share(self) -> bool: ...

    @property
    def falls(self) -> bool: ...

    def add(self, seen: Observation) -> None:
        """Take a sample into account.

        Raises:
            SamplesError: the metric has no meaning for such outputs or labels.
        """
        ...

    def value(self) -> float: ...


def scores_of(outputs: Outputs, metric: str) -> Array:
    """The one vector of scores that a classifier gives, float64 [classes].

    Raises:
        SamplesError: there are several outputs, or it is no vector of two or more.
    """
    scores = next(iter(outputs.values()))
    if len(outputs) != 1 or scores.size < 2 or max(scores.shape) != scores.size:
        raise SamplesError(
            f"metric '{metric}' needs a model whose one output is a vector of scores. "
            "Take mae or cosine, or a function of your own: --metric file.py:function."
        )
    return scores.astype(np.float64).reshape(-1)


def answer(outputs: Outputs) -> int:
    """The class with the largest score."""
    return int(np.argmax(next(iter(outputs.values()))))
