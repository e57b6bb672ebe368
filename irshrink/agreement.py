"""How near the outputs of a compiled model are to the float model's, each output by itself.

One output of a single number would vanish beside another of thousands, so nothing is averaged over outputs:
what is shown is the worst one, and the report lists all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: In place of infinity, whose direction is undefined.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class OutputScore:
    """One output over all samples.

    Attributes:
        elements: of one sample.
        cosine: mean cosine similarity of a sample, at least 0. Of an output with one element, whose direction
            is only its sign, the similarity of the values of all samples as one vector.
        max_abs_difference: the largest; None where the compiled output is NaN.
        max_abs_value: the float model's.
    """

    name: str
    elements: int
    cosine: float
    max_abs_difference: float | None
    max_abs_value: float


class Agreement:
    """Outputs of all samples, one after the other."""

    def __init__(self) -> None:
        self._outputs: dict[str, _Output] = {}

    def add(self, expected: Mapping[str, Array], given: Mapping[str, Array]) -> None:
        """The outputs of one sample, by name."""
        for name, values in expected.items():
            self._outputs.setdefault(name, _Output(values.size)).add(values, given[name])

    def scores(self) -> tuple[OutputScore, ...]:
        """Every output, in the model's order."""
        return tuple(output.score(name) for name, output in self._outputs.items())


def cosine(expected: Array, given: Array) -> float:
    """Cosine similarity, at least 0; 1 when both are zero, 0 when one is, or is NaN."""
    a, b = _numbers(expected), _numbers(given)
    if np.isnan(b).any():
        return 0.0
    return _similarity(float(a @ b), float(a @ a), float(b @ b))


class _Output:
    def __init__(self, elements: int) -> None:
        self.elements = elements
        self.samples = 0
        self.cosines = 0.0
        self.products = np.zeros(3)  # over all samples: of both, of the float model, of the compiled one
        self.difference = self.largest = 0.0

    def add(self, expected: Array, given: Array) -> None:
        a, b = _numbers(expected), _numbers(given)
        self.samples += 1
        self.cosines += cosine(expected, given)
        self.products += (a @ b, a @ a, b @ b)
        self.difference = float(np.maximum(self.difference, np.abs(a - b).max(initial=0)))  # NaN stays
        self.largest = max(self.largest, float(np.abs(a).max(initial=0)))

    def score(self, name: str) -> OutputScore:
        whole = np.nan_to_num(self.products, nan=0.0)
        similar = _similarity(*map(float, whole)) if self.elements == 1 else self.cosines / self.samples
        difference = None if np.isnan(self.difference) else self.difference
        return OutputScore(name, self.elements, similar, difference, self.largest)


def _numbers(values: Array) -> Array:
    return np.nan_to_num(values.astype(np.float64).ravel(), nan=np.nan, posinf=_LARGEST, neginf=-_LARGEST)


def _similarity(product: float, of_a: float, of_b: float) -> float:
    length = sqrt(of_a * of_b)
    if length == 0:
        return 1.0 if of_a == of_b == 0 else 0.0
    return min(1.0, max(0.0, product / length))
