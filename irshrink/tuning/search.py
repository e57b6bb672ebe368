"""Which schedules to measure next.

Where all fit into the budget, all are measured, in order. Otherwise a first trial takes the rule's schedule
and an even spread of the others; then a model of the costs measured so far ranks what is left, and every
trial takes the cheapest-looking ones, with one in four from where the model knows least.

The model is ridge regression of log cost on the schedule's values, their squares and their products. It
starts from what the journal holds, so a search goes on where it was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from irshrink.tuning.database import Schedule
from irshrink.tuning.journal import Measurement
from irshrink.tuning.tasks import without

_RIDGE = 1e-3
#: One of so many comes from where the model knows least.
_EXPLORE = 4


def next_batch(
    candidates: Sequence[Schedule], found: Sequence[Measurement], size: int, trials: int
) -> list[Schedule]:
    """At most ``size`` schedules that were not measured yet; none when all were.

    Args:
        candidates: every schedule there is, the rule's first.
        trials: how many batches the budget has in all.
    """
    left = without(candidates, [m.schedule for m in found])
    if len(candidates) <= size * trials:
        return left[:size]
    costs = [(m.schedule, m.cost) for m in found if m.cost is not None]
    if len(costs) < 4:
        return _spread(left, size)
    return _promising(left, costs, size)


def _spread(schedules: Sequence[Schedule], size: int) -> list[Schedule]:
    """The first one, and others at even distances."""
    if len(schedules) <= size:
        return list(schedules)
    places = np.unique(np.linspace(0, len(schedules) - 1, size).round().astype(int))
    return [schedules[i] for i in places]


def _promising(
    left: Sequence[Schedule], costs: Sequence[tuple[Schedule, float]], size: int
) -> list[Schedule]:
    """Those with the lowest predicted cost, and some with the least certain one."""
    if len(left) <= size:
        return list(left)
    known = features([s for s, _ in costs], [s for s, _ in costs] + list(left))
    unknown = features(left, [s for s, _ in costs] + list(left))
    targets = np.log(np.maximum([c for _, c in costs], 1e-12))
    predicted, doubt = ridge(known, targets, unknown)
    explored = max(1, size // _EXPLORE)
    chosen = list(np.argsort(predicted, kind="stable")[: size - explored])
    chosen += [i for i in np.argsort(-doubt, kind="stable") if i not in chosen][:explored]
    return [left[i] for i in chosen]


def features(schedules: Sequence[Schedule], space: Sequence[Schedule]) -> NDArray[np.float64]:
    """[n, f]: every choice as a number, scaled to 0..1 over ``space``, each word by itself; all products."""
    names = sorted({name for one in space for name in one})
    columns = []
    for name in names:
        values = [one.get(name) for one in space]
        if any(isinstance(value, str) for value in values):
            words = sorted({str(value) for value in values})
            columns += [[float(str(one.get(name)) == word) for one in schedules] for word in words[1:]]
            continue
        numbers = np.log2(1.0 + np.array([float(value or 0) for value in values]))
        low, span = numbers.min(), max(float(np.ptp(numbers)), 1e-9)
        columns.append([(float(np.log2(1.0 + float(one.get(name) or 0))) - low) / span for one in schedules])
    base = np.array(columns, np.float64).reshape(len(columns), len(schedules)).T
    products = [base[:, i] * base[:, j] for i, j in combinations(range(base.shape[1]), 2)]
    return np.column_stack([np.ones(len(schedules)), base, base**2, *products])


def ridge(
    x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions of ridge regression at ``at``, and their variance up to a factor."""
    mean = y.mean()
    inverse = np.linalg.inv(x.T @ x + _RIDGE * np.eye(x.shape[1]))
    weights = inverse @ (x.T @ (y - mean))
    return mean + at @ weights, np.einsum("nf,fg,ng->n", at, inverse, at)
