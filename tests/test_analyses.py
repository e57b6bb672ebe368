"""Analyses of the graph alone."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from irshrink.analyses.cost import graph_macs, graph_parameter_bytes
from irshrink.analyses.dataflow import dataflow
from irshrink.graph.shapes import infer_shapes
from irshrink.module import load_module, module_from_text

MODELS = Path(__file__).parents[1] / "models"

DIAMOND = """<ir_version: 9, opset_import: ["" : 20]>
g (float[2, 3] x) => (float[2, 4] y)
   <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>
{
   [a] r = Relu (x)
   [b] p = Gemm (r, w)
   [c] q = MatMul (r, w)
   [d] y = Add (p, q)
}"""

BRANCH = """<ir_version: 9, opset_import: ["" : 20]>
g (float[2] x, bool c) => (float[2] y)
{
   [a] r = Relu (x)
   [b] y = If (c) <
      then_branch = t () => (float[2] u) { [inner] u = Neg (r) },
      else_branch = e () => (float[2] v) { v = Identity (r) }
   >
}"""


def test_dataflow_lists_nodes_and_edges_in_order() -> None:
    graph = module_from_text(DIAMOND).graph
    view = dataflow(graph)
    assert list(view.nodes) == list(graph)
    edges = [(a.name, b.name, [v.name for v in values]) for a, b, values in view.edges(data="values")]
    assert edges == [("a", "b", ["r"]), ("a", "c", ["r"]), ("b", "d", ["p"]), ("c", "d", ["q"])]


def test_dataflow_is_read_only() -> None:
    view = dataflow(module_from_text(DIAMOND).graph)
    with pytest.raises(nx.NetworkXError, match="rozen"):
        view.add_node(1)


def test_dataflow_sees_what_a_subgraph_reads() -> None:
    view = dataflow(module_from_text(BRANCH).graph)
    assert [(a.name, b.name) for a, b in view.edges] == [("a", "b")]


def test_macs_of_dense_layers() -> None:
    macs = graph_macs(module_from_text(DIAMOND).graph)
    assert {node.name: n for node, n in macs.items()} == {"b": 24, "c": 24}


def test_shared_parameters_count_once() -> None:
    sizes = graph_parameter_bytes(module_from_text(DIAMOND).graph)
    assert {node.name: n for node, n in sizes.items()} == {"b": 48}


@pytest.mark.parametrize(
    ("name", "macs"), [("ad", 264_192), ("kws", 2_656_768), ("ic", 12_501_632), ("vww", 7_489_664)]
)
def test_macs_of_mlperf_tiny(name: str, macs: int) -> None:
    """The figures that MLPerf Tiny's own documents and tools give for these networks."""
    module = load_module(MODELS / f"{name}.onnx")
    infer_shapes(module.model)
    counted = graph_macs(module.graph)
    assert sum(n or 0 for n in counted.values()) == macs
