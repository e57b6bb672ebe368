"""What is refused before any library looks at a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from irshrink.errors import ModelError
from irshrink.vetting import Parts, vet

TEXT = """<ir_version: 9, opset_import: ["" : 20, "local" : 1]> g (float[2, 3] x) => (float[2, 4] y)
    { y = MatMul (x, w) }"""


def base() -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 4), np.float32), "w"))
    return model


def huge_shape(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**40])


def overflowing_shape(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**31 - 1, 2**31 - 1, 2**31 - 1, 4])


def negative_shape(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -3


def short_data(model: Any) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 40


def unknown_type(model: Any) -> None:
    model.graph.initializer[0].data_type = 77


def huge_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**62


def no_type(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 0


def deep(model: Any) -> None:
    inner = onnx.GraphProto(name="end")
    for _ in range(18):
        node = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=onnx.GraphProto(name="e"))
        inner = onnx.GraphProto(name="g", node=[node])
    model.graph.node.append(inner.node[0])


def add_function(model: Any, name: str, *calls: str) -> None:
    nodes = [helper.make_node(call, ["i"], ["o"], domain="local") for call in calls]
    imports = [helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", name, ["i"], ["o"], nodes, imports))


def recursive(model: Any) -> None:
    add_function(model, "f", "h")
    add_function(model, "h", "f")


def doubling(model: Any) -> None:
    for level in range(10):
        add_function(model, f"f{level}", *[f"f{level + 1}"] * 10)


def two_values(model: Any) -> None:
    node = helper.make_node("Constant", [], ["k"], value_int=1)
    node.attribute.append(helper.make_attribute("value_float", 1.0))
    model.graph.node.append(node)


def bytes_for_a_name(model: Any) -> None:
    data = model.SerializeToString().replace(b"MatMul", b"Mat\xff\xfel")
    model.Clear()
    model.MergeFromString(data)


def bytes_for_text(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("mode", b"\xff\xfe"))


def attribute_without_type(model: Any) -> None:
    model.graph.node[0].attribute.add(name="axis", i=1)


HOSTILE: dict[Callable[[Any], None], str] = {
    huge_shape: "has the impossible shape",
    overflowing_shape: "needs 39614081238685424727295655956 bytes|needs .* bytes, not 48",
    negative_shape: "has the impossible shape",
    short_data: "needs 48 bytes, not 40",
    unknown_type: r"has no element type that ONNX knows \(77\)",
    huge_input: "has more than the 2,147,483,647 elements",
    no_type: "the input 'x' has no element type",
    deep: "is more than 16 graphs deep",
    recursive: "calls itself",
    doubling: "more than 1,000,000 nodes, its functions inlined",
    two_values: "the Constant 'k' has 2 attributes, not one",
    bytes_for_a_name: r"the op_type b'Mat\\xff\\xfel' is not UTF-8 text",
    attribute_without_type: "the attribute 'axis' of '' has no type",
    bytes_for_text: "the attribute 'mode' of '' is not UTF-8 text",
}


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_hostile_models(spoil: Callable[[Any], None]) -> None:
    model = base()
    vet(model)
    spoil(model)
    with pytest.raises(ModelError, match=HOSTILE[spoil]):
        vet(model)


@pytest.mark.parametrize(
    "kind", [TensorProto.INT4, TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.BOOL]
)
def test_lengths_of_every_storage(kind: int) -> None:
    """Half bytes, 16 bits in int32_data, pairs in float_data."""
    model = base()
    values = [1.0] * 6 if kind != TensorProto.COMPLEX64 else [1j] * 6
    model.graph.initializer.append(helper.make_tensor("k", kind, [3, 2], values))
    vet(model)
    model.graph.initializer[1].dims[0] = 9
    with pytest.raises(ModelError, match="the constant 'k' of shape"):
        vet(model)


def test_parts_are_found_everywhere() -> None:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "k")
    constant = helper.make_node("Constant", [], ["k"], value=tensor)
    branch = onnx.GraphProto(name="b", node=[constant], initializer=[tensor])
    model = base()
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))
    model.functions.append(helper.make_function("local", "f", [], ["k"], [constant], []))
    parts = Parts(model)
    assert (len(parts.graphs), len(parts.nodes), len(parts.tensors)) == (3, 5, 6)
