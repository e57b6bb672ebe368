"""A node as a model of its own, with weights that are made up: what lowering needs to say what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import inner_graphs, opset, static_shape
from irshrink.module import Module

#: Integers stay what they are: they may be shapes or axes.
_MOST_KEPT = 64


def node_key(node: ir.Node) -> str | None:
    """Equal for nodes that cost the same; None where a shape is open or the node holds graphs."""
    if inner_graphs(node):
        return None
    parts = [f"{node.domain}:{node.op_type}"]
    for value in node.inputs:
        shape = None if value is None else static_shape(value)
        if value is not None and shape is None:
            return None
        kind = "" if value is None else f"{value.dtype}{'=' if _constant(value) is not None else ''}"
        parts.append(f"{kind}{shape}")
    if any(static_shape(value) is None for value in node.outputs):
        return None
    parts += [f"{name}={attribute.value}" for name, attribute in sorted(node.attributes.items())]
    return " ".join(parts)


def isolated(node: ir.Node) -> Module:
    """The node between inputs and outputs of its own shapes; :func:`node_key` is not None."""
    inputs: list[ir.Value] = []
    constants: list[ir.Value] = []
    made: dict[ir.Value, ir.Value] = {}
    for index, value in enumerate(node.inputs):
        if value is None or value in made:
            continue
        array = _constant(value)
        new = ir.Value(name=f"input{index}", shape=value.shape, type=value.type)
        if array is not None:
            new.const_value = ir.Tensor(_weights(array), name=new.name)
            constants.append(new)
        else:
            inputs.append(new)
        made[value] = new
    outputs = [ir.Value(name=f"output{i}", shape=v.shape, type=v.type) for i, v in enumerate(node.outputs)]
    attributes: Mapping[str, Any] = node.attributes
    alone = ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else made[value] for value in node.inputs],
        list(attributes.values()),
        outputs=outputs,
        name="layer",
        overload=node.overload,
    )
    graph = ir.Graph(
        inputs, outputs, nodes=[alone], initializers=constants, opset_imports=_opsets(node), name="layer"
    )
    return Module(ir.Model(graph, ir_version=10))


def _constant(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """What it holds, looking through one DequantizeLinear; integers in place of what that gives."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        value = producer.inputs[0] or value
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _weights(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Made up, all of about the same size; single numbers and short lists of integers as they are."""
    if array.size <= (1 if array.dtype.kind == "f" else _MOST_KEPT):
        return array
    rng = np.random.default_rng(array.size)
    made: np.ndarray[Any, Any] = rng.uniform(0.1, 1.0, array.shape) * rng.choice([-1, 1], array.shape)
    return made.astype(array.dtype if array.dtype.kind == "f" else np.float32)


def _opsets(node: ir.Node) -> dict[str, int]:
    graph = node.graph
    if isinstance(graph, ir.Graph):
        return {**graph.opset_imports, "": opset(graph)}
    return {"": 17}
