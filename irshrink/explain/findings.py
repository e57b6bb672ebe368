"""What a cause is made of: where, how bad, in words, and what could be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from irshrink.explain.measure import Measurement, Subject
from irshrink.explain.points import Point
from irshrink.explain.tally import Tally
from irshrink.explain.weave import Change
from irshrink.samples import Samples

CauseId = Literal[
    "wrong-preprocessing",
    "calibration-sample",
    "bias-overflow",
    "activation-outlier",
    "saturated-activation",
    "per-tensor-weights",
    "dead-channel",
    "coarse-weights",
    "sensitive-layer",
]


@dataclass(frozen=True)
class Remedy:
    """One thing to change.

    Attributes:
        what: a sentence.
        recipe: lines of a recipe that do it, None where it is no matter of the recipe.
        change: the same on the quantized model, to be measured; None where that takes what is not there.
        samples: the changed samples, where it is these that change.
        why_not: why it cannot be measured.
    """

    what: str
    recipe: str | None = None
    change: Change | None = None
    samples: Samples | None = None
    why_not: str | None = None


@dataclass(frozen=True, eq=False)
class Finding:
    """A cause at a place.

    Attributes:
        point: None for what is about the whole model.
        severity: noise that it makes, relative to the signal there; orders what is measured.
        certain: a defect whatever is measured: it goes before everything else.
        sentence: the cause in words, with its numbers.
        evidence: the numbers.
        remedies: what could be changed, the likeliest first.
        covers: points whose own oddities are this cause at work.
        kept: told even if nothing is gained.
    """

    cause: CauseId
    point: Point | None
    severity: float
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedies: Sequence[Remedy] = ()
    certain: bool = False
    covers: frozenset[Point] = frozenset()
    kept: bool = False


@dataclass(frozen=True)
class Facts:
    """What causes are found in."""

    subject: Subject
    measurement: Measurement

    @property
    def points(self) -> Sequence[Point]:
        return self.subject.rounded.points

    def tally(self, point: Point) -> Tally:
        return self.measurement.tallies[point]

    def sample(self, number: int) -> str:
        """What a person calls a sample."""
        samples = self.subject.samples
        return samples.source.describe(int(samples.select[number]))
