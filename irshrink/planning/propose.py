"""Settings that are worth trying, by what is predicted of them.

Of a few million settings at most all are predicted, so that the best is the best. Of more, Optuna's NSGA-II
looks for those that no other one beats (Deb et al., *A fast and elitist multiobjective genetic algorithm:
NSGA-II*, 2002; Akiba et al., *Optuna*, KDD 2019), with a seed, in one thread: the same settings each time.

A prediction is wrong by some factor, so a batch is aimed at several points around the budgets: at them,
within them, and somewhat beyond. What comes back tells the predictor where the budgets really are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.planning.goal import Goal
from irshrink.planning.plan import Quantity
from irshrink.planning.predict import Predictor, Space

Array = np.ndarray[Any, np.dtype[Any]]
Setting = tuple[int, ...]

#: How many settings are predicted one by one; more are searched.
MOST = 1 << 20
#: Parts of the budgets that a batch is aimed at, in turn: of the drop, and of everything else.
_AIMS: tuple[tuple[float, float], ...] = (
    (1.0, 1.0),
    (0.6, 1.0),
    (4.0, 1.1),
    (0.8, 0.97),
    (0.3, 0.95),
    (1.8, 1.0),
)
_TRIALS, _POPULATION = 1500, 60


@dataclass(frozen=True)
class Proposer:
    """Args:
    predictor: what is known.
    goal: budgets and objective.
    spread: standard error that drops have, which budgets must leave room for.
    seed: of the search in large spaces.
    """

    predictor: Predictor
    goal: Goal
    spread: float
    seed: int

    def batch(self, count: int, known: Collection[Setting]) -> list[Setting]:
        """At most ``count`` settings that are not known; none where nothing is left to try."""
        candidates = self._candidates()
        if not len(candidates):
            return []
        found = self.predictor.predict(candidates)
        taken = set(known)
        chosen: list[Setting] = []
        for aim in _aims(count, len(known)):
            order = np.argsort(self._score(found, *aim), kind="stable")
            fresh = (tuple(map(int, candidates[i])) for i in order)
            setting = next((one for one in fresh if one not in taken), None)
            if setting is None:
                break
            taken.add(setting)
            chosen.append(setting)
        return chosen

    def _score(self, found: dict[str, Array], drop: float, rest: float) -> Array:
        """What is to be smallest: budgets count a thousand times as much as the objective."""
        value = found[self.goal.minimized]
        score = np.asarray(value / max(float(np.median(value)), 1e-12))
        for budget in self.goal.budgets:
            limit = budget.limit * rest
            if budget.quantity == "drop":
                limit = budget.limit * drop - self.spread
            over = np.maximum(found[budget.quantity] - limit, 0.0) / max(budget.limit, 1e-3)
            score = score + 1000.0 * over
        # of settings that are as good, the one that loses least
        return np.asarray(score + 1e-3 * found["loss"] / max(float(np.max(found["loss"])), 1e-12))

    def _candidates(self) -> Array:
        space = self.predictor.space
        return space.every() if space.size <= MOST else _evolved(self.predictor, self.goal, self.seed)


def _aims(count: int, known: int) -> list[tuple[float, float]]:
    """The budgets themselves first, then others in turn: each batch has some that the last one had not."""
    others = [_AIMS[1 + (known + index) % (len(_AIMS) - 1)] for index in range(count - 1)]
    return [_AIMS[0], *others]


def _evolved(predictor: Predictor, goal: Goal, seed: int) -> Array:
    """All settings that an evolutionary search met, for what is minimized against the drop."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: Space = predictor.space
    others: list[Quantity] = [b.quantity for b in goal.budgets if b.quantity not in ("drop", goal.minimized)]
    aims = tuple(dict.fromkeys((goal.minimized, "drop", *others)))
    sampler = optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
    study = optuna.create_study(directions=["minimize"] * len(aims), sampler=sampler)
    met: list[Setting] = []

    def trial(trial: Any) -> tuple[float, ...]:
        levels = [
            trial.suggest_int(knob.name, choices.start, choices.stop - 1)
            for knob, choices in zip(space.knobs, space.choices(), strict=True)
        ]
        met.append(tuple(levels))
        found = predictor.one(levels)
        return tuple(float(getattr(found, aim)) for aim in aims)

    study.optimize(trial, n_trials=_TRIALS)
    return np.array(sorted(set(met)))
