"""What a layer costs, whole and in parts: the numbers that a budget counts and that must fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal

import onnx_ir as ir

from irshrink.analyses.cost import graph_macs
from irshrink.errors import RecipeError
from irshrink.graph.edit import is_constant, is_op, static_shape
from irshrink.passes.lowrank.form import Stage
from irshrink.passes.lowrank.layers import LAYER_OPS, Layer
from irshrink.passes.lowrank.probe import stage_nodes
from irshrink.pipeline import Context

Measure = Literal["macs", "parameters", "target"]
#: The cost of a layer in such stages; of the whole layer, without stages.
Meter = Callable[[Layer, Sequence[Stage] | None], float]


def meter(measure: Measure, ctx: Context) -> Meter:
    """How to count by a measure.

    Raises:
        RecipeError: the target's costs are asked for and nothing can tell them.
    """
    if measure == "macs":
        return _macs
    return _parameters if measure == "parameters" else _on_target(ctx)


def others(graph: ir.Graph, layers: Sequence[Layer], measure: Measure, ctx: Context) -> float:
    """What a model costs besides these layers; operators whose costs are not known count nothing."""
    ours = {layer.node for layer in layers}
    nodes = [node for node in graph if node not in ours]
    if measure == "target":
        assert ctx.costs is not None, "asked before"
        found = [ctx.costs.of_node(node) for node in nodes]
        return sum(one.amount for one in found if one is not None)
    if measure == "macs":
        macs = graph_macs(graph)
        return sum(macs.get(node) or 0 for node in nodes)
    shapes = [static_shape(node.inputs[1]) for node in nodes if is_op(node, *LAYER_OPS)]
    held = [node.inputs[1] for node in nodes if is_op(node, *LAYER_OPS)]
    return sum(prod(shape or ()) for shape, value in zip(shapes, held, strict=True) if is_constant(value))


def _macs(layer: Layer, stages: Sequence[Stage] | None) -> float:
    if stages is None:
        return layer.parameters * prod(layer.positions()[1])
    return sum(stage.macs for stage in stages)


def _parameters(layer: Layer, stages: Sequence[Stage] | None) -> float:
    return layer.parameters if stages is None else sum(stage.parameters for stage in stages)


def _on_target(ctx: Context) -> Meter:
    costs, target = ctx.costs, ctx.target.name
    if costs is None:
        raise RecipeError(f"what layers cost on '{target}' is not known here. Count macs or parameters.")

    def count(layer: Layer, stages: Sequence[Stage] | None) -> float:
        nodes = [layer.node] if stages is None else stage_nodes(layer, stages)
        found = [costs.of_node(node) for node in nodes]
        if any(one is None for one in found):
            raise RecipeError(
                f"what {layer.name} costs on '{target}' is not known. Count macs or parameters."
            )
        return sum(one.amount for one in found if one is not None)

    return count
