"""What a setting of the knobs would give, from those that were tried.

Small losses add up (:mod:`irshrink.judge`), the more so the less is left to lose; what knobs save multiplies:

    loss(s)  = loss(baseline) + sum_k f_k(level_k) exp(b_k sum_{j != k} u_j(level_j))
    bytes(s) = bytes(baseline) prod_k exp(g_k(level_k)),    likewise RAM and cost

f and g come from settings where one knob alone is on: a loss is a power of the amount between two levels that
were tried, the logarithm g of a saving linear in it. u is what a knob saves in bytes or cost, as a logarithm:
a model that has lost half of its channels bears less of everything else. How much less, b >= 0, is fitted to
settings of several knobs, and usual where there are none yet. What is left is a Gaussian process over the
amounts, whose mean at a new setting corrects all (Rasmussen and Williams, *Gaussian processes for machine
learning*, 2006, section 2.2).

Accuracy is read off the loss by isotonic regression (Barlow et al., 1972) over all that was tried: more loss
is never less drop. But a knob may change many answers and as many for the better as for the worse, such as a
smaller picture that is less noisy. What a drop differs from that curve by where one knob alone is on adds up
as well, as far as it is more than its standard error, and again a process takes what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from irshrink.knobs import Knob, Place
from irshrink.planning.plan import Evaluation, Figures, Prediction

Array = np.ndarray[Any, np.dtype[Any]]

#: Quantities that knobs multiply.
FOOTPRINTS = ("file_bytes", "flash_bytes", "ram_bytes", "cost")
#: How a loss grows with the amount where one level alone was tried, and at least beyond the last that was:
#: there a knob has come to what hurts, and a search would go where a prediction is too good.
_EXPONENT, _BEYOND = 2.0, 5.0
#: Losses below this share of the baseline's, or this, are noise.
_FAINT, _LEAST = 0.02, 1e-9
#: How much more a knob usually loses beside others: of a layer in two factors both are pruned and rounded.
_STRAIN: Mapping[Place, float] = {
    "resolution": 1.0,
    "blocks": 1.0,
    "channels": 1.0,
    "rank": 3.0,
    "weights": 1.0,
    "numbers": 1.5,
}
#: The most that a fit finds, how strongly it is held to what is usual, and the most e-folds.
_MOST_STRAIN, _HOLD, _STEEPEST = 6.0, 0.5, 25.0
#: How often the curve of drops and what knobs differ from it by are fitted to what the other one leaves.
_ROUNDS = 2
#: The Gaussian process: how far a correction reaches (all amounts are at most 1), and how much is noise.
_REACH, _NOISE = 0.5, 0.02
#: Settings that are predicted at a time; bounds memory.
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Space:
    """All settings: one level a knob, 0 for off."""

    knobs: tuple[Knob, ...]

    @property
    def base(self) -> tuple[int, ...]:
        return tuple(1 if knob.obligatory else 0 for knob in self.knobs)

    @property
    def extreme(self) -> tuple[int, ...]:
        return tuple(len(knob.levels) for knob in self.knobs)

    @property
    def size(self) -> int:
        return int(np.prod([len(choices) for choices in self.choices()], dtype=float)) if self.knobs else 1

    def choices(self) -> list[range]:
        """The levels of each knob."""
        return [range(1 if knob.obligatory else 0, len(knob.levels) + 1) for knob in self.knobs]

    def every(self) -> Array:
        """All settings, int64 [n, knobs]."""
        grid = np.meshgrid(*self.choices(), indexing="ij")
        return np.stack([axis.reshape(-1) for axis in grid], axis=1)

    def amounts(self) -> list[Array]:
        """By knob the amount of each level from 0 on, above the base level, as a share of the most."""
        found = []
        for knob, base in zip(self.knobs, self.base, strict=True):
            amounts = np.array([0.0, *(level.amount for level in knob.levels)])
            above = np.maximum(amounts - amounts[base], 0.0)
            found.append(above / max(above[-1], _LEAST))
        return found

    def setting(self, levels: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(levels.get(knob.name, 0) for knob in self.knobs)

    def levels(self, setting: Sequence[int]) -> dict[str, int]:
        """By name, without those that are off."""
        pairs = zip(self.knobs, setting, strict=True)
        return {knob.name: int(level) for knob, level in pairs if level}


@dataclass
class Predictor:
    """Predictions for settings of a space.

    Args:
        tried: everything that was, of which the baseline is a part.
    """

    space: Space
    tried: Sequence[Evaluation]
    _curves: dict[str, list[Array]] = field(init=False)
    _strain: Array = field(init=False)
    _correction: Correction = field(init=False)
    _drops: Drops = field(init=False)

    def __post_init__(self) -> None:
        known = [(self.space.setting(e.levels), e.figures) for e in self.tried if e.figures is not None]
        figures = dict(known)
        self._base: Figures = figures[self.space.base]
        self._amounts = self.space.amounts()
        self._curves = {"loss": self._losses(figures)}
        self._curves |= {name: self._savings(figures, name) for name in FOOTPRINTS}
        settings = np.array([setting for setting, _ in known])
        self._strain = np.array([_STRAIN[knob.place] for knob in self.space.knobs])
        self._strain = self._fitted(settings, np.array([max(f.loss, _LEAST) for _, f in known]))
        measured = [[max(float(getattr(f, name)), _LEAST) for name in self._curves] for _, f in known]
        expected = np.stack([self._additive(name, settings) for name in self._curves], axis=1)
        self._correction = Correction.fit(self._features(settings), np.log(np.array(measured) / expected))
        spreads = {self.space.setting(e.levels): e.spread for e in self.tried}
        self._drops = self._fitted_drops(figures, spreads)

    def predict(self, settings: Array) -> dict[str, Array]:
        """By quantity (:class:`Prediction`) float64 [n], for int64 [n, knobs]."""
        corrections = np.exp(self._correction.at(self._features(settings)))
        found = {
            name: self._additive(name, settings) * corrections[:, index]
            for index, name in enumerate(self._curves)
        }
        found["drop"] = self._drops.at(found["loss"], settings, self._features(settings))
        return found

    def one(self, setting: Sequence[int]) -> Prediction:
        found = self.predict(np.array([setting]))
        return Prediction(**{name: float(values[0]) for name, values in found.items()})

    def _features(self, settings: Array) -> Array:
        columns = [amount[settings[:, k]] for k, amount in enumerate(self._amounts)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(settings), 0))

    def _additive(self, name: str, settings: Array) -> Array:
        base = max(float(getattr(self._base, name)), _LEAST)
        if name == "loss":
            return base + self._lost(settings, self._strain)
        parts = [curve[settings[:, k]] for k, curve in enumerate(self._curves[name])]
        return np.asarray(base * np.exp(np.sum(parts, axis=0) if parts else np.zeros(len(settings))))

    def _lost(self, settings: Array, strain: Array) -> Array:
        """What knobs lose together, more than the baseline."""
        saved = [self._saved(k)[settings[:, k]] for k in range(len(self.space.knobs))]
        whole = np.sum(saved, axis=0) if saved else np.zeros(len(settings))
        lost = np.zeros(len(settings))
        for k, curve in enumerate(self._curves["loss"]):
            lost += curve[settings[:, k]] * np.exp(np.minimum(strain[k] * (whole - saved[k]), _STEEPEST))
        return lost

    def _fitted_drops(
        self, figures: Mapping[tuple[int, ...], Figures], spreads: Mapping[tuple[int, ...], float]
    ) -> Drops:
        """The curve and what knobs differ from it by, one after the other until they agree."""
        settings, losses = np.array(list(figures)), np.array([f.loss for f in figures.values()])
        drops, base = np.array([f.drop for f in figures.values()]), self.space.base
        offsets = [np.zeros(len(amounts)) for amounts in self._amounts]
        for _ in range(_ROUNDS):
            besides = np.sum([off[settings[:, k]] for k, off in enumerate(offsets)], axis=0)
            curve = Monotone.fit(list(zip(losses, drops - besides, strict=True)))
            for k, amounts in enumerate(self._amounts):
                points = []
                for level, f in self._alone(figures, k):
                    rest = f.drop - float(curve.at(np.array([f.loss]))[0])
                    noise = spreads[_with(base, k, level)]
                    trust = float(rest / np.hypot(rest, noise)) ** 2 if rest else 0.0  # squares may vanish
                    points.append((amounts[level], trust * rest))
                offsets[k] = _lines(amounts, points)
        besides = np.sum([off[settings[:, k]] for k, off in enumerate(offsets)], axis=0)
        rest = drops - curve.at(losses) - besides
        return Drops(curve, offsets, Correction.fit(self._features(settings), rest[:, np.newaxis]))

    def _saved(self, k: int) -> Array:
        """What a knob saves at each level, as a logarithm: of bytes or of cost, whichever is more."""
        return np.maximum(0.0, -np.minimum(self._curves["file_bytes"][k], self._curves["cost"][k]))

    def _fitted(self, settings: Array, losses: Array) -> Array:
        """How much more each knob loses beside others: least squares of logarithms, held to what is usual."""
        from scipy.optimize import minimize

        several = (settings != np.array(self.space.base)).sum(axis=1) > 1
        if not several.any():
            return self._strain
        some, logs = settings[several], np.log(losses[several])
        base = max(self._base.loss, _LEAST)

        def error(strain: Array) -> float:
            rest = logs - np.log(base + self._lost(some, strain))
            return float(np.square(rest).sum() + _HOLD * np.square(strain - usual).sum())

        usual, bounds = self._strain, [(0.0, _MOST_STRAIN)] * len(self._strain)
        return np.asarray(minimize(error, self._strain, method="L-BFGS-B", bounds=bounds).x)

    def _alone(self, figures: Mapping[tuple[int, ...], Figures], k: int) -> list[tuple[int, Figures]]:
        """Levels of a knob that were tried with all others at their base."""
        base = self.space.base
        settings = [(level, _with(base, k, level)) for level in self.space.choices()[k]]
        return [(level, figures[s]) for level, s in settings if s in figures and level != base[k]]

    def _losses(self, figures: Mapping[tuple[int, ...], Figures]) -> list[Array]:
        base = self._base.loss
        least = max(_FAINT * base, _LEAST)
        curves = []
        for k, amounts in enumerate(self._amounts):
            points = [(amounts[i], max(f.loss - base, least)) for i, f in self._alone(figures, k)]
            curves.append(_powers(amounts, points))
        return curves

    def _savings(self, figures: Mapping[tuple[int, ...], Figures], name: str) -> list[Array]:
        base = max(float(getattr(self._base, name)), 1.0)
        curves = []
        for k, amounts in enumerate(self._amounts):
            tried = self._alone(figures, k)
            points = [(amounts[i], np.log(max(float(getattr(f, name)), 1.0) / base)) for i, f in tried]
            curves.append(_lines(amounts, points))
        return curves


def _with(setting: tuple[int, ...], k: int, level: int) -> tuple[int, ...]:
    """A setting with one knob at another level."""
    return (*setting[:k], level, *setting[k + 1 :])


def _powers(amounts: Array, points: Sequence[tuple[float, float]]) -> Array:
    """Through positive points (amount, value): powers of the amount between them, 0 where that is 0."""
    if not points:
        return np.zeros(len(amounts))
    points = sorted(points)
    xs, ys = (np.log([max(p[i], _LEAST) for p in points]) for i in (0, 1))
    ys = np.maximum.accumulate(ys)
    at = np.log(np.maximum(amounts, _LEAST))
    inner = np.interp(at, xs, ys)
    last = max(_BEYOND, _slope(xs[-2:], ys[-2:]))
    outer = np.where(at > xs[-1], ys[-1] + last * (at - xs[-1]), inner)
    outer = np.where(at < xs[0], ys[0] + _slope(xs[:2], ys[:2]) * (at - xs[0]), outer)
    return np.asarray(np.where(amounts > 0, np.exp(outer), 0.0))


def _slope(xs: Array, ys: Array) -> float:
    """Of a line through two points, kept within what powers of losses are; of one point what is usual."""
    if len(xs) < 2:
        return _EXPONENT
    return float(np.clip((ys[1] - ys[0]) / max(xs[1] - xs[0], _LEAST), 0.5, 6.0))


def _lines(amounts: Array, points: Sequence[tuple[float, float]]) -> Array:
    """From (0, 0) through points, and on as the last piece goes."""
    if not points:
        return np.zeros(len(amounts))
    xs, ys = (np.array([0.0, *(p[i] for p in sorted(points))]) for i in (0, 1))
    last = (ys[-1] - ys[-2]) / max(xs[-1] - xs[-2], _LEAST)
    beyond = ys[-1] + last * (amounts - xs[-1])
    return np.asarray(np.where(amounts > xs[-1], beyond, np.interp(amounts, xs, ys)))


@dataclass(frozen=True)
class Correction:
    """Means of Gaussian processes with squared-exponential covariance and prior mean 0, one a column.

    Attributes:
        points: where values are known, [n, features].
        weights: [n, columns].
    """

    points: Array
    weights: Array

    @classmethod
    def fit(cls, points: Array, values: Array) -> Correction:
        from scipy.linalg import cho_factor, cho_solve

        covariance = _covariance(points, points) + _NOISE * np.eye(len(points))
        return cls(points, cho_solve(cho_factor(covariance), values))

    def at(self, points: Array) -> Array:
        """[m, columns] at [m, features]."""
        parts = [points[i : i + _CHUNK] for i in range(0, len(points), _CHUNK)]
        return np.concatenate([_covariance(part, self.points) @ self.weights for part in parts])


def _covariance(a: Array, b: Array) -> Array:
    squares = np.zeros((len(a), len(b)))
    for k in range(a.shape[1]):
        squares += np.square(a[:, k, np.newaxis] - b[np.newaxis, :, k])
    return np.asarray(np.exp(-squares / (2 * _REACH**2)))


@dataclass(frozen=True)
class Drops:
    """From losses to drops.

    Attributes:
        curve: by the loss.
        offsets: by knob and level, what is lost besides, or less.
        rest: what settings differ by from the sum.
    """

    curve: Monotone
    offsets: Sequence[Array]
    rest: Correction

    def at(self, losses: Array, settings: Array, features: Array) -> Array:
        besides = [offset[settings[:, k]] for k, offset in enumerate(self.offsets)]
        return np.asarray(self.curve.at(losses) + np.sum(besides, axis=0) + self.rest.at(features)[:, 0])


@dataclass(frozen=True)
class Monotone:
    """A curve that never falls, from (0, 0) on; beyond the last point it goes on in proportion."""

    xs: Array
    ys: Array

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]]) -> Monotone:
        from scipy.optimize import isotonic_regression

        ordered = sorted([(0.0, 0.0), *((max(x, 0.0), max(y, 0.0)) for x, y in points)])
        xs = np.array([x for x, _ in ordered])
        ys = isotonic_regression([y for _, y in ordered]).x
        # one point a level: the middle of those that came out equal, so that the curve rises between them
        levels, where = np.unique(ys, return_inverse=True)
        middles = np.array([xs[where == i].mean() for i in range(len(levels))])
        return cls(np.concatenate([[0.0], middles]), np.concatenate([[0.0], levels]))

    def at(self, x: Array) -> Array:
        last = max(float(self.xs[-1]), _LEAST)
        return np.asarray(np.where(x > last, self.ys[-1] * x / last, np.interp(x, self.xs, self.ys)))
