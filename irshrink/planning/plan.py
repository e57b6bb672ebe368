"""What a search finds, as plain data: ``plan.json`` of a build is a :class:`Plan`.

Nothing here holds a path, a clock or a host name: the same model, data, budgets and versions give the same
plan on any machine and with any number of workers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from irshrink.shorthands import Objective

__all__ = [
    "Budget",
    "Decision",
    "Evaluation",
    "Figures",
    "Objective",
    "Plan",
    "Prediction",
    "Relaxation",
]

#: What a budget or an objective is about: a field of :class:`Figures`.
Quantity = Literal["drop", "file_bytes", "flash_bytes", "ram_bytes", "cost"]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan costs and gives, measured or predicted.

    Attributes:
        drop: accuracy lost on samples that nothing was fitted to, in the metric's unit (of shares 0.01 is one
            point), or of the original's where the budget is relative; 0 where nobody judged.
        loss: the same as a smooth number that adds up over small changes (:mod:`irshrink.judge`).
        file_bytes: of the ONNX model.
        weights_bytes: constants in flash.
        flash_bytes: constants, code and what every build has besides.
        arena_bytes, ram_bytes: working memory of an inference; with variables and stack.
        cost: of an inference on the target, in :attr:`Plan.cost_unit`.
        macs: multiply-accumulates.
    """

    drop: float = 0.0
    loss: float = 0.0
    file_bytes: int
    weights_bytes: int
    flash_bytes: int
    arena_bytes: int
    ram_bytes: int
    cost: float
    macs: int


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected of a plan before it was tried."""

    drop: float
    loss: float
    file_bytes: float
    flash_bytes: float
    ram_bytes: float
    cost: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One plan that was tried.

    Attributes:
        levels: by knob the level, counted from 1; knobs that are off are left out.
        steps: what a recipe says to get it.
        purpose: ``baseline`` (the obligatory levels alone), ``extreme`` (everything at its most, to see what
            can be reached), ``sweep`` (one knob alone) or ``proposed``.
        figures: measured; None where a pass refused, for the reason ``failed``.
        spread: standard error of ``figures.drop``.
        expected: before it was tried; None where nothing was known yet.
        violation: by how much it misses the budgets, 0 where it keeps them all: the sum of what each is
            exceeded by, relative to the budget.
        layers: what was decided for single layers: ``{"name", "op_type", "bits", "bytes", ...}``.
    """

    levels: dict[str, int]
    steps: tuple[dict[str, Any], ...]
    purpose: Literal["baseline", "extreme", "sweep", "proposed"]
    figures: Figures | None
    spread: float = 0.0
    failed: str | None = None
    expected: Prediction | None = None
    violation: float = 0.0
    layers: tuple[dict[str, Any], ...] = ()


class Budget(msgspec.Struct, frozen=True):
    """A limit that the user stated.

    Attributes:
        quantity: of what.
        option: what the user calls it, ``--flash``.
        limit: most that is accepted.
    """

    quantity: Quantity
    option: str
    limit: float


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A level of a knob, for people."""

    label: str
    amount: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one knob, and what its other levels would have done.

    Attributes:
        knob, title: what it is.
        chosen: the level taken, counted from 1; 0 is off.
        options: all levels.
        alternatives: for each level from 0 on the figures of the chosen plan with that level instead:
            measured where that plan was tried, else predicted.
    """

    knob: str
    title: str
    place: str
    chosen: int
    options: tuple[Option, ...]
    alternatives: tuple[Alternative, ...]


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen plan with one knob at another level."""

    level: int
    measured: bool
    drop: float
    flash_bytes: float
    ram_bytes: float
    cost: float
    file_bytes: float


class Relaxation(msgspec.Struct, frozen=True):
    """A budget that, alone moved to ``needed``, would be kept by a plan that was tried.

    Attributes:
        evaluation: index of that plan.
    """

    quantity: Quantity
    option: str
    limit: float
    needed: float
    evaluation: int


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What a search tried, what it chose, and why.

    Attributes:
        objective: what the plan was to be.
        budgets: what it had to keep.
        metric, title, share: what accuracy is; ``share`` where a hundredth of it is a point.
        relative_drop: drops are fractions of the original's accuracy.
        original: the float model's accuracy on the samples that judge.
        judged_on, fitted_to: how many samples.
        estimated: drops are estimated without counting answers, because the samples are too few to count.
        learned: they are estimated on what lies between the samples, because the original knows these by
            heart (:mod:`irshrink.planning.blended`).
        cost_unit: ``instructions`` or ``multiply-accumulates``.
        knobs: every knob that was searched.
        evaluations: everything that was tried, in order.
        frontier: indices of those that no other one beats in drop, flash, RAM and cost.
        chosen: index of the plan, or of the nearest one where none keeps the budgets.
        met: whether it keeps them.
        relaxations: what would have to give, where none does.
        advice: what would help, in sentences.
    """

    format: int = 1
    objective: Objective
    budgets: tuple[Budget, ...]
    metric: str
    title: str
    share: bool
    relative_drop: bool
    original: float
    judged_on: int
    fitted_to: int
    estimated: bool
    learned: bool = False
    cost_unit: str
    knobs: tuple[Decision, ...]
    evaluations: tuple[Evaluation, ...]
    frontier: tuple[int, ...]
    chosen: int
    met: bool
    relaxations: tuple[Relaxation, ...] = ()
    advice: tuple[str, ...] = ()
