"""What would help where no plan keeps the budgets: more hardware, more data, a layer that is in the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irshrink.budgets import compared
from irshrink.planning import answer
from irshrink.planning.plan import Plan
from irshrink.planning.subject import Subject, most_judges
from irshrink.target import board_names, load_target

#: Samples with which a drop of this share can be told from none, by counting: ten answers.
_TELLING = 10
#: Standard errors by which what a plan loses may be less than was found.
_ERRORS = 2
#: Share of the loss that one layer must have to be named, and of the bytes that it may have.
_MOST_LOSS, _SMALL = 0.5, 0.2


def advice(plan: Plan, subject: Subject) -> tuple[str, ...]:
    """Sentences for the person at the terminal, most useful first."""
    found = [_board(plan, subject), _layer(plan, subject), _data(plan, subject)]
    return tuple(sentence for sentence in found if sentence is not None)


def _board(plan: Plan, subject: Subject) -> str | None:
    """The smallest board of the same core that the nearest plan fits."""
    figures = plan.evaluations[plan.chosen].figures
    limits = {budget.quantity: budget.limit for budget in plan.budgets}
    missed = figures is not None and (
        figures.flash_bytes > limits.get("flash_bytes", figures.flash_bytes)
        or figures.ram_bytes > limits.get("ram_bytes", figures.ram_bytes)
    )
    if figures is None or not missed:
        return None
    boards = [(name, load_target(name)) for name in board_names()]
    fitting = [
        (board.flash_bytes, board.ram_bytes or 0, name)
        for name, board in boards
        if board.name == subject.target.name
        and board.flash_bytes is not None
        and board.flash_bytes >= figures.flash_bytes
        and (board.ram_bytes or 0) >= figures.ram_bytes
    ]
    return f"It would fit the board {min(fitting)[2]}." if fitting else None


def _layer(plan: Plan, subject: Subject) -> str | None:
    """A small layer whose weights lose most although they have all the bits there are: float is left to try.

    Of layers with fewer bits the search knows as much as anybody, and gives them more where that is best.
    """
    if not _misses_drop(plan):
        return None
    layers = [one for one in plan.evaluations[plan.chosen].layers if one.get("loss") and one.get("bytes")]
    worst = max(layers, key=_loss, default=None)
    if worst is None or worst["bits"] < max(map(int, worst["loss"])):
        return None
    lost, taken = sum(map(_loss, layers)), sum(one["bytes"] for one in layers)
    if _loss(worst) < _MOST_LOSS * lost or lost == 0 or worst["bytes"] > _SMALL * taken:
        return None
    more = worst["bytes"] * 32 // worst["bits"] - worst["bytes"]
    search = "" if subject.recipe.objective else " --objective accurate"
    return (
        f"Layer '{worst['name']}' has {_loss(worst) / lost:.0%} of what rounding weights loses, at "
        f"{worst['bits']} bits. In float it takes about {more:,} bytes more: try "
        f"--keep-float '{worst['name']}'{search}."
    )


def _loss(layer: Mapping[str, Any]) -> float:
    """What the bits that a layer got lose."""
    return float(layer["loss"].get(str(layer["bits"])) or 0.0)


def _data(plan: Plan, subject: Subject) -> str | None:
    """How many samples would tell more, where the nearest plan may lose no more than it may."""
    evaluation, limit = plan.evaluations[plan.chosen], _limit(plan)
    if not limit or not plan.share or plan.relative_drop or not _misses_drop(plan):
        return None
    if answer.figures_of(evaluation).drop - _ERRORS * evaluation.spread > limit:
        return None
    needed = min(round(_TELLING / limit), most_judges(subject.module, subject.macs))
    if plan.judged_on >= needed:
        return None
    whose = "at least a third of them judges" if subject.recipe.fit is None else "all but --fit of them judge"
    return (
        f"Accuracy was judged on {plan.judged_on:,} samples, few for a budget of "
        f"{answer.shown('drop', limit, plan)}; {needed:,} tell more. Give more as --calibration: "
        f"{whose}."
    )


def _misses_drop(plan: Plan) -> bool:
    evaluation, limit = plan.evaluations[plan.chosen], _limit(plan)
    if limit is None or evaluation.figures is None:
        return False
    return compared("drop", evaluation.figures.drop, evaluation.spread) > limit


def _limit(plan: Plan) -> float | None:
    """The largest drop that is accepted."""
    return next((budget.limit for budget in plan.budgets if budget.quantity == "drop"), None)
