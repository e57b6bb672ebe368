"""From options to factors: what all passes of low rank do."""

from __future__ import annotations

from collections.abc import Sequence

from irshrink.changes import ChangeLog
from irshrink.errors import RecipeError
from irshrink.graph.edit import base_name
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.lowrank.allocate import rank_text
from irshrink.passes.lowrank.candidates import candidates
from irshrink.passes.lowrank.fit import Fitted
from irshrink.passes.lowrank.form import Form
from irshrink.passes.lowrank.layers import Layer, find_layers
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.settle import settle
from irshrink.passes.prune.dequantize import on_floats
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.pipeline import Context, PassResult


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
    with on_floats(module, ctx):
        return _factorized(options.known(ctx), forms, module, ctx)


def _factorized(options: RankOptions, forms: Sequence[Form], module: Module, ctx: Context) -> PassResult:
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
    choices = candidates(options, forms, wanted, module, ctx)
    outcome = settle(options, choices, module, ctx)
    reasons.update((c.layer.name, c.reason) for c in choices if c.chosen is None)
    for layer_name, reason in reasons.items():
        ctx.note(f"{layer_name} stays whole: {reason}")
    if not outcome.found:
        return PassResult(False, stats={"factorized": 0})
    module.keep_original()
    for one in outcome.found:
        _write(one, log)
    infer_shapes(module.model)
    stats = {"factorized": len(outcome.found), "output_error": outcome.error}
    told = {key: value for key, value in stats.items() if value is not None}
    return PassResult(True, stats={**told, **log.stats(module.graph)})


def _write(one: Fitted, log: ChangeLog) -> None:
    chosen, layer = one.choice.chosen, one.choice.layer
    assert chosen is not None, "only chosen layers are fitted"
    name = base_name(layer.node)
    kept = f"{100 * (1 - chosen.error):.2f} % of the energy"
    detail = f"{chosen.form.name} at rank {rank_text(chosen.ranks)}, {kept}"
    log.because(name, kind="rank", detail=detail, output_error=one.error, into=one.write(layer))


def _why_not(layer: Layer, forms: Sequence[Form], keep: Sequence[str]) -> str | None:
    if matches(layer.node, keep):
        return "it is to be kept"
    reasons = [form.why_not(layer) for form in forms]
    return None if None in reasons else str(reasons[-1])
