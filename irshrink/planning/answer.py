"""From what was tried to an answer: the plan, why it and no other one, or what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irshrink.budgets import compared
from irshrink.planning.goal import Goal
from irshrink.planning.plan import (
    Alternative,
    Budget,
    Decision,
    Evaluation,
    Figures,
    Option,
    Plan,
    Prediction,
    Relaxation,
)
from irshrink.planning.predict import Predictor, Space

#: What a plan does with a budget of memory, and with one of accuracy, which counts with its standard error.
_TAKING = ("taking", "losing up to")
#: A plan that no other one beats in all of these is on the frontier.
_FRONTIER = ("drop", "file_bytes", "flash_bytes", "ram_bytes", "cost")


def best(tried: Sequence[Evaluation], goal: Goal) -> int:
    """The index of the plan that is best within the budgets, or nearest to them.

    Those that were only planned, to see what can be reached, lose too much to be meant.
    """
    known = [i for i, e in enumerate(tried) if e.figures is not None and e.purpose != "extreme"]
    return min(known, key=lambda i: (*goal.rank(figures_of(tried[i]), tried[i].spread), i))


def frontier(tried: Sequence[Evaluation]) -> tuple[int, ...]:
    """Indices of the plans that no other one beats."""
    points = {
        i: tuple(float(getattr(e.figures, name)) for name in _FRONTIER)
        for i, e in enumerate(tried)
        if e.figures is not None and e.purpose != "extreme"
    }
    beaten = {
        i
        for i, mine in points.items()
        for j, other in points.items()
        if i != j and all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or j < i)
    }
    return tuple(i for i in points if i not in beaten)


def decisions(space: Space, predictor: Predictor, chosen: Evaluation) -> tuple[Decision, ...]:
    """Of every knob what was taken, and what the plan would be with another level of it."""
    setting = space.setting(chosen.levels)
    measured = {space.setting(e.levels): e.figures for e in predictor.tried if e.figures is not None}
    found = []
    for k, (knob, choices) in enumerate(zip(space.knobs, space.choices(), strict=True)):
        alternatives = []
        for level in choices:
            other = (*setting[:k], level, *setting[k + 1 :])
            known = measured.get(other)
            alternatives.append(_alternative(level, known or predictor.one(other), known is not None))
        found.append(
            Decision(
                knob=knob.name,
                title=knob.title,
                place=knob.place,
                chosen=setting[k],
                options=tuple(Option(label=one.label, amount=one.amount) for one in knob.levels),
                alternatives=tuple(alternatives),
            )
        )
    return tuple(found)


def relaxations(tried: Sequence[Evaluation], goal: Goal) -> tuple[Relaxation, ...]:
    """For every budget what it would have to be, with all others as they are."""
    found = []
    for budget in goal.budgets:
        needed = [
            (_amount(budget, e), i)
            for i, e in enumerate(tried)
            if e.figures is not None and e.purpose != "extreme" and _keeps_others(e, budget, goal)
        ]
        if needed and min(needed)[0] > budget.limit:
            amount, index = min(needed)
            found.append(Relaxation(budget.quantity, budget.option, budget.limit, amount, index))
    return tuple(found)


def sentence(plan: Plan) -> str:
    """Why there is no plan, and what would help: for the person at the terminal."""
    nearest = plan.evaluations[plan.chosen]
    over = [
        f"{b.option} {shown(b.quantity, b.limit, plan)} by {_TAKING[b.quantity == 'drop']} "
        f"{shown(b.quantity, taken, plan)}"
        for b in plan.budgets
        if (taken := _amount(b, nearest)) > b.limit
    ]
    tried = sum(one.figures is not None for one in plan.evaluations)
    parts = [
        f"no plan keeps the budgets, of {tried} that were tried. The nearest ({described(nearest, plan)}) "
        f"misses {'; '.join(over)}. It loses {_lost(nearest, plan)}."
    ]
    parts += [_even_so(e, plan) for e in plan.evaluations if e.purpose == "extreme" and e.figures is not None]
    if plan.relaxations:
        ways = [f"{r.option} {shown(r.quantity, r.needed, plan)}" for r in plan.relaxations]
        parts.append(f"With all else as it is there would be a plan for {', or for '.join(ways)}.")
    return " ".join([*parts, *plan.advice])


def _lost(evaluation: Evaluation, plan: Plan) -> str:
    lost, error = (shown("drop", x, plan) for x in (figures_of(evaluation).drop, evaluation.spread))
    return f"{lost}, give or take {error}" if evaluation.spread else lost


def _even_so(extreme: Evaluation, plan: Plan) -> str:
    """What the model takes with everything at its most, as far as that is too much."""
    taken = [
        shown(b.quantity, _amount(b, extreme), plan)
        for b in plan.budgets
        if b.quantity != "drop" and _amount(b, extreme) > b.limit
    ]
    if not taken:
        return "With everything at its most it would be small enough; what that loses was not looked at."
    return f"Even with everything at its most, whatever that loses, it takes {' and '.join(taken)}."


def described(evaluation: Evaluation, plan: Plan) -> str:
    """A plan in a few words: ``channels removed: 30 % of the bytes; numbers: int8``."""
    by_name = {one.knob: one for one in plan.knobs}
    parts = [
        f"{by_name[name].title}: {by_name[name].options[level - 1].label}"
        for name, level in evaluation.levels.items()
        if name in by_name
    ]
    return "; ".join(parts) or "the model as it is"


def shown(quantity: str, amount: float, plan: Plan) -> str:
    """An amount with its unit."""
    if quantity == "drop":
        if plan.relative_drop:
            return f"{amount:.2%} of the accuracy"
        return f"{100 * amount:.2f} points" if plan.share else f"{amount:.4g}"
    unit = plan.cost_unit if quantity == "cost" else "bytes"
    return f"{amount:,.0f} {unit}"


def _amount(budget: Budget, evaluation: Evaluation) -> float:
    """What a budget is compared with."""
    amount = float(getattr(evaluation.figures, budget.quantity))
    return compared(budget.quantity, amount, evaluation.spread)


def _keeps_others(evaluation: Evaluation, budget: Budget, goal: Goal) -> bool:
    return all(_amount(other, evaluation) <= other.limit for other in goal.budgets if other is not budget)


def figures_of(evaluation: Evaluation) -> Figures:
    """Of an evaluation that did not fail."""
    assert evaluation.figures is not None
    return evaluation.figures


def _alternative(level: int, figures: Figures | Prediction, measured: bool) -> Alternative:
    names: dict[str, Any] = {
        name: float(getattr(figures, name))
        for name in ("drop", "flash_bytes", "ram_bytes", "cost", "file_bytes")
    }
    return Alternative(level=level, measured=measured, **names)
