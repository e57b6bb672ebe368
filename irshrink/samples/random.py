"""Made-up samples: for questions about structure, where the values do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from irshrink.samples.samples import Samples
from irshrink.samples.source import Array, InputSpec

#: Smallest and largest value.
Range = tuple[float, float]


@dataclass(frozen=True)
class RandomSource:
    """See :class:`irshrink.samples.Source`. Floats are standard normal, integers 0 or 1.

    Attributes:
        within: smallest and largest value, by name, of inputs that are uniform between them instead.
    """

    inputs: tuple[InputSpec, ...]
    count: int
    seed: int
    labels: Array | None = None
    within: Mapping[str, Range] = field(default_factory=dict)

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        for row in select:
            rng = np.random.default_rng([self.seed, int(row)])
            yield {spec.name: _values(rng, spec, self.within.get(spec.name)) for spec in self.inputs}

    def describe(self, row: int) -> str:
        return f"random sample {row}"

    def digest(self, select: Array) -> str:
        return hashlib.sha256(f"random {self.seed} {select.tolist()}".encode()).hexdigest()


def random_samples(
    inputs: Sequence[InputSpec], count: int, seed: int = 0, within: Mapping[str, Range] | None = None
) -> Samples:
    """``count`` samples that depend on the seed and their position only; see :class:`RandomSource`."""
    source = RandomSource(tuple(inputs), count, seed, within=within or {})
    return Samples(Path("random"), tuple(inputs), source, np.arange(count))


def _values(rng: np.random.Generator, spec: InputSpec, within: Range | None) -> Array:
    if within is not None:
        return rng.uniform(*within, spec.sample_shape).astype(spec.dtype)
    if spec.dtype.kind == "f":
        return rng.standard_normal(spec.sample_shape).astype(spec.dtype)
    return rng.integers(0, 2, spec.sample_shape).astype(spec.dtype)
