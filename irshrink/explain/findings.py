"""What a cause is made of: where, how bad, in words, and what could be changed."""

from __future__ import annotations

import json
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
class Recipe:
    """Lines of a recipe; an option belongs to the step of quantize-int8 that it has already.

    Attributes:
        keep_float: nodes.
        options: of ``quantize-int8``; None where the step is not meant.
        before: passes that run before it.
        images: preprocessing.
    """

    keep_float: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    before: tuple[str, ...] = ()
    images: Mapping[str, Any] | None = None

    def __or__(self, other: Recipe) -> Recipe:
        """Both; maps in options are joined, else the other's wins."""
        options: dict[str, Any] = dict(self.options or {})
        for key, value in (other.options or {}).items():
            both = isinstance(value, Mapping) and key in options
            options[key] = {**options[key], **value} if both else value
        names = tuple(dict.fromkeys((*self.keep_float, *other.keep_float)))
        step = None if self.options is None and other.options is None else options
        before = tuple(dict.fromkeys((*self.before, *other.before)))
        return Recipe(names, step, before, other.images or self.images)

    def text(self) -> str:
        """As TOML."""
        lines = [] if not self.keep_float else [f"keep_float = {_toml(self.keep_float)}"]
        for name in self.before:
            lines += ["[[steps]]", f"pass = {_toml(name)}"]
        if self.options is not None:
            lines += ["[[steps]]", 'pass = "quantize-int8"', *_lines(self.options)]
        if self.images is not None:
            lines += ["[images]", *_lines(self.images)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Remedy:
    """One thing to change.

    Attributes:
        what: a sentence.
        recipe: what does it, None where it is no matter of a recipe.
        change: the same on the quantized model, to be measured; None where that takes what is not there.
        samples: the changed samples, where it is these that change.
        why_not: why it cannot be measured.
    """

    what: str
    recipe: Recipe | None = None
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


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """A value of a recipe."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)
