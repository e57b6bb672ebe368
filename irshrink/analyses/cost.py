"""Multiply-accumulates and parameters of an ONNX graph, node by node."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from irshrink.graph.edit import attribute_int, static_shape

#: Where a scale goes into an operator.
_SCALES = frozenset({("QuantizeLinear", 1), ("DequantizeLinear", 1)})


def graph_macs(graph: ir.Graph) -> dict[ir.Node, int | None]:
    """Multiply-accumulates of one inference by node, for those that have any; None where shapes are open."""
    return {node: node_macs(node) for node in graph if node.op_type in _COUNTED and node.domain == ""}


def node_macs(node: ir.Node) -> int | None:
    """Of one Conv, ConvTranspose, Gemm or MatMul: outputs times the length of each one's sum."""
    return _COUNTED[node.op_type](node)


def graph_parameters(graph: ir.Graph) -> int:
    """How many real numbers are in the graph's constants, initializers and Constant nodes alike.

    Stored integers behind a DequantizeLinear count, scales do not.
    """
    values = [*graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    tensors = ((value, ir.convenience.get_const_tensor(value)) for value in values)
    return sum(int(t.size) for value, t in tensors if t is not None and _is_parameter(value, t.dtype))


def _is_parameter(value: ir.Value, dtype: ir.DataType) -> bool:
    uses = [(node.op_type, index) for node, index in value.uses()]
    if dtype.is_floating_point():
        return not uses or any(use not in _SCALES for use in uses)
    return ("DequantizeLinear", 0) in uses


def graph_parameter_bytes(graph: ir.Graph) -> dict[ir.Node, int]:
    """Bytes of the constants that each node reads; one that several nodes read counts for the first."""
    sizes: dict[ir.Node, int] = {}
    counted: set[ir.Value] = set()
    for node in graph:
        own = [v for v in node.inputs if v is not None and v.is_initializer() and v not in counted]
        counted.update(own)
        total = sum(v.const_value.nbytes for v in dict.fromkeys(own) if v.const_value is not None)
        if total:
            sizes[node] = total
    return sizes


def _conv(node: ir.Node) -> int | None:
    """Weights [Co, Ci / group, ...window]."""
    output, weight = static_shape(node.outputs[0]), static_shape(node.inputs[1])
    return None if output is None or weight is None else prod(output) * prod(weight[1:])


def _conv_transpose(node: ir.Node) -> int | None:
    """Every input value meets a row of the weights [Ci, Co / group, ...window]."""
    data, weight = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    return None if data is None or weight is None else prod(data) * prod(weight[1:])


def _gemm(node: ir.Node) -> int | None:
    output, left = static_shape(node.outputs[0]), static_shape(node.inputs[0])
    if output is None or left is None:
        return None
    transposed = attribute_int(node, "transA", 0)
    return prod(output) * left[0 if transposed else 1]


def _matmul(node: ir.Node) -> int | None:
    output, left = static_shape(node.outputs[0]), static_shape(node.inputs[0])
    return None if output is None or left is None else prod(output) * left[-1]


_COUNTED = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
