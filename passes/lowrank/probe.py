"""Stages in a small model of their own, for asking what they would cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import add_constant, constant
from irshrink.passes.lowrank.form import Stage
from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.write import stage_attributes


def stage_nodes(layer: Layer, stages: Sequence[Stage]) -> list[ir.Node]:
    """The nodes of such stages, with shapes as in the layer's model and weights that mean nothing."""
    source, owner = layer.node.inputs[0], layer.node.graph
    weight = constant(layer.node.inputs[1])
    assert source is not None
    assert owner is not None
    assert weight is not None
    value = ir.Value(name="x", type=source.type, shape=source.shape)
    opsets = dict(owner.opset_imports)
    graph = ir.Graph([value], [], nodes=[], opset_imports=opsets, name="stages")
    rng = np.random.default_rng(0)
    nodes = []
    for number, stage in enumerate(stages):
        shape = stage.shape if layer.kernel else stage.shape[::-1]
        held = add_constant(graph, rng.standard_normal(shape).astype(weight.dtype), f"w{number}")
        op_type = "Conv" if layer.kernel else "MatMul"
        node = ir.node(op_type, [value, held], stage_attributes(layer, stage), name=f"stage{number}")
        value = node.outputs[0]
        value.name, value.type = f"y{number}", source.type
        batch, *rest = stage.size
        value.shape = ir.Shape(
            (batch, stage.shape[0], *rest) if layer.kernel else (*stage.size, stage.shape[0])
        )
        graph.append(node)
        nodes.append(node)
    graph.outputs.append(value)
    return nodes
