"""Graphs that a pass must not leave behind."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from irshrink.errors import InternalError, ModelError
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module, module_from_text
from irshrink.verify import verify_static, verify_structure


def model() -> Module:
    return module_from_text("""<ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]>
    g (float[1, 4] x) => (float[1, 4] y)
       <float e = {1}>
    {
       t = Add (x, e)
       y = Relu (t)
    }""")


def test_a_good_graph_passes() -> None:
    verify_static(model())


def test_operators_of_other_domains_pass() -> None:
    module = model()
    module.graph[1].domain, module.graph[1].op_type = "com.microsoft", "FastGelu"
    verify_structure(module)


def test_a_value_that_nothing_makes() -> None:
    module = model()
    module.graph[0].replace_input_with(1, ir.Value(name="ghost"))
    with pytest.raises(InternalError, match="Add 't' reads 'ghost', which nothing before it makes"):
        verify_structure(module)


def test_an_initializer_that_was_unregistered() -> None:
    module = model()
    del module.graph.initializers["e"]
    with pytest.raises(InternalError, match="Add 't' reads 'e'"):
        verify_structure(module)


def test_nodes_out_of_order() -> None:
    module = model()
    first, second = module.graph
    module.graph.remove(first)
    module.graph.insert_after(second, first)
    with pytest.raises(InternalError, match="Relu 'y' reads 't', which nothing before it makes"):
        verify_structure(module)


def test_two_values_of_one_name() -> None:
    module = model()
    module.graph[0].outputs[0].name = "x"
    with pytest.raises(InternalError, match="two values are called 'x'"):
        verify_structure(module)


def test_two_nodes_of_one_name() -> None:
    module = model()
    module.graph[0].name = module.graph[1].name = "n"
    with pytest.raises(InternalError, match="two nodes are called 'n'"):
        verify_structure(module)


def test_an_output_that_nothing_makes() -> None:
    module = model()
    module.graph.outputs[0] = ir.Value(
        name="z", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4])
    )
    with pytest.raises(InternalError, match="nothing makes 'z', an output of the graph"):
        verify_structure(module)


def test_an_operator_that_does_not_exist() -> None:
    module = model()
    module.graph[1].op_type = "Rleu"
    with pytest.raises(InternalError, match=r"the graph is not valid ONNX: No Op registered for Rleu"):
        verify_structure(module)


def test_a_declared_shape_that_is_wrong() -> None:
    module = model()
    module.graph[0].outputs[0].shape = ir.Shape([2, 4])
    with pytest.raises(ModelError, match="shapes in the model contradict each other"):
        verify_structure(module)


def test_a_shape_that_is_not_static() -> None:
    module = module_from_text("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }""")
    verify_structure(module)
    with pytest.raises(InternalError, match="value 'x' has no static shape or no type"):
        verify_static(module)


def test_a_value_inside_a_subgraph() -> None:
    module = module_from_text("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[2] x, bool c) => (float[2] y)
    {
       r = Relu (x)
       y = If (c) <
          then_branch = t () => (float[2] u) { u = Neg (r) },
          else_branch = e () => (float[2] v) { v = Identity (x) }
       >
    }""")
    verify_structure(module)
    branch = module.graph[1].attributes["then_branch"].as_graph()
    branch[0].replace_input_with(0, ir.Value(name="ghost"))
    with pytest.raises(InternalError, match="Neg 'u' reads 'ghost'"):
        verify_structure(module)


def test_verification_leaves_the_module_as_it_is() -> None:
    module = model()
    values = ", ".join("1" for _ in range(2000))
    big = module_from_text(f"""<ir_version: 9, opset_import: ["" : 20]>
    g (float[2000] x) => (float[2000] y) <float[2000] w = {{{values}}}> {{ y = Add (x, w) }}""")
    for checked in (module, big):
        before = checked.to_proto().SerializeToString(deterministic=True)
        verify_structure(checked)
        assert infer_shapes(checked.model) == 0
        assert checked.to_proto().SerializeToString(deterministic=True) == before
