"""ONNX's C++ tools on a graph whose weights stay where they are.

The checker and shape inference take protobuf messages. Weights of a kilobyte and more are of no use to
them; leaving them out saves two copies of the model and protobuf's limit of 2 GB.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.external import SMALL_BYTES, stored_bytes
from irshrink.isolation.client import StepError, call


def proto_without_weights(model: ir.Model) -> Any:
    """``model`` as ``onnx.ModelProto``, its large initializers declared as inputs; it is not touched.

    Constants up to ``SMALL_BYTES`` stay: they may be the shape of a Reshape or the bounds of a Slice.
    """
    copy = model.clone()
    graph = copy.graph
    for value in tuple(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or stored_bytes(tensor) <= SMALL_BYTES:
            continue
        assert value.name is not None
        value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        del graph.initializers[value.name]
        if value not in graph.inputs:
            graph.inputs.append(value)
    return ir.to_proto(copy)


def check_proto(proto: Any) -> None:
    """ONNX's checker.

    Raises:
        ModelError: the model breaks the specification; the message is the checker's.
    """
    try:
        call("check", proto.SerializeToString())
    except StepError as e:
        raise ModelError(_one_line(e)) from e


def inferred_proto(proto: Any) -> Any:
    """ONNX's shape inference, small constants propagated.

    Raises:
        ModelError: types or shapes contradict each other; the message is ONNX's.
    """
    try:
        (inferred,) = call("infer", proto.SerializeToString())
    except StepError as e:
        raise ModelError(f"shapes in the model contradict each other: {_one_line(e)}") from e
    return type(proto).FromString(inferred)


def infer_shapes(model: ir.Model) -> int:
    """Fill in types and shapes in place; what is known already is refined, never forgotten.

    Returns:
        How many values got a better type or shape.

    Raises:
        ModelError: types or shapes in the model contradict each other.
    """
    inferred = inferred_proto(proto_without_weights(model))
    count = 0
    for graph, result in zip(model.graphs(), ir.from_proto(inferred).graphs(), strict=True):
        values = ir.convenience.create_value_mapping(graph)
        for name, source in ir.convenience.create_value_mapping(result).items():
            target = values.get(name)
            if target is not None and not target.is_initializer():
                count += _refine(target, source)
    return count


def _refine(target: ir.Value, source: ir.Value) -> bool:
    """Take over what ``source`` knows better."""
    changed = False
    if target.type is None and source.type is not None:
        target.type = source.type
        changed = True
    if source.shape is None:
        return changed
    if target.shape is None:
        target.shape = source.shape.copy()
        return True
    if target.shape.rank() != source.shape.rank():
        return changed
    known, better = target.shape, source.shape
    dims = [_better(known, better, axis) for axis in range(known.rank())]
    if dims == list(known):
        return changed
    target.shape = ir.Shape(dims)
    return True


def _better(known: ir.Shape, other: ir.Shape, axis: int) -> int | ir.SymbolicDim:
    """A number before a symbol before nothing; what is known stays."""
    if isinstance(known[axis], int) or other.is_unknown_dim(axis):
        return known[axis]
    if isinstance(other[axis], int) or known.is_unknown_dim(axis):
        return other[axis]
    return known[axis]


def _one_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
