"""The graph as networkx sees it: nodes, and who reads whose results. A read-only view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from irshrink.graph.edit import inner_graphs

if TYPE_CHECKING:
    import networkx as nx


def dataflow(graph: ir.Graph) -> nx.DiGraph[Any]:
    """The nodes of ``graph`` and the edges from producers to consumers, both in the graph's order.

    A vertex is an ``onnx_ir.Node`` itself. The edge attribute ``values`` is the tuple of values that flow
    along it. A value that is read inside a subgraph (If, Loop) flows to the node that holds the subgraph.
    Inputs, constants and outputs of the graph are no vertices.

    The result is frozen: change the ``onnx_ir`` graph instead, and ask again.
    """
    import networkx as nx

    view: nx.DiGraph[Any] = nx.DiGraph()
    view.add_nodes_from(graph)
    owners = _owners(graph)
    flows: dict[tuple[ir.Node, ir.Node], list[ir.Value]] = {}
    for producer in graph:
        for value in producer.outputs:
            for consumer in dict.fromkeys(owners[use.node] for use in value.uses()):
                flows.setdefault((producer, consumer), []).append(value)
    for (producer, consumer), values in flows.items():
        view.add_edge(producer, consumer, values=tuple(values))
    return nx.freeze(view)


def _owners(graph: ir.Graph) -> dict[ir.Node, ir.Node]:
    """For every node, at any depth, the node of ``graph`` that it is or in whose subgraph it lies."""
    owners = {node: node for node in graph}
    for node in graph:
        for held in inner_graphs(node):
            owners.update((inner, node) for inner in held.all_nodes())
    return owners
