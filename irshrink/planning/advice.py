"""What would help where no plan keeps the budgets: more hardware, more data, a layer that is in the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irshrink.planning.plan import Plan
from irshrink.planning.subject import Subject
from irshrink.target import board_names, load_target

#: Samples with which a drop of this share can be told from none, by counting: ten answers.
_TELLING = 10


def advice(plan: Plan, subject: Subject) -> tuple[str, ...]:
    """Sentences for the person at the terminal, most useful first."""
    found = [_board(plan, subject), _layer(plan), _data(plan)]
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


def _layer(plan: Plan) -> str | None:
    """The layer whose weights lose most, where accuracy is what is missing."""
    if not any(budget.quantity == "drop" for budget in plan.budgets):
        return None
    layers = [one for one in plan.evaluations[plan.chosen].layers if _loss(one) > 0]
    if len(layers) < 2:
        return None
    worst = max(layers, key=_loss)
    share = _loss(worst) / sum(map(_loss, layers))
    return f"Layer '{worst['name']}' has {share:.0%} of what rounding weights loses."


def _loss(layer: Mapping[str, Any]) -> float:
    """What the bits that a layer got lose."""
    return float(layer.get("loss", {}).get(str(layer.get("bits")), 0.0) or 0.0)


def _data(plan: Plan) -> str | None:
    """How many samples would tell more."""
    limit = next((budget.limit for budget in plan.budgets if budget.quantity == "drop"), None)
    if limit is None or limit <= 0 or not plan.share or plan.relative_drop:
        return None
    needed = round(_TELLING / limit)
    if plan.judged_on >= needed:
        return None
    return (
        f"Accuracy was judged on {plan.judged_on:,} samples; with {needed:,} more could be told, and a plan "
        "may be found that these cannot vouch for."
    )
