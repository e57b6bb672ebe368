"""Every cause that explain knows, and which come first.

A cause is a function that looks at what was measured and says where it is at work. What it found is then put
to the test: its remedies are applied to the quantized model, and the gain of the output's signal-to-noise
ratio decides the order. Defects (``certain``) come before it: no other figure means anything while they are
there.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from irshrink.explain.activations import (
    activation_outlier,
    calibration_sample,
    dead_channel,
    saturated_activation,
    sensitive_layer,
)
from irshrink.explain.constants import bias_overflow, coarse_weights, per_tensor_weights
from irshrink.explain.findings import CauseId, Facts, Finding, Remedy
from irshrink.explain.measure import Counter, try_changes
from irshrink.explain.preprocessing import swapped_colours, wrong_preprocessing
from irshrink.explain.score import Score
from irshrink.explain.weave import Change

#: By name; a cause that several functions find appears with each of them.
CAUSES: tuple[tuple[CauseId, Callable[[Facts], Iterable[Finding]]], ...] = (
    ("wrong-preprocessing", wrong_preprocessing),
    ("wrong-preprocessing", swapped_colours),
    ("bias-overflow", bias_overflow),
    ("calibration-sample", calibration_sample),
    ("activation-outlier", activation_outlier),
    ("saturated-activation", saturated_activation),
    ("per-tensor-weights", per_tensor_weights),
    ("dead-channel", dead_channel),
    ("coarse-weights", coarse_weights),
    ("sensitive-layer", sensitive_layer),
)

#: Changes that are measured, all in one pass over the samples: each costs one inference a sample.
MOST_CHANGES = 16
#: A change that gains less is not worth a word, nor is what it gains above the other ratio.
LEAST_GAIN_DB, ENOUGH_DB = 0.5, 50.0
#: Several layers go before the worst of them when they gain so much more together.
_MUCH_MORE = 1.3


@dataclass(frozen=True)
class Tried:
    """A remedy and what it bought; ``after`` is None where that could not be measured."""

    remedy: Remedy
    after: Score | None


@dataclass(frozen=True)
class Cause:
    """A finding with its remedies, the one that gains most first."""

    finding: Finding
    tried: Sequence[Tried]

    def gain(self, before: Score) -> float | None:
        """What the best remedy buys, in dB of the output; None where nothing was measured."""
        after = [t.after.snr_db for t in self.tried if t.after is not None]
        return max(after) - before.snr_db if after else None


def find_causes(facts: Facts) -> list[Finding]:
    """All findings, the noisiest first; each point has those that are not another cause's doing."""
    found = [finding for _, function in CAUSES for finding in function(facts)]
    covered = {point for finding in found for point in finding.covers}
    inputs = {f.point for f in found if f.cause == "wrong-preprocessing"}
    blamed = {f.point for f in found if f.point is not None and f.cause != "sensitive-layer"}
    near = {p for p in facts.points if blamed & {p, *facts.subject.rounded.readers(p)}} | covered
    named = {f.point for f in found if f.cause in ("bias-overflow", "per-tensor-weights")}
    wide = {f.point for f in found if f.cause == "activation-outlier"}
    kept = [
        f
        for f in found
        if not (f.cause == "activation-outlier" and f.point in covered)
        and not (f.cause not in ("wrong-preprocessing", "bias-overflow") and f.point in inputs)
        and not (f.cause == "sensitive-layer" and f.point in near)
        and not (f.cause == "coarse-weights" and f.point in named)
        and not (f.cause == "dead-channel" and f.point in wide)
    ]
    return sorted(kept, key=lambda f: (not f.certain, -f.severity))


def together(found: Sequence[Finding]) -> Iterator[Finding]:
    """One more finding for a cause that is at work in several layers: all of their first remedies at once."""
    for cause in dict(CAUSES):
        several = [f for f in found if f.cause == cause and _first_change(f) is not None]
        if len(several) < 2 or cause == "sensitive-layer":
            continue
        names = [f.point.name for f in several if f.point is not None]
        listed = ", ".join(f"'{name}'" for name in names[:4]) + (", ..." if len(names) > 4 else "")
        recipes = [f.remedies[0].recipe for f in several if f.remedies[0].recipe is not None]
        remedy = Remedy(
            f"the first remedy of all {len(several)} layers at once",
            reduce(operator.or_, recipes) if recipes else None,
            merged([change for f in several if (change := _first_change(f)) is not None]),
        )
        yield Finding(
            cause,
            None,
            sum(f.severity for f in several),
            f"{len(several)} layers: {listed}. The worst: {several[0].sentence}",
            {"layers": names},
            [remedy],
        )


def _first_change(finding: Finding) -> Change | None:
    """The change of the first remedy of a finding about one layer, where it is one of the model."""
    if finding.point is None or finding.certain or not finding.remedies or finding.remedies[0].samples:
        return None
    return finding.remedies[0].change


def merged(changes: Sequence[Change]) -> Change:
    """Several changes as one."""
    return Change(
        drop=frozenset(point for change in changes for point in change.drop),
        grids={point: grid for change in changes for point, grid in change.grids.items()},
        constants={stored: array for change in changes for stored, array in change.constants.items()},
    )


def rank_causes(facts: Facts, progress: Counter = lambda done, total: None) -> list[Cause]:
    """Measure the remedies of the noisiest findings, and put what gains most first.

    Raises:
        ModelError: ONNX Runtime cannot run a changed model.
    """
    before = facts.measurement.score
    found = find_causes(facts)
    tried = _measured(facts, _worth_trying([*_certain(found), *together(found), *_others(found)]), progress)
    causes = [
        Cause(f, sorted(t, key=lambda one: -(one.after.snr_db if one.after else -1e9)))
        for f, t in tried.items()
    ]
    kept = [c for c in causes if _counts(c, before)]
    return sorted(kept, key=lambda c: (not c.finding.certain, -_weight(c, kept, before), -c.finding.severity))


def _weight(cause: Cause, causes: Sequence[Cause], before: Score) -> float:
    """What a cause is ranked by: its gain; of several layers, less than that of one which gains as much."""
    finding, gain = cause.finding, cause.gain(before) or 0.0
    if "layers" not in finding.evidence:
        return gain
    others = [c for c in causes if c.finding.cause == finding.cause and c is not cause]
    best = max((c.gain(before) or 0.0 for c in others), default=0.0)
    return gain if gain > _MUCH_MORE * best else min(gain, best - 0.01)


def _certain(found: Sequence[Finding]) -> list[Finding]:
    return [f for f in found if f.certain]


def _others(found: Sequence[Finding]) -> list[Finding]:
    return [f for f in found if not f.certain]


def _counts(cause: Cause, before: Score) -> bool:
    gain = cause.gain(before)
    if before.snr_db >= ENOUGH_DB and not cause.finding.certain:
        return cause.finding.kept
    return cause.finding.kept or cause.finding.certain or gain is None or gain >= LEAST_GAIN_DB


def _worth_trying(found: Sequence[Finding]) -> list[Finding]:
    """As many as are measured in one pass; what cannot be measured costs nothing."""
    kept: list[Finding] = []
    spent = 0
    for finding in found:
        spent += sum(r.change is not None and r.samples is None for r in finding.remedies)
        if spent <= MOST_CHANGES:
            kept.append(finding)
    return kept


def _measured(facts: Facts, found: Sequence[Finding], progress: Counter) -> Mapping[Finding, list[Tried]]:
    subject = facts.subject
    pairs = [(f, r) for f in found for r in f.remedies]
    changes = [r.change for _, r in pairs if r.change is not None and r.samples is None]
    scores = iter(try_changes(subject, changes, progress))
    result: dict[Finding, list[Tried]] = {f: [] for f in found}
    for finding, remedy in pairs:
        after: Score | None = None
        if remedy.change is not None and remedy.samples is not None:
            other = dataclasses.replace(subject, samples=remedy.samples)
            after = try_changes(other, [remedy.change], progress)[0]
        elif remedy.change is not None:
            after = next(scores)
        result[finding].append(Tried(remedy, after))
    return result
