"""What every graph between two passes must satisfy. A failure is a bug of the pass before it.

Our own invariants come first, because their messages name the value; then ONNX's checker and strict shape
inference, which also find operators, attributes and declared shapes that do not fit.
"""

from __future__ import annotations

import onnx_ir as ir

from irshrink.errors import InternalError, ModelError
from irshrink.graph.edit import describe, inner_graphs, static_shape
from irshrink.graph.shapes import check_proto, inferred_proto, proto_without_weights
from irshrink.module import Module


def verify_structure(module: Module) -> None:
    """Check static single assignment, names, order, constants, types, operators and declared shapes.

    Raises:
        InternalError: the graph is broken; the message names the node or the value.
        ModelError: shapes contradict each other. A model that lies about a shape is found out as late as the
            constants that decide it are folded, so this need not be the fault of the pass before.
    """
    _check_graph(module.graph, outer=frozenset())
    _check_node_names(module.graph)
    proto = proto_without_weights(module.model)
    try:
        check_proto(proto)
    except ModelError as e:
        raise InternalError(f"the graph is not valid ONNX: {e}") from e
    inferred_proto(proto)


def verify_static(module: Module) -> None:
    """:func:`verify_structure`, and every value has a type and a static shape.

    Raises:
        InternalError: as above, or a value whose shape is not static.
    """
    verify_structure(module)
    graph = module.graph
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.name and (value.dtype is None or static_shape(value) is None):
            raise InternalError(f"value '{value.name}' has no static shape or no type: {value.shape}")


def _check_graph(graph: ir.Graph, outer: frozenset[ir.Value]) -> None:
    _check_names(graph)
    for name, constant in graph.initializers.items():
        if constant.name != name or constant.const_value is None:
            raise InternalError(f"initializer '{name}' is registered under a wrong name or has no data")
    known = set(outer) | set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in known:
                raise InternalError(f"{describe(node)} reads '{value.name}', which nothing before it makes")
        for inner in inner_graphs(node):
            _check_graph(inner, frozenset(known))
        known.update(node.outputs)
    for output in graph.outputs:
        if output not in known:
            raise InternalError(f"nothing makes '{output.name}', an output of the graph")


def _check_names(graph: ir.Graph) -> None:
    """One value, one name."""
    seen: dict[str, ir.Value] = {}
    made = (output for node in graph for output in node.outputs if output.name)
    for value in (*graph.inputs, *graph.initializers.values(), *made):
        if not value.name:
            raise InternalError(f"an input or a constant of graph '{graph.name}' has no name")
        if seen.setdefault(value.name, value) is not value:
            raise InternalError(f"two values are called '{value.name}'")


def _check_node_names(graph: ir.Graph) -> None:
    """One node, one name, subgraphs included; none is fine. ONNX Runtime insists on it."""
    seen: set[str] = set()
    for node in graph.all_nodes():
        if node.name and node.name in seen:
            raise InternalError(f"two nodes are called '{node.name}'")
        seen.add(node.name or "")
