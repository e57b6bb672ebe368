"""Types and shapes that a file need not declare, because every reader infers them.

After cleanup every value has its type and shape. Written to a file they are most of the growth of a small
model (a fifth of a keyword spotter), and tell no reader what shape inference would not.
"""

from __future__ import annotations

import re
from typing import Any

import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.graph.shapes import inferred_proto, proto_without_weights

#: What ONNX's shape inference calls a size that it cannot name; another run may number it differently.
_GENERATED = re.compile(r"unk__\d+")


def drop_inferable_declarations(proto: Any, model: ir.Model) -> None:
    """Remove the declarations from ``proto``, the message of ``model``, that inference without any finds."""
    for used in proto.opset_import:
        if not used.domain:
            used.ClearField("domain")  # ONNX's own is the default

    bare = proto_without_weights(model)
    for graph in _graphs(bare.graph):
        del graph.value_info[:]
    try:
        inferred = inferred_proto(bare)
    except ModelError:
        return  # every declaration may be what makes it readable
    for graph, found in zip(_graphs(proto.graph), _graphs(inferred.graph), strict=True):
        known = {info.name: _described(info.type) for info in found.value_info}
        constants = {tensor.name for tensor in graph.initializer}  # a tensor says what it is
        others = [info for info in graph.value_info if info.name not in constants]
        kept = [info for info in others if known.get(info.name) != _described(info.type)]
        del graph.value_info[:]
        graph.value_info.extend(kept)


def _graphs(graph: Any) -> list[Any]:
    """A graph and those inside its nodes, in order."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += _graphs(inner)
    return found


def _described(kind: Any) -> object:
    """A type to compare: sizes that inference made up a name for are open sizes."""
    if kind.WhichOneof("value") != "tensor_type":
        return kind.SerializeToString(deterministic=True)
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(_size(dim) for dim in tensor.shape.dim)


def _size(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return None if _GENERATED.fullmatch(dim.dim_param) or not dim.dim_param else str(dim.dim_param)
