"""Where a graph can be cut in two: pieces with one value going in and one coming out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from irshrink.calibration.walk import LayerWalk
from irshrink.graph.edit import is_constant
from irshrink.passes.quantize.rounding.layer import Layer

#: A block ends at the first cut behind so many layers.
LAYERS = 2


@dataclass(frozen=True)
class Block:
    """A piece of the quantized graph.

    Attributes:
        layers: its layers; the first one reads what goes in.
        stop: the layer that reads what comes out; None where that is the output of the model.
    """

    layers: tuple[Layer, ...]
    stop: Layer | None

    @property
    def source(self) -> ir.Value:
        """What goes in, dequantized."""
        value = self.layers[0].node.inputs[0]
        assert value is not None, "layers have a first input"
        return value

    def result(self, graph: ir.Graph) -> ir.Value:
        """What comes out, dequantized."""
        value = graph.outputs[0] if self.stop is None else self.stop.node.inputs[0]
        assert value is not None, "layers have a first input"
        return value


def blocks(graph: ir.Graph, walk: LayerWalk, layers: Sequence[Layer]) -> list[Block]:
    """The blocks of a quantized graph in order; the last one ends at the output, if there is only one."""
    found: list[Block] = []
    inside: list[Layer] = []
    for layer in layers:
        is_cut = len(walk.alive(layer.node)) == 1
        if is_cut and len(inside) >= LAYERS:
            found.append(Block(tuple(inside), layer))
            inside = []
        if inside or is_cut:
            inside.append(layer)
    if inside and len(graph.outputs) == 1:
        found.append(Block(tuple(inside), None))
    return found


def nodes_between(graph: ir.Graph, source: ir.Value, result: ir.Value) -> list[ir.Node]:
    """What computes ``result`` from ``source``, in order."""
    needed, nodes = {result}, []
    for node in reversed(list(graph)):
        if any(value in needed and value is not source for value in node.outputs):
            nodes.append(node)
            read = (value for value in node.inputs if value is not None)
            needed.update(value for value in read if not is_constant(value))
    return nodes[::-1]
