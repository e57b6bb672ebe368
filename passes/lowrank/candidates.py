"""What each layer may become, and at which cost and error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irshrink.calibration.moments import MOMENTS_AT_ONCE, input_moments
from irshrink.module import Module
from irshrink.passes.lowrank.allocate import Candidate, Choice, Probe
from irshrink.passes.lowrank.costs import Meter, meter
from irshrink.passes.lowrank.fit import weights_alone
from irshrink.passes.lowrank.form import Form
from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.problem import Problem, damped
from irshrink.pipeline import Context

Array = np.ndarray[Any, np.dtype[Any]]

#: Ranks of a form that the target is asked about: each answer takes some hundredths of a second.
ASKED = 24


def candidates(
    options: RankOptions, forms: Sequence[Form], layers: Sequence[Layer], module: Module, ctx: Context
) -> list[Choice]:
    """What each layer may become; second moments of a few layers at a time are in memory."""
    budget, criterion = meter(options.counted, ctx), meter(options.saving, ctx)
    found = []
    for batch in _batches(layers):
        problems = _problems(options, batch, module, ctx)
        for layer, (problem, mean) in zip(batch, problems, strict=True):
            choice = _offers(options, forms, layer, problem, budget, criterion)
            choice.probe = _probe(choice, problem, mean)
            found.append(choice)
    return found


def _batches(layers: Sequence[Layer]) -> list[list[Layer]]:
    batches: list[list[Layer]] = []
    used = MOMENTS_AT_ONCE
    for layer in layers:
        size = 8 * layer.rows.shape[1] ** 2
        if used + size > MOMENTS_AT_ONCE:
            batches.append([])
            used = 0
        batches[-1].append(layer)
        used += size
    return batches


def _problems(
    options: RankOptions, layers: Sequence[Layer], module: Module, ctx: Context
) -> list[tuple[Problem, Array]]:
    """Of each layer, with the mean of what it reads."""
    if options.fit == "weights":
        return [(weights_alone(layer), np.zeros(layer.rows.shape[1])) for layer in layers]
    assert module.calibration is not None, "asked before"
    ctx.progress("measuring what layers read")
    moments = input_moments(module, module.calibration, [layer.node for layer in layers])
    found = []
    for layer in layers:
        one = moments[str(layer.node.outputs[0].name)]
        second, mean = one.hessian[0], one.mean[0]
        if layer.bias is not None:
            second = second - mean[:, None] * mean
        found.append((Problem(layer.rows, damped(second, options.damping)), mean))
    return found


def _offers(
    options: RankOptions,
    forms: Sequence[Form],
    layer: Layer,
    problem: Problem,
    budget: Meter,
    criterion: Meter,
) -> Choice:
    whole, most = budget(layer, None), criterion(layer, None) * (1 - options.least_saving)
    candidates: list[Candidate] = []
    for form in forms:
        if form.why_not(layer) is not None:
            continue
        ranks = form.ranks(layer, options.multiple)
        if "target" in (options.by, options.saving):
            ranks = ranks[:: -(-len(ranks) // ASKED)]
        stages = [form.stages(layer, one) for one in ranks]
        costs = [criterion(layer, one) for one in stages]
        paying = [k for k, cost in enumerate(costs) if cost < most]
        errors = form.errors(layer, problem, [ranks[k] for k in paying])
        candidates += [
            Candidate(form, ranks[k], error, budget(layer, stages[k]), 1 - costs[k] / criterion(layer, None))
            for k, error in zip(paying, errors, strict=True)
        ]
    candidates.sort(key=lambda one: (one.cost, one.error))
    reason = "" if candidates else f"no rank that is a multiple of {options.multiple} saves {options.saving}"
    return Choice(layer, whole, candidates, reason=reason)


def _probe(choice: Choice, problem: Problem, mean: Array) -> Probe | None:
    """The least error at half of the cost, or near it."""
    if not choice.candidates:
        return None
    half = [one for one in choice.candidates if one.cost <= choice.cost / 2] or choice.candidates[:1]
    best = min(half, key=lambda one: (one.error, one.cost))
    matrix = best.form.factor(choice.layer, problem, best.ranks).matrix
    return Probe(best.error, matrix, (choice.layer.rows - matrix) @ mean)
