"""Raising the version of ONNX's operator set that a model uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from irshrink.errors import ModelError, NativeError
from irshrink.graph.edit import opset
from irshrink.graph.old_forms import correct, corrections
from irshrink.graph.shapes import check_proto, inferred_proto, proto_without_weights
from irshrink.isolation.client import StepError, call

if TYPE_CHECKING:
    from irshrink.module import Module


def raise_opset(module: Module, minimum: int) -> bool:
    """Convert the model in place so that its opset is at least ``minimum``; True if it was lower.

    The graph object stays the same: whoever holds it sees the converted one.

    Raises:
        ModelError: ONNX's version converter cannot convert it (the message is its own), or would change
            what it computes.
    """
    graph = module.graph
    if opset(graph) >= minimum:
        return False
    where = f"{module.source}: " if module.source else ""
    source = proto_without_weights(module.model)
    try:
        wanted = corrections(graph)
        (converted,) = call("convert", source.SerializeToString(), str(minimum).encode())
        proto = type(source).FromString(converted)
        check_proto(proto)
        inferred_proto(proto)
    except (StepError, ModelError, NativeError) as e:
        raise ModelError(
            f"{where}opset {opset(graph)} cannot be converted to {minimum}: {_first_line(e)} "
            f"Export the model with opset {minimum} or later."
        ) from e
    _take_over(graph, ir.from_proto(proto).graph)
    correct(graph, wanted)
    graph.opset_imports[""] = minimum
    graph.opset_imports.pop("ai.onnx", None)
    module.model.ir_version = max(module.model.ir_version, 8, _format_of(minimum))
    return True


def _format_of(version: int) -> int:
    """The version of ONNX's file format that an operator set came with, which has its element types."""
    from onnx import helper

    return int(helper.find_min_ir_version_for([helper.make_opsetid("", version)], ignore_unknown=True))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _take_over(graph: ir.Graph, other: ir.Graph) -> None:
    """Move everything from ``other`` into ``graph``, whose content is dropped, save for the weights.

    These are initializers of ``graph`` and inputs of ``other`` (:func:`proto_without_weights`). The converter
    drops what nodes have as metadata: it is given to those that make the same values now.
    """
    said = {
        value.name: node.metadata_props for node in graph if node.metadata_props for value in node.outputs
    }
    weights = {name: value.const_value for name, value in graph.initializers.items()}
    own_inputs = {value.name for value in graph.inputs}
    graph.outputs.clear()
    graph.remove(list(graph))  # with the nodes of their subgraphs, which still read from each other
    graph.inputs.clear()
    graph.initializers.clear()
    nodes, inputs, outputs = list(other), list(other.inputs), list(other.outputs)
    for node in nodes:
        for value in node.outputs:
            node.metadata_props.update(said.get(value.name, {}))
    initializers, other_names = list(other.initializers.values()), set(other.initializers)
    other.outputs.clear()
    other.remove(nodes)
    other.inputs.clear()
    other.initializers.clear()
    left_out = [value for value in inputs if value.name in weights and value.name not in other_names]
    for value in left_out:
        value.const_value = weights[str(value.name)]
    graph.inputs.extend(v for v in inputs if v not in left_out or v.name in own_inputs)
    for value in (*left_out, *initializers):
        graph.register_initializer(value)
    graph.extend(nodes)
    graph.outputs.extend(outputs)
