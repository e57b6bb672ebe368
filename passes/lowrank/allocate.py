"""Which form and rank each layer gets: by a rule for each layer, or from one budget for all of them.

For one budget the errors of layers are taken as independent and small, so that they add up:

    minimize  sum_l s_l e_l(c_l)   subject to   sum_l c_l <= budget

with e_l the relative squared output error of layer l at cost c_l and s_l how much the model's output cares
for it. Walking down the lower convex hulls of all e_l(c_l) together, always where a unit of cost is given up
for the least error, solves this up to the last step (Shoham and Gersho, *Efficient bit allocation for an
arbitrary set of quantizers*, IEEE Trans. ASSP 1988).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from irshrink.passes.lowrank.form import Form, Ranks
from irshrink.passes.lowrank.layers import Layer

Array = np.ndarray[Any, np.dtype[Any]]
By = Literal["energy", "error", "macs", "parameters", "target", "rank"]


@dataclass(frozen=True)
class Candidate:
    """A form of a layer at a rank.

    Attributes:
        error: relative squared error of the layer's outputs.
        cost: by the measure of the budget.
        saved: the share of the layer's cost that is gone, by the measure that must fall.
    """

    form: Form
    ranks: Ranks
    error: float
    cost: float
    saved: float


@dataclass(frozen=True)
class Probe:
    """Other weights of a layer, for seeing what they do to the model's outputs.

    Attributes:
        error: relative squared error of the layer's outputs.
        matrix: float64 [outputs, n].
        shift: to add to the bias, float64 [outputs].
    """

    error: float
    matrix: Array
    shift: Array


@dataclass
class Choice:
    """A layer and what it may become.

    Attributes:
        cost: of the whole layer, by the measure of the budget.
        sensitivity: relative squared error of the model's output for each of the layer's.
        candidates: those that save enough, by cost.
        probe: one of them multiplied out.
        chosen: None leaves the layer whole, for ``reason``.
    """

    layer: Layer
    cost: float
    candidates: list[Candidate]
    probe: Probe | None = None
    sensitivity: float = 1.0
    chosen: Candidate | None = None
    reason: str = ""

    def settle(self, chosen: Candidate | None, reason: str = "") -> None:
        self.chosen, self.reason = chosen, reason


@dataclass(frozen=True)
class _Step:
    """From one corner of a layer's hull to the next cheaper one."""

    slope: float
    layer: int
    to: Candidate
    saves: float
    error: float = field(compare=False)


def choose_each(choices: Sequence[Choice], by: By, budget: float) -> None:
    """Every layer for itself: the cheapest candidate that keeps enough, or the best that is cheap enough."""
    for choice in choices:
        if not choice.candidates:
            continue
        kept = [one for one in choice.candidates if _allowed(one, choice, by, budget)]
        if not kept:
            choice.settle(None, _why_none(choice, by, budget))
        elif by in ("energy", "error"):
            choice.settle(min(kept, key=lambda one: (one.cost, one.error)))
        else:
            choice.settle(min(kept, key=lambda one: (one.error, one.cost)))


def _allowed(one: Candidate, choice: Choice, by: By, budget: float) -> bool:
    if by == "energy":
        return 1 - one.error >= budget
    if by == "error":
        return math.sqrt(max(0.0, one.error)) <= budget
    if by == "rank":
        return max(one.ranks) <= budget
    return one.cost <= budget * choice.cost


def _why_none(choice: Choice, by: By, budget: float) -> str:
    best = min(choice.candidates, key=lambda one: (one.error, one.cost))
    at = f"the best of what saves is {best.form.name} at rank {rank_text(best.ranks)}"
    if by == "energy":
        return f"{at}, which keeps {1 - best.error:.4f} of the energy, under {budget:g}"
    if by == "error":
        return (
            f"the best of what saves is {at}, off by {math.sqrt(max(0.0, best.error)):.3g}, over {budget:g}"
        )
    return f"nothing that it can become is within {by} = {budget:g}"


def rank_text(ranks: Ranks) -> str:
    return "x".join(map(str, ranks))


def choose_together(choices: Sequence[Choice], by: By, budget: float, total: float) -> bool:
    """One budget for all layers.

    Args:
        budget: of costs the share of ``total`` that may be left; of ``energy`` what must be kept of the
            model's output, of ``error`` its relative error.
        total: cost of the model, layers that cannot be factorized included.

    Returns:
        Whether the budget is met.
    """
    for choice in choices:
        choice.chosen = None
    steps = sorted(
        (step for index, choice in enumerate(choices) for step in _steps(index, choice)),
        key=lambda step: (step.slope, step.layer, -step.to.cost),
    )
    if by in ("energy", "error"):
        _spend_error(choices, steps, 1 - budget if by == "energy" else budget * budget)
        return True
    return _spend_cost(choices, steps, total * (1 - budget))


def _spend_error(choices: Sequence[Choice], steps: Sequence[_Step], allowed: float) -> None:
    spent, closed = 0.0, set()
    for step in steps:
        choice = choices[step.layer]
        if step.layer in closed or spent + step.error > allowed:
            closed.add(step.layer)
            if choice.chosen is None:
                choice.reason = "its cheapest error is more than the budget has left"
            continue
        spent += step.error
        choice.settle(step.to)


def _spend_cost(choices: Sequence[Choice], steps: Sequence[_Step], wanted: float) -> bool:
    saved = 0.0
    for step in steps:
        if saved >= wanted:
            break
        saved += step.saves
        choices[step.layer].settle(step.to)
    _give_back(choices, saved - wanted)
    for choice in choices:
        if choice.chosen is None and choice.candidates:
            choice.reason = "other layers give up as much for less error"
    return saved >= wanted


def _give_back(choices: Sequence[Choice], spare: float) -> None:
    """The last step may have been too long: what it saved too much goes where it helps most."""
    while spare > 0:
        best: tuple[float, Choice, Candidate] | None = None
        for choice in choices:
            if choice.chosen is None:
                continue
            for one in choice.candidates:
                gain = choice.sensitivity * (choice.chosen.error - one.error)
                if choice.chosen.cost < one.cost <= choice.chosen.cost + spare and gain > 0:
                    best = (gain, choice, one) if best is None or gain > best[0] else best
        if best is None:
            return
        _, choice, one = best
        assert choice.chosen is not None
        spare -= one.cost - choice.chosen.cost
        choice.settle(one)


def _steps(index: int, choice: Choice) -> list[_Step]:
    """Along the lower convex hull, from the whole layer to its cheapest form."""
    points = sorted(choice.candidates, key=lambda one: (-one.cost, one.error))
    here_cost, here_error = choice.cost, 0.0
    steps: list[_Step] = []
    while True:
        ahead = [one for one in points if one.cost < here_cost]
        if not ahead:
            return steps
        slopes = [max(0.0, one.error - here_error) / (here_cost - one.cost) for one in ahead]
        best = min(range(len(ahead)), key=lambda k: (slopes[k], ahead[k].cost))
        to = ahead[best]
        error = choice.sensitivity * (to.error - here_error)
        steps.append(
            _Step(choice.sensitivity * slopes[best], index, to, here_cost - to.cost, max(0.0, error))
        )
        here_cost, here_error = to.cost, to.error
