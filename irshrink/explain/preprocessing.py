"""Samples that were not prepared as those that the model was calibrated on.

What is known of the right preprocessing is the range that the input is rounded to. Where both it and the
samples' range are ones that preprocessing commonly gives, the formula between them can be named. The order
of colours shows in no range: there the float model is asked which order it knows better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.evaluate import is_classifier
from irshrink.explain.findings import Facts, Finding, Recipe, Remedy
from irshrink.explain.measure import channel_axis
from irshrink.explain.points import Point
from irshrink.explain.tally import Tally
from irshrink.explain.weave import Change
from irshrink.samples import Samples
from irshrink.samples.source import Source

Array = np.ndarray[Any, np.dtype[Any]]

#: Ranges that common preprocessing gives, in words.
KNOWN = {
    "pixels 0 to 255": (0.0, 255.0),
    "pixels / 255": (0.0, 1.0),
    "(pixels - 127.5) / 127.5": (-1.0, 1.0),
    "pixels - 128": (-128.0, 127.0),
    "pixels by ImageNet's mean and deviation": (-2.118, 2.640),
}
#: What pixels are commonly multiplied with.
FACTORS = (255.0, 127.5)
#: Two ranges are the same when their ends differ by at most this share of the width.
_SAME = 0.12
#: More than this share of an input outside of its grid is no rarity,
_OUTSIDE = 0.05
#: nor are samples that fill less than this share of it; photos fill it nearly always.
_FILLED, _FILLED_BY_PHOTOS = 1 / 16, 0.6
#: Samples that the question of colours needs, and standard deviations that count as an answer.
_FEW, _SIGMAS = 8, 3.0
#: Mean probability that the other order of colours must win: of the right class, else of the likeliest.
_MARGIN = 0.03


@dataclass(frozen=True)
class Mapped:
    """A source whose arrays of one input are changed; see :class:`irshrink.samples.Source`."""

    source: Source
    name: str
    function: Callable[[Array], Array]

    @property
    def count(self) -> int:
        return self.source.count

    @property
    def labels(self) -> Array | None:
        return self.source.labels

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        for row in self.source.rows(select):
            yield row | {self.name: np.ascontiguousarray(self.function(row[self.name]), row[self.name].dtype)}

    def describe(self, row: int) -> str:
        return self.source.describe(row)

    def digest(self, select: Array) -> str:
        return self.source.digest(select)


def wrong_preprocessing(facts: Facts) -> Iterator[Finding]:
    """The range of the samples against the range that an input is rounded to."""
    for point in facts.points:
        tally = facts.tally(point)
        if point.entry is None or tally.grid is None or not tally.count:
            continue
        found = _mismatch(point, tally)
        if found is None:
            continue
        why, factor, offset, certain = found
        grid, seen = tally.grid.range, tally.seen
        outside = sum(tally.clipped) / tally.count
        sentence = (
            f"input '{point.name}' is rounded for values in [{grid[0]:.4g}, {grid[1]:.4g}], but the samples "
            f"hold [{seen.min:.4g}, {seen.max:.4g}]: {why}. {100 * outside:.3g} % of the input is clipped. "
            "Either these samples or those that the model was calibrated on were prepared wrongly."
        )
        evidence = {
            "grid_low": grid[0],
            "grid_high": grid[1],
            "seen_low": seen.min,
            "seen_high": seen.max,
            "outside": outside,
            "factor": factor,
            "offset": offset,
        }
        formula = _formula(factor, offset, grid[1] - grid[0])
        samples = _changed(facts.subject.samples, point, partial(_scaled, factor=factor, offset=offset))
        remedy = Remedy(
            f"prepare the samples as the calibration data was; {formula} maps one range to the other",
            _image_lines(point, factor, offset),
            Change(),
            samples,
        )
        yield Finding(
            "wrong-preprocessing", point, np.inf, sentence, evidence, [remedy], certain=certain, kept=True
        )


def swapped_colours(facts: Facts) -> Iterator[Finding]:
    """Whether the float model knows the samples better with red and blue exchanged."""
    point = next((p for p in facts.points if p.entry is not None), None)
    samples = facts.subject.samples
    if point is None or len(samples.inputs) != 1 or len(samples) < _FEW:
        return
    axis = _colour_axis(point)
    if axis is None:
        return
    other = _changed(samples, point, lambda x: np.flip(x, axis=axis - 1))
    answers = list(_answers(facts, samples, other))
    if not answers:
        return
    labels = samples.classes
    if labels is None:
        gain = np.array([b.max() - a.max() for a, b in answers])
        what = f"the float model is {100 * gain.mean():.3g} points more confident"
    else:
        gain = np.array([b[y] - a[y] for (a, b), y in zip(answers, labels, strict=True)])
        pairs = list(zip(answers, labels, strict=True))
        right = sum(int(b.argmax() == y) - int(a.argmax() == y) for (a, b), y in pairs)
        what = f"the float model is right on {right} more of {len(gain)} samples"
    sigmas = float(gain.mean() / max(gain.std(ddof=1) / np.sqrt(len(gain)), 1e-9))
    if gain.mean() < _MARGIN or sigmas < _SIGMAS:
        return
    sentence = (
        f"with red and blue exchanged {what} ({sigmas:.1f} standard deviations): the samples of "
        f"'{point.name}' hold BGR where the model was trained on RGB, or the other way round."
    )
    remedy = Remedy(
        "exchange red and blue in the samples", Recipe(images={"channels": "BGR"}), Change(), other
    )
    evidence = {"gain": float(gain.mean()), "sigmas": sigmas, "labels": labels is not None}
    yield Finding("wrong-preprocessing", point, np.inf, sentence, evidence, [remedy], certain=True)


def _mismatch(point: Point, tally: Tally) -> tuple[str, float, float, bool] | None:
    """Why ranges do not fit, factor and offset from one to the other, and whether that is beyond doubt.

    Samples much narrower than the grid may be right, and one of those that it was calibrated on wrong.
    """
    assert tally.grid is not None
    grid, seen = tally.grid.range, (tally.seen.min, tally.seen.max)
    wide, filled = grid[1] - grid[0], seen[1] - seen[0]
    if filled <= 0 or wide <= 0:
        return None
    names = _known(seen), _known(grid)
    factor = wide / filled
    offset = grid[0] - seen[0] * factor
    if names[0] != names[1] and None not in names:
        assert names[0] is not None
        assert names[1] is not None
        a, b = KNOWN[names[0]], KNOWN[names[1]]
        factor = (b[1] - b[0]) / (a[1] - a[0])
        return f"these look like {names[0]}, the model expects {names[1]}", factor, b[0] - a[0] * factor, True
    low, high = tally.magnitudes.quantiles(0.01, 0.99)
    outside = sum(tally.clipped) / tally.count
    if outside > _OUTSIDE and max(grid[0] - low, high - grid[1]) > 0.25 * wide:
        return "they reach far beyond", factor, offset, True
    limit = _FILLED_BY_PHOTOS if _colour_axis(point) is not None else _FILLED
    if filled < limit * wide and len(tally.ends) >= 4:
        typical = any(abs(factor / known - 1) <= _SAME for known in FACTORS)
        return f"they fill {100 * filled / wide:.3g} % of it", factor, offset, typical
    return None


def _formula(factor: float, offset: float, wide: float) -> str:
    if abs(offset) < 1e-4 * wide:
        return f"x * {factor:.6g}"
    return f"x * {factor:.6g} {'-' if offset < 0 else '+'} {abs(offset):.6g}"


def _scaled(values: Array, factor: float, offset: float) -> Array:
    return np.asarray(values * factor + offset)


def _known(ends: tuple[float, float]) -> str | None:
    """The common preprocessing that gives such a range."""
    for name, (low, high) in KNOWN.items():
        slack = _SAME * (high - low)
        if abs(ends[0] - low) <= slack and abs(ends[1] - high) <= slack:
            return name
    return None


def _colour_axis(point: Point) -> int | None:
    """The axis of three colours of a batch of images."""
    shape = None if point.entry is None else point.entry.shape
    if shape is None or shape.rank() != 4 or not shape.is_static():
        return None
    dims = shape.numpy()
    axis = channel_axis(point, dims)
    return axis if axis is not None and dims[axis] == 3 and dims[0] == 1 else None


def _image_lines(point: Point, factor: float, offset: float) -> Recipe | None:
    """The declared preprocessing of pixels that gives the other range: (pixel - mean) / std."""
    if _colour_axis(point) is None or factor <= 0:
        return None
    return Recipe(images={"mean": _short(-offset / factor), "std": _short(1 / factor)})


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def _changed(samples: Samples, point: Point, function: Callable[[Array], Array]) -> Samples:
    return dataclasses.replace(samples, source=Mapped(samples.source, point.name, function))


def _answers(facts: Facts, given: Samples, other: Samples) -> Iterator[tuple[Array, Array]]:
    """The float model's probabilities on each sample and on the changed one; none if it is no classifier."""
    weave, _ = facts.subject.weave()
    session = onnxrt.session(weave.model(facts.subject.ir_version))
    for feeds in zip(given.feeds(), other.feeds(), strict=True):
        found = [onnxrt.run(session, one) for one in feeds]
        if not is_classifier(feeds[0], found[0]):
            return
        first, second = (_probabilities(next(iter(one.values()))) for one in found)
        yield first, second


def _probabilities(scores: Array) -> Array:
    flat = scores.astype(np.float64).ravel()
    if flat.min() >= 0 and abs(flat.sum() - 1) < 1e-2:
        return flat
    e = np.exp(flat - flat.max())
    return np.asarray(e / e.sum())
