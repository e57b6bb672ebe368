"""Common subexpressions: equal nodes on equal inputs are computed once, equal constants stored once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from irshrink.graph.edit import constant, describe
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: Operators that may draw random numbers and that onnx_ir's pass would take for functions of their inputs.
_RANDOM = frozenset({"Bernoulli", "Dropout"})

#: Attributes that onnx_ir's pass cannot compare.
_INCOMPARABLE = frozenset({ir.AttributeType.TYPE_PROTO, ir.AttributeType.TYPE_PROTOS})


@dataclass(frozen=True)
class EliminateCommonSubexpressions:
    """Merge equal nodes and equal small constants.

    Attributes:
        max_elements: constants up to this size are merged. Larger ones are weights: sharing them would
            keep the passes that fold into weights from touching them.
    """

    max_elements: int = 64

    name: ClassVar[str] = "eliminate-common-subexpressions"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        graph = module.graph
        for node in graph:
            if node.op_type in _RANDOM:
                ctx.note(f"{describe(node)} may draw random numbers; nothing was merged")
                return PassResult(False)
        for node in graph.all_nodes():
            if any(a.type in _INCOMPARABLE for a in node.attributes.values()):
                ctx.note(f"{describe(node)} has a type as its attribute; nothing was merged")
                return PassResult(False)
        nodes = len(graph)
        constants = _merge_constants(graph, self.max_elements)
        common.CommonSubexpressionEliminationPass()(module.model)
        stats = {"nodes": nodes - len(graph), "initializers": constants}
        return PassResult(any(stats.values()), stats=stats)


def _merge_constants(graph: ir.Graph, max_elements: int) -> int:
    kept: dict[tuple[Any, ...], ir.Value] = {}
    merged = 0
    for value in tuple(graph.initializers.values()):
        array = constant(value)
        if array is None or array.size > max_elements or array.dtype == object or value.is_graph_output():
            continue
        first = kept.setdefault((value.dtype, array.shape, array.tobytes()), value)
        if first is not value and value.name is not None:
            value.replace_all_uses_with(first)
            del graph.initializers[value.name]
            merged += 1
    return merged
