"""The search for a plan: a baseline, what can be reached at all, a sweep, and rounds of proposals.

Every round asks the predictor, tries a batch of fixed size, and learns. Results are told in the order of the
batch, and nothing depends on who computed them, or when: the plan is the same with one worker and with
twenty, interrupted or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from irshrink.blas import one_thread
from irshrink.console import Progress
from irshrink.errors import BudgetError
from irshrink.knobs import Knob, Step, Wishes
from irshrink.planning import answer
from irshrink.planning.advice import advice
from irshrink.planning.evaluate import Job, Measured
from irshrink.planning.goal import Goal
from irshrink.planning.knobs_of import knobs_of
from irshrink.planning.plan import Evaluation, Figures, Plan, Prediction
from irshrink.planning.predict import Predictor, Space
from irshrink.planning.propose import Proposer, Setting
from irshrink.planning.subject import Subject
from irshrink.planning.timing import Timing
from irshrink.planning.workers import Workers, workers_for
from irshrink.recipe import Recipe

#: Settings that are tried at a time, however many workers there are.
BATCH = 4
#: How many are tried where nobody says: by the multiply-accumulates of the model, at most so many.
_EVALUATIONS = ((20e6, 32), (100e6, 24), (float("inf"), 12))
#: A baseline that misses a budget by so much of it makes worth asking what can be reached at all.
_FAR = 1.0
#: What misses no budget: it leaves what the objective makes small.
_NOTHING = Figures(file_bytes=0, weights_bytes=0, flash_bytes=0, arena_bytes=0, ram_bytes=0, cost=0.0, macs=0)


@dataclass(frozen=True)
class Found:
    """Attributes:
    plan: what was tried and chosen; of those that miss the budgets the nearest where none keeps them.
    recipe: compiles the chosen one.
    choose: makes the answer of what was tried.
    """

    plan: Plan
    recipe: Recipe
    choose: Callable[[Sequence[Evaluation]], Found]

    def require_met(self) -> None:
        """
        Raises:
            BudgetError: no plan keeps the budgets; the message says what is nearest and what would help.
        """
        if not self.plan.met:
            raise BudgetError(answer.sentence(self.plan))

    def without_chosen(self, reason: str) -> Found:
        """The next best plan, where building the chosen one did not keep what was predicted."""
        tried = list(self.plan.evaluations)
        failed = tried[self.plan.chosen]
        tried[self.plan.chosen] = msgspec.structs.replace(failed, figures=None, failed=reason)
        return self.choose(tried)


@one_thread()
def search_plan(
    model: Path,
    recipe: Recipe,
    *,
    processes: int = 0,
    cluster: str | None = None,
    folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> Found:
    """Find the steps that keep the recipe's budgets and do best by its objective.

    Args:
        recipe: what its shorthands say is fixed; the rest is searched.
        processes: how many work at a time; 0 for as many as there are cores.
        cluster: of Dask, instead: a scheduler's address, or ``local:N``.
        folder: the journal: what is tried once is remembered there. By default in the user's cache.

    Raises:
        UserError: the model, the data or the recipe.
        ToolError: the compiler, the emulator or the cluster.
    """
    subject = Subject.open(model, recipe, progress)
    goal = Goal.of(recipe, subject.target)
    with workers_for(
        subject, processes=processes, cluster=cluster, folder=folder, progress=progress
    ) as workers:
        return Search(subject, goal, recipe, workers, progress).run()


@dataclass
class Search:
    """One search.

    Args:
        goal: budgets and objective.
        recipe: as the user gave it.
        workers: who evaluates.
    """

    subject: Subject
    goal: Goal
    recipe: Recipe
    workers: Workers
    progress: Progress
    _tried: list[Evaluation] = field(default_factory=list)
    _first: Measured | None = None
    _timing: Timing = field(init=False)

    def __post_init__(self) -> None:
        self._timing = Timing(self.subject, self.progress, self.workers.processes)

    def run(self) -> Found:
        """Search until the number of evaluations is used up, or nothing is left to try."""
        most = self.recipe.evaluations or _usual(self.subject.macs)
        space = Space(self._knobs(None))
        self._try(space, [space.base], "baseline", None)
        baseline = self._tried[0]
        if baseline.figures is None:
            raise BudgetError(f"the model cannot be quantized as it is: {baseline.failed}")
        if self.recipe.objective is None and baseline.violation == 0:
            return self._found(space, self._tried)
        space = Space(self._knobs(baseline))
        if self._is_out_of_reach(space, baseline):
            return self._found(space, self._tried)
        sweep = self._sweep(space, max(1, most // 2))
        self._timing.announce(most, sweep, space)
        self._try(space, sweep, "sweep", None)
        while (left := most - sum(e.purpose != "extreme" for e in self._tried)) > 0:
            predictor = Predictor(space, _judged(self._tried))
            known = [space.setting(e.levels) for e in self._tried]
            proposer = Proposer(predictor, self.goal, self._spread(), self.recipe.seed)
            batch = proposer.batch(min(BATCH, left), known)
            if not batch:
                break
            self._try(space, batch, "proposed", predictor)
        return self._found(space, self._tried)

    @property
    def _fit(self) -> int:
        """How many samples passes fit to."""
        assert self.subject.module.calibration is not None, "Subject.open refuses to go without"
        return len(self.subject.module.calibration)

    def _knobs(self, baseline: Evaluation | None) -> tuple[Knob, ...]:
        """The knobs that help; before the baseline is known those that are in every plan.

        What only a budget that the baseline misses asks for is a decision, also where it loses nothing.
        """
        effects = self.goal.effects(_NOTHING if baseline is None else answer.figures_of(baseline))
        wishes = Wishes(
            effects,
            exact_costs=self.subject.cost_unit == "instructions",
            samples=self._fit,
            target=self.subject.target,
            cost_matters=self.goal.minimized == "cost" or self.goal.limit("cost") is not None,
        )
        knobs = knobs_of(self.subject.module, wishes, self.recipe)
        if baseline is None:
            return tuple(knob for knob in knobs if knob.obligatory)
        return tuple(replace(k, obligatory=k.obligatory and k.name in baseline.levels) for k in knobs)

    def _sweep(self, space: Space, most: int) -> list[Setting]:
        """Every knob alone, a third and two thirds of the way; only half way where that is too many."""
        found = _alone(space, (1 / 3, 2 / 3))
        return found if len(found) <= most else _alone(space, (1 / 2,))

    def _is_out_of_reach(self, space: Space, baseline: Evaluation) -> bool:
        """Whether even everything at its most misses a budget of memory, size or cost."""
        rest = Goal(self.goal.objective, tuple(b for b in self.goal.budgets if b.quantity != "drop"))
        if rest.violation(answer.figures_of(baseline)) < _FAR or space.extreme == space.base:
            return False
        self._try(space, [space.extreme], "extreme", None, judged=False)
        reached = self._tried[-1].figures
        return reached is not None and rest.violation(reached) > 0

    def _try(
        self,
        space: Space,
        settings: Sequence[Setting],
        purpose: str,
        predictor: Predictor | None,
        judged: bool = True,
    ) -> None:
        jobs = [Job(steps_of(space, setting), judged) for setting in settings]
        expected = [None if predictor is None else predictor.one(setting) for setting in settings]
        for setting, job, prediction, measured in zip(
            settings, jobs, expected, self.workers.run(jobs, self._timing.watch(jobs)), strict=True
        ):
            self._first = self._first or measured
            self._tried.append(self._evaluation(space, setting, job, purpose, prediction, measured))

    def _evaluation(
        self,
        space: Space,
        setting: Setting,
        job: Job,
        purpose: str,
        expected: Prediction | None,
        measured: Measured,
    ) -> Evaluation:
        figures = measured.figures
        return Evaluation(
            levels=space.levels(setting),
            steps=tuple(dict(step) for step in job.steps),
            purpose=purpose,  # type: ignore[arg-type]
            figures=figures,
            spread=measured.spread,
            failed=measured.failed,
            expected=expected,
            violation=0.0 if figures is None else self.goal.violation(figures, measured.spread),
            layers=measured.layers,
        )

    def _spread(self) -> float:
        """The standard error that a drop near the budget has."""
        limit = self.goal.limit("drop")
        near = [e for e in _judged(self._tried) if e.figures is not None and (e.spread > 0)]
        if limit is None or not near:
            return 0.0
        return min(near, key=lambda e: abs(answer.figures_of(e).drop - limit)).spread

    def _found(self, space: Space, tried: Sequence[Evaluation]) -> Found:
        chosen, first = answer.best(tried, self.goal), self._first
        assert first is not None, "the baseline is tried first"
        met = tried[chosen].violation == 0
        plan = Plan(
            objective=self.goal.objective,
            budgets=self.goal.budgets,
            metric=first.metric,
            title=first.title,
            share=first.share,
            relative_drop=self.recipe.relative_drop,
            original=first.original,
            judged_on=len(self.subject.held),
            fitted_to=self._fit,
            estimated=first.estimated,
            learned=first.learned,
            cost_unit=self.subject.cost_unit,
            knobs=answer.decisions(space, Predictor(space, _judged(self._tried)), tried[chosen]),
            evaluations=tuple(tried),
            frontier=answer.frontier(tried),
            chosen=chosen,
            met=met,
            relaxations=() if met else answer.relaxations(tried, self.goal),
        )
        plan = plan if met else msgspec.structs.replace(plan, advice=advice(plan, self.subject))
        recipe = recipe_of(self.recipe, tried[chosen].steps, self._fit)
        return Found(plan, recipe, partial(self._found, space))


def _alone(space: Space, shares: Sequence[float]) -> list[Setting]:
    """Each knob at shares of its levels, with all others at their base."""
    found: dict[Setting, None] = {}
    for k, (knob, base) in enumerate(zip(space.knobs, space.base, strict=True)):
        for share in shares:
            level = max(base + 1, round(len(knob.levels) * share))
            if level <= len(knob.levels):
                setting = (*space.base[:k], level, *space.base[k + 1 :])
                found[setting] = None
    return list(found)


def _judged(tried: Sequence[Evaluation]) -> list[Evaluation]:
    """What predictions are made from."""
    return [e for e in tried if e.purpose != "extreme"]


def steps_of(space: Space, setting: Setting) -> tuple[Step, ...]:
    """The steps of a recipe for a setting, in the order of the knobs; what goes behind all of them last."""
    levels = [knob.levels[level - 1] for knob, level in zip(space.knobs, setting, strict=True) if level]
    return (*(step for one in levels for step in one.steps), *(step for one in levels for step in one.behind))


def recipe_of(recipe: Recipe, steps: Sequence[Step], fit: int) -> Recipe:
    """A recipe that decides by itself what a search decided, with the same budgets."""
    return msgspec.structs.replace(
        recipe,
        objective=None,
        evaluations=None,
        knobs=(),
        quantize=None,
        keep_float=(),
        prune=None,
        low_rank=None,
        sparsity=None,
        fit=fit,
        steps=tuple(dict(step) for step in steps),
    )


def _usual(macs: int) -> int:
    return next(count for most, count in _EVALUATIONS if macs <= most)
