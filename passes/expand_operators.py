"""Composite operators become the nodes that ONNX defines them by.

ONNX gives operators such as Attention and RMSNormalization a body of simpler operators, which may depend on
the attributes and the inputs of the node. Later passes see through them, and no backend needs kernels of its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from irshrink.errors import ModelError, NativeError
from irshrink.graph.edit import ONNX_DOMAINS, base_name, describe, fresh_name, is_op, opset
from irshrink.isolation.client import StepError, call
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

if TYPE_CHECKING:
    import onnx

#: Operators that have a body and no simpler form here.
COMPOSITE = frozenset(
    {
        "Attention", "BlackmanWindow", "CenterCropPad", "HammingWindow",
        "HannWindow", "NegativeLogLikelihoodLoss", "RMSNormalization", "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss", "SwiGLU", "Swish",
    }
)  # fmt: skip
_DOMAIN = "irshrink.expanded"


@dataclass(frozen=True)
class ExpandOperators:
    """Replace composite operators by the bodies that ONNX defines."""

    name: ClassVar[str] = "expand-operators"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        calls = 0
        for node in tuple(module.graph):
            if _is_composite(node):
                calls += _call_body(module, node, calls, ctx)
        if not calls:
            return PassResult(False)
        try:
            common.InlinePass()(module.model)
        except ValueError as e:
            raise ModelError(f"an operator does not fit its definition: {e}. Export the model again.") from e
        module.model.functions.clear()
        module.model.opset_imports.pop(_DOMAIN, None)
        return PassResult(True, stats={"expanded": calls})


def _is_composite(node: ir.Node) -> bool:
    """One of the operators above, or a LayerNormalization whose mean or deviation is used.

    Those whose inputs have no type yet, because they stood in the body of another one, wait for the next
    turn.
    """
    if node.domain not in ONNX_DOMAINS:
        return False
    if is_op(node, "LayerNormalization"):
        return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    return node.op_type in COMPOSITE and all(value is None or value.type for value in node.inputs)


def _call_body(module: Module, node: ir.Node, number: int, ctx: Context) -> bool:
    """Make the node a call of a function of its own, which the inliner then replaces."""
    types = [_serialized_type(value) for value in node.inputs]
    version = opset(module.graph)
    try:
        proto = ir.to_proto(node)
        (data,) = call("expand", proto.SerializeToString(), str(version).encode(), *types)
        function = ir.serde.deserialize_function(_function(data, number, version, len(node.outputs)))
    except (StepError, NativeError, ValueError, ir.serde.SerdeError) as e:
        ctx.note(f"{describe(node)}: not expanded: {e}")
        return False
    for index, value in enumerate(node.outputs):
        if not value.name:
            value.name = fresh_name(module.graph, f"{base_name(node)}_unused_{index}")
    module.model.functions[function.identifier()] = function
    module.model.opset_imports[_DOMAIN] = 1
    node.domain, node.op_type = _DOMAIN, function.name
    return True


def _function(data: bytes, number: int, version: int, outputs: int) -> onnx.FunctionProto:
    """A body under a name of its own; outputs that this node does not have are not computed in it."""
    import onnx

    proto: onnx.FunctionProto = onnx.FunctionProto.FromString(data)
    proto.domain, proto.name = _DOMAIN, f"{proto.name}_{number}"
    for entry in proto.opset_import:
        entry.version = version
    del proto.output[outputs:]
    made = {name for node in proto.node for name in node.output}
    for name in (name for name in proto.output if name not in made):
        proto.node.append(onnx.helper.make_node("Constant", [], [name], value_float=0.0))
    return proto


def _serialized_type(value: ir.Value | None) -> bytes:
    if value is None or value.type is None:
        return b""
    proto = ir.serde.serialize_type(value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return bytes(proto.SerializeToString())
