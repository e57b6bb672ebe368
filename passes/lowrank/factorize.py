"""From options to factors: what all passes of low rank do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irshrink.calibration.moments import MOMENTS_AT_ONCE, input_moments
from irshrink.changes import ChangeLog
from irshrink.errors import RecipeError
from irshrink.graph.edit import base_name
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.lowrank.allocate import (
    Candidate,
    Choice,
    Probe,
    choose_each,
    choose_together,
    rank_text,
)
from irshrink.passes.lowrank.costs import Meter, meter, others
from irshrink.passes.lowrank.fit import Fitted, fit_to_outputs, fit_to_weights, weights_alone
from irshrink.passes.lowrank.form import Form
from irshrink.passes.lowrank.layers import Layer, find_layers
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.problem import Problem, damped
from irshrink.passes.lowrank.sensitivity import measure_sensitivity
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


def factorize(
    options: RankOptions, name: str, forms: Sequence[Form], module: Module, ctx: Context
) -> PassResult:
    """Factorize the layers of a model as the options say.

    Raises:
        RecipeError: calibration data is needed and missing, or costs on the target are and are not known.
        ModelError: ONNX Runtime cannot run the model.
    """
    if options.fit == "outputs" and module.calibration is None:
        raise RecipeError(
            f"{name}: fit = outputs needs calibration data. Give --calibration, or fit = weights."
        )
    require_matches(module.graph, options.keep, "keep")
    layers, left = find_layers(module.graph)
    reasons = dict(left)
    wanted = []
    for layer in layers:
        refusal = _why_not(layer, forms, options.keep)
        if refusal is None:
            wanted.append(layer)
        else:
            reasons[layer.name] = refusal
    log = ChangeLog(module.graph)
    choices = _choices(options, forms, wanted, module, ctx)
    met = _choose(options, choices, module, ctx)
    found = _fit(options, choices, module, ctx)
    reasons.update((c.layer.name, c.reason) for c in choices if c.chosen is None)
    for layer_name, reason in reasons.items():
        ctx.note(f"{layer_name} stays whole: {reason}")
    if not met:
        ctx.note(f"the budget of {options.by} = {options.budget:g} is not met: no layer gives up more")
    if not found:
        return PassResult(False, stats={"factorized": 0})
    infer_shapes(module.model)
    return PassResult(True, stats={"factorized": len(found), **_told(log, found, module)})


def _why_not(layer: Layer, forms: Sequence[Form], keep: Sequence[str]) -> str | None:
    if matches(layer.node, keep):
        return "it is to be kept"
    reasons = [form.why_not(layer) for form in forms]
    return None if None in reasons else str(reasons[-1])


def _choices(
    options: RankOptions, forms: Sequence[Form], layers: Sequence[Layer], module: Module, ctx: Context
) -> list[Choice]:
    """What each layer may become; second moments of a few layers at a time are in memory."""
    budget, criterion = meter(options.counted, ctx), meter(options.saves, ctx)
    found = []
    for batch in _batches(layers):
        problems = _problems(options, batch, module, ctx)
        for layer, (problem, mean) in zip(batch, problems, strict=True):
            choice = _choice(options, forms, layer, problem, budget, criterion)
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


def _choice(
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
        stages = [form.stages(layer, one) for one in ranks]
        costs = [criterion(layer, one) for one in stages]
        paying = [k for k, cost in enumerate(costs) if cost < most]
        errors = form.errors(layer, problem, [ranks[k] for k in paying])
        candidates += [
            Candidate(form, ranks[k], error, budget(layer, stages[k]), 1 - costs[k] / criterion(layer, None))
            for k, error in zip(paying, errors, strict=True)
        ]
    candidates.sort(key=lambda one: (one.cost, one.error))
    reason = "" if candidates else f"no rank that is a multiple of {options.multiple} saves {options.saves}"
    return Choice(layer, whole, candidates, reason=reason)


def _probe(choice: Choice, problem: Problem, mean: Array) -> Probe | None:
    """The least error at half of the cost, or near it."""
    if not choice.candidates:
        return None
    half = [one for one in choice.candidates if one.cost <= choice.cost / 2] or choice.candidates[:1]
    best = min(half, key=lambda one: (one.error, one.cost))
    matrix = best.form.factor(choice.layer, problem, best.ranks).matrix
    return Probe(best.error, matrix, (choice.layer.rows - matrix) @ mean)


def _choose(options: RankOptions, choices: Sequence[Choice], module: Module, ctx: Context) -> bool:
    if options.scope == "layer":
        choose_each(choices, options.by, options.budget)
        return True
    if options.fit == "outputs":
        assert module.calibration is not None, "asked before"
        measure_sensitivity(choices, module, module.calibration, ctx)
    rest = others(module.graph, [choice.layer for choice in choices], options.counted, ctx)
    total = rest + sum(choice.cost for choice in choices)
    return choose_together(choices, options.by, options.budget, total)


def _fit(options: RankOptions, choices: Sequence[Choice], module: Module, ctx: Context) -> list[Fitted]:
    if all(choice.chosen is None for choice in choices):
        return []
    original = module.keep_original()
    if options.fit == "weights":
        return fit_to_weights(choices)
    assert module.calibration is not None, "asked before"
    del original
    return fit_to_outputs(module, module.clone(), choices, module.calibration, ctx, options)


def _told(log: ChangeLog, found: Sequence[Fitted], module: Module) -> dict[str, object]:
    for one in found:
        choice = one.choice
        assert choice.chosen is not None
        chosen, name = choice.chosen, base_name(choice.layer.node)
        kept = f"{100 * (1 - chosen.error):.2f} % of the energy"
        log.because(
            name,
            kind="rank",
            detail=f"{chosen.form.name} at rank {rank_text(chosen.ranks)}, {kept}",
            output_error=one.error,
            into=one.into,
        )
    return log.stats(module.graph)


def root(error: float) -> float:
    """Of a squared error that may be a rounding error below 0."""
    return math.sqrt(max(0.0, error))
