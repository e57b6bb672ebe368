"""Constant folding: what does not depend on the model's inputs is computed now.

Every node is evaluated by ONNX Runtime, so a folded constant is what the original model would have
computed. Three forms count as constant: initializers, ``Constant`` nodes (which become initializers), and
``Shape`` and ``Size`` of a value whose shape is static.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from irshrink.errors import ModelError
from irshrink.graph.edit import (
    ONNX_DOMAINS,
    Array,
    add_constant,
    attribute_int,
    constant,
    describe,
    inner_graphs,
    insert_before,
    is_op,
    remove,
    replace_value,
    static_shape,
)
from irshrink.isolation.evaluate import evaluate_constant
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: Not functions of their inputs, or (DequantizeLinear) the compressed form of their output.
_NEVER = frozenset(
    {
        "Bernoulli",
        "DequantizeLinear",
        "Dropout",
        "Multinomial",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


@dataclass(frozen=True)
class FoldConstants:
    """Evaluate constant nodes.

    Attributes:
        max_growth_bytes: a result may be this much larger than the constants it frees. An Expand, Tile or
            ConstantOfShape that would swell the model is left in place, with a note.
    """

    max_growth_bytes: int = 1024

    name: ClassVar[str] = "fold-constants"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        lifted = lift(module.model).modified
        graph, folded = module.graph, 0
        for node in tuple(graph):
            results = _static_result(node) or self._evaluate(node, ctx)
            if results is not None:
                _replace_by_constants(graph, node, results)
                folded += 1
        return PassResult(lifted or folded > 0, stats={"folded": folded})

    def _evaluate(self, node: ir.Node, ctx: Context) -> list[Array] | None:
        if not _is_foldable(node):
            return None
        expected = [_expected_bytes(output) for output in node.outputs if output.name]
        sizes = [size for size in expected if size is not None]
        if len(sizes) == len(expected) and self._swells(node, sum(sizes), ctx):
            return None
        try:
            results = _run_node(node)
        except ModelError as e:
            ctx.note(f"{describe(node)}: constant, but not folded: {e}")
            return None
        return None if self._swells(node, sum(r.nbytes for r in results), ctx) else results

    def _swells(self, node: ir.Node, nbytes: int, ctx: Context) -> bool:
        growth = nbytes - sum(_bytes_freed(v, node) for v in dict.fromkeys(node.inputs) if v is not None)
        if growth <= self.max_growth_bytes:
            return False
        ctx.note(f"{describe(node)}: constant, but folding it would add {growth} bytes to the model")
        return True


def _is_foldable(node: ir.Node) -> bool:
    """A deterministic operator on constants alone, from tensors of numbers to tensors of numbers."""
    if node.domain not in ONNX_DOMAINS or node.op_type in _NEVER:
        return False
    if any(value is not None and constant(value) is None for value in node.inputs):
        return False
    if inner_graphs(node):
        return False
    outputs = [output for output in node.outputs if output.name]
    if any(not isinstance(o.type, ir.TensorType) or o.dtype == ir.DataType.STRING for o in outputs):
        return False
    return not (is_op(node, "Identity") and node.outputs[0].is_graph_output())


def _expected_bytes(value: ir.Value) -> int | None:
    """The size of a result that is known before it is computed."""
    shape = static_shape(value)
    if shape is None or value.dtype is None:
        return None
    return math.ceil(math.prod(shape) * value.dtype.itemsize)  # int4 has half a byte


def _static_result(node: ir.Node) -> list[Array] | None:
    """``Shape`` and ``Size`` of a value with a static shape."""
    if not is_op(node, "Shape", "Size"):
        return None
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(shape, dtype=np.int64))]
    start, end = attribute_int(node, "start", 0), attribute_int(node, "end", len(shape))
    return [np.array(shape[start:end], dtype=np.int64)]


def _run_node(node: ir.Node) -> list[Array]:
    """Evaluate one node whose inputs are all constant: a model of its own without inputs."""
    owner = node.graph
    assert owner is not None
    graph = ir.Graph([], [], nodes=[], opset_imports=dict(owner.opset_imports), name="constant")
    copies: dict[ir.Value, ir.Value] = {}
    for value in node.inputs:
        array = constant(value)
        if value is not None and array is not None and value not in copies:
            copies[value] = add_constant(graph, array, value.name or "constant")
    copy = ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else copies[value] for value in node.inputs],
        list(node.attributes.values()),
        outputs=[ir.Value(name=output.name, type=output.type) for output in node.outputs],
    )
    graph.append(copy)
    graph.outputs.extend(output for output in copy.outputs if output.name)
    return evaluate_constant(ir.Model(graph, ir_version=10))


def _bytes_freed(value: ir.Value, reader: ir.Node) -> int:
    """Size of a constant that only ``reader`` uses."""
    array = constant(value)
    if array is None or value.is_graph_output() or any(use.node is not reader for use in value.uses()):
        return 0
    return int(array.nbytes)


def _replace_by_constants(graph: ir.Graph, node: ir.Node, results: list[Array]) -> None:
    used = [output for output in node.outputs if output.name]
    for output, array in zip(used, results, strict=True):
        if output.is_graph_output():
            # An output of the model must come from a node: not every tool accepts a constant there.
            value = add_constant(graph, array, f"{output.name}_constant")
            copy = insert_before(node, "Identity", [value]).outputs[0]
            copy.type = value.type
            replace_value(output, copy)
        else:
            name, output.name = output.name, None
            replace_value(output, add_constant(graph, array, name or "constant"))
    remove(node)
