"""From candidates to factors, under a budget that is checked where it is about errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.module import Module
from irshrink.passes.lowrank.allocate import Choice, choose_each, choose_together
from irshrink.passes.lowrank.costs import others
from irshrink.passes.lowrank.fit import Fitted, fit_to_outputs, fit_to_weights, is_held_back
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.sensitivity import judged_outputs, measure_sensitivity, relative_error
from irshrink.pipeline import Context
from irshrink.samples import Samples

#: Times that ranks are chosen anew because the model's error was over the budget.
TURNS = 4


@dataclass(frozen=True)
class Outcome:
    """Attributes:
    found: the factors of the layers that get some.
    error: relative squared error of the model's outputs, on samples held back where there are some; None
        where no data was looked at.
    """

    found: list[Fitted]
    error: float | None


def settle(options: RankOptions, choices: Sequence[Choice], module: Module, ctx: Context) -> Outcome:
    """Choose ranks and fit factors; the model is not changed yet.

    Errors of layers are taken to add up, and do so only roughly: a budget of the model's error is compared
    with the error of the model that came out, and spent again in proportion where that is over it.

    Raises:
        ModelError: ONNX Runtime cannot run a model.
    """
    samples = module.calibration if options.fit == "outputs" else None
    if options.scope == "layer":
        choose_each(choices, options.by, options.budget)
        return _fitted(options, choices, module, samples, ctx)
    if samples is not None:
        measure_sensitivity(choices, module, samples, ctx)
    if options.by not in ("energy", "error"):
        if not choose_together(choices, options.by, options.budget, _total(options, choices, module, ctx)):
            ctx.note(f"the budget of {options.by} = {options.budget:g} is not met: no layer gives up more")
        return _fitted(options, choices, module, samples, ctx)
    return _within(options, choices, module, samples, ctx)


def _total(options: RankOptions, choices: Sequence[Choice], module: Module, ctx: Context) -> float:
    rest = others(module.graph, [choice.layer for choice in choices], options.counted, ctx)
    return rest + sum(choice.cost for choice in choices)


def _within(
    options: RankOptions, choices: Sequence[Choice], module: Module, samples: Samples | None, ctx: Context
) -> Outcome:
    allowed = 1 - options.budget if options.by == "energy" else options.budget**2
    spent = allowed
    for _ in range(TURNS):
        choose_together(choices, "error", math.sqrt(max(0.0, spent)), 0.0)
        outcome = _fitted(options, choices, module, samples, ctx)
        if outcome.error is None or outcome.error <= allowed:
            return outcome
        spent *= min(0.7, allowed / outcome.error)
    for choice in choices:
        choice.settle(None, choice.reason or "the model would be off by more than the budget")
    ctx.note(f"the budget of {options.by} = {options.budget:g} allows nothing: errors add up to more")
    return Outcome([], None)


def _fitted(
    options: RankOptions, choices: Sequence[Choice], module: Module, samples: Samples | None, ctx: Context
) -> Outcome:
    if all(choice.chosen is None for choice in choices):
        return Outcome([], None)
    if samples is None:
        return Outcome(fit_to_weights(choices), None)
    found, trial = fit_to_outputs(module, choices, samples, ctx, options)
    judging = _judging(samples)
    wanted = judged_outputs(module, judging)
    return Outcome(found, relative_error(judged_outputs(trial, judging), wanted))


def _judging(samples: Samples) -> Samples:
    """Those held back, or all where there are none."""
    kept = [index for index in range(len(samples)) if is_held_back(index, len(samples))]
    return dataclasses.replace(samples, select=samples.select[kept]) if kept else samples
