"""What a model would take on a target, found without compiling it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irshrink.analyses.cost import graph_macs
from irshrink.changes import STATS_KEY
from irshrink.console import Progress
from irshrink.costs.service import TargetCosts, costs_for, sketched, weights_bytes
from irshrink.errors import ToolError
from irshrink.layer_cost import Footprint
from irshrink.module import Module, PassRecord
from irshrink.pipeline import Pass, options_of
from irshrink.registry import make_pass
from irshrink.target import Target
from irshrink.tuning.database import Schedules

#: What of a quantize-int8 step decides which kernels run; how ranges and roundings are found does not.
_FORMATS = ("activation_bits", "weight_bits", "per_channel", "activations")
#: Multiply-accumulates of models whose layers are measured for a report that nobody asked to wait for.
_MOST_MACS = 100_000_000
#: Steps that quantize to int8 by ways of their own.
_LIKE_INT8 = frozenset({"quantize-mixed"})
#: Steps that change how weights are stored, and nothing that depends on data.
_STORING = frozenset({"quantize-weights", "quantize-weights-int8", "store-weights", "quantize-dynamic"})


def plan_only(
    module: Module, target: Target, *, quantize: Sequence[Pass] = (), costs: TargetCosts | None = None
) -> Footprint:
    """Weights in flash and the arena of the real plan; with ``costs`` also code and instructions.

    Args:
        module: cleaned up; it is not changed.
        quantize: passes that it goes through before it is compiled, unless it is quantized.

    Raises:
        UnsupportedModelError: the target has no kernel for a node.
        ToolError: the backend cannot plan without compiling.
    """
    if costs is not None:
        return costs.of_module(module)
    sketch = sketched(module.clone(), target, quantize)
    return Footprint(weights_bytes(sketch), None, sketch.plan.nbytes, None)


def formats(steps: Sequence[Pass]) -> list[Pass]:
    """The steps of a recipe that decide number formats, in a form that needs little data and no search."""
    found: list[Pass] = []
    for step in steps:
        if step.name == "quantize-int8":
            options: Mapping[str, Any] = options_of(step)
            found.append(make_pass(step.name, {**_kept(options), "method": "minmax"}))
        elif step.name in _LIKE_INT8:
            found.append(make_pass("quantize-int8", {"method": "minmax"}))
        elif step.name in _STORING:
            found.append(step)
    return found


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _FORMATS if name in options}


def costs_if_any(target: Target, steps: Sequence[Pass], schedules: Schedules) -> TargetCosts | None:
    """The costs of a target for a recipe's steps; None where nothing here can measure for it."""
    try:
        return costs_for(target, quantize=formats(steps), schedules=schedules)
    except ToolError:
        return None


def footprint_before(
    whole: Module,
    history: Sequence[PassRecord],
    target: Target,
    steps: Sequence[Pass],
    costs: TargetCosts | None,
    progress: Progress,
) -> Footprint | None:
    """What a model would take without the passes that took something away; None where none did.

    Instructions are part of it where measuring gives the same again (seconds would make reports differ), and
    where the model is no larger than emulators are quick with.
    """
    if not any(record.stats.get(STATS_KEY) for record in history):
        return None
    progress("planning the model as it was")
    quantize = formats(steps)
    macs = sum(count or 0 for count in graph_macs(whole.graph).values())
    if costs is not None and costs.exact and macs <= _MOST_MACS:
        try:
            return plan_only(whole, target, quantize=quantize, costs=costs)
        except ToolError:  # the build is there: that one number of its report is not
            pass
    return plan_only(whole, target, quantize=quantize)


def needs_costs(steps: Sequence[Pass]) -> bool:
    """Whether any step may ask what layers cost: those that quantize or store do not."""
    return len(formats(steps)) < len(steps)
