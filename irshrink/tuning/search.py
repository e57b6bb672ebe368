"""Which schedules to measure next.

Where all fit into the budget, all are measured, in order. Otherwise a first trial takes the rule's schedule,
a few that are most like it and others at random (the same ones always); then a Gaussian process over the log
costs measured so far says of every schedule that is left how cheap it may be, and each trial takes those that
may be cheapest: predicted mean less one standard deviation [1]. On spaces of 72 to 144 schedules, measured in
whole, this beat ridge regression and drawing at random (docs/decisions/0020-tuning.md).

It starts from what the journal holds, so a search goes on where it was killed.

[1] Srinivas et al., Gaussian Process Optimization in the Bandit Setting, ICML 2010.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from irshrink.tuning.database import Schedule
from irshrink.tuning.journal import Measurement
from irshrink.tuning.tasks import without

#: Length of the kernel, where every choice goes from 0 to 1, and variance of what it does not explain.
_LENGTH, _NOISE = 0.5, 1e-3
#: Costs that are needed before anything is predicted.
_FEWEST = 4

Array = NDArray[np.float64]


def next_batch(
    candidates: Sequence[Schedule], found: Sequence[Measurement], size: int, trials: int
) -> list[Schedule]:
    """At most ``size`` schedules that were not measured yet; none when all were.

    Args:
        candidates: every schedule there is, the rule's first.
        trials: how many batches the budget has in all.
    """
    left = without(candidates, [m.schedule for m in found])
    if len(left) <= size or len(candidates) <= size * trials:
        return left[:size]
    known = [(m.schedule, m.cost) for m in found if m.cost is not None]
    if len(known) < _FEWEST:
        return _first(left, candidates[0], size)
    points = features([*(s for s, _ in known), *left])
    costs = np.log(np.maximum([c for _, c in known], 1e-12))
    mean, deviation = predict(points[: len(known)], costs, points[len(known) :])
    return [left[i] for i in np.argsort(mean - deviation, kind="stable")[:size]]


def _first(left: Sequence[Schedule], rule: Schedule, size: int) -> list[Schedule]:
    """A quarter of a batch as like the rule's as there are, the rest at random."""
    near = sorted(range(len(left)), key=lambda i: (_differences(left[i], rule), i))
    close, far = near[: -(-size // 4)], near[-(-size // 4) :]
    drawn = np.random.default_rng(0).permutation(len(far))[: size - len(close)]
    return [left[i] for i in [*close, *sorted(far[j] for j in drawn)]]


def _differences(a: Schedule, b: Schedule) -> int:
    return sum(a.get(name) != b.get(name) for name in {*a, *b})


def features(schedules: Sequence[Schedule]) -> Array:
    """[n, f]: every choice from 0 to 1, numbers by their logarithms, words each by itself."""
    columns: list[Array] = []
    for name in sorted({name for one in schedules for name in one}):
        values = [one.get(name) for one in schedules]
        if any(isinstance(value, str) for value in values):
            words = np.array([str(value) for value in values])
            columns += [(words == word).astype(np.float64) for word in sorted(set(words))[1:]]
            continue
        numbers = np.log2(1.0 + np.array([float(value or 0) for value in values]))
        columns.append((numbers - numbers.min()) / max(float(np.ptp(numbers)), 1e-9))
    return np.column_stack(columns)


def predict(x: Array, y: Array, at: Array) -> tuple[Array, Array]:
    """Mean and standard deviation at ``at`` of a Gaussian process through ``y`` at ``x``."""
    inverse = np.linalg.inv(_kernel(x, x) + _NOISE * np.eye(len(x)))
    near = _kernel(at, x)
    variance = 1.0 - np.einsum("ni,ij,nj->n", near, inverse, near)
    mean, spread = y.mean(), y.std()
    return mean + near @ inverse @ (y - mean), spread * np.sqrt(np.maximum(variance, 0.0))


def _kernel(a: Array, b: Array) -> Array:
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-squares / (2 * _LENGTH**2)))
