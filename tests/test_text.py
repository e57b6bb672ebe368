"""Models as text, and what makes two texts comparable."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from irshrink.graph.text import canonical, model_text, without_numbers
from irshrink.module import Module, module_from_text


def model(first: str = "a", second: str = "b", constants: str = "float e = {1}, float two = {2}") -> Module:
    return module_from_text(f"""<ir_version: 9, opset_import: ["" : 20]>
    g (float[1, 4] x) => (float[1, 4] y)
       <{constants}>
    {{
       {first} = Mul (x, two)
       {second} = Softmax <axis = 1> ({first})
       y = Add ({second}, e)
    }}""")


def test_text_reads_back_to_the_same_bytes() -> None:
    text = model_text(model().model, max_elements=None)
    assert model_text(module_from_text(text).model, max_elements=None) == text


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_numbers_read_back_exactly(dtype: str) -> None:
    numbers = np.array([0, 1, 100, 0.1, 1e-30, 3.4e38, np.inf, -np.inf, 1 / 3])
    array = numbers.astype(dtype) if dtype.startswith("float") else np.array([0, 1, 100]).astype(dtype)
    module = model()
    module.graph.initializers["e"].const_value = ir.tensor(array, name="e")
    module.graph.initializers["e"].shape = ir.Shape(array.shape)
    module.graph.initializers["e"].type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    text = model_text(module.model, max_elements=None)
    import onnx

    back = onnx.numpy_helper.to_array(onnx.parser.parse_model(text).graph.initializer[0])
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_large_constants_are_digests_that_show_a_difference() -> None:
    texts = []
    for last in (20, 21):
        numbers = ", ".join(map(str, [*range(19), last]))
        module = module_from_text(f"""<ir_version: 9, opset_import: ["" : 20]>
        g (float[20] x) => (float[20] y) <float[20] w = {{{numbers}}}> {{ y = Add (x, w) }}""")
        texts.append(module.text())
    assert "float[20] w = {... sha256:" in texts[0]
    assert texts[0] != texts[1]


def test_canonical_text_forgets_names_and_the_order_of_constants() -> None:
    other = model("p", "q", "float two = {2}, float e = {1}")
    other.graph[1].name = "some name"
    assert model_text(canonical(other.model)) == model_text(canonical(model().model))


def test_canonical_text_keeps_structure() -> None:
    other = model()
    other.graph[2].replace_input_with(0, other.graph[0].outputs[0])
    assert model_text(canonical(other.model)) != model_text(canonical(model().model))


def test_renaming_meets_no_name_that_is_taken() -> None:
    """Values already called like canonical names, in another order."""
    other = model("_v1", "_v0", "float _c1 = {1}, float two = {2}, float e = {1}")
    other.graph[2].replace_input_with(1, other.graph.initializers["_c1"])
    del other.graph.initializers["e"]
    assert model_text(canonical(other.model)) == model_text(canonical(model().model))


def test_without_numbers_keeps_types_and_shapes() -> None:
    first = model(constants="float e = {1}, float two = {2}")
    second = model(constants="float e = {5}, float two = {7}")
    third = model(constants="float[1] e = {1}, float two = {2}")
    texts = [model_text(without_numbers(m.model)) for m in (first, second, third)]
    assert texts[0] == texts[1] != texts[2]
    assert first.graph.initializers["e"].const_value is not None
    assert first.graph.initializers["e"].const_value.numpy() == 1
