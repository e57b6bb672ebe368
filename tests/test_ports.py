"""Arrays on their way into a program: which hold the model's numbers, which stored ones, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irshrink.errors import SamplesError
from irshrink.graph.quantized import Affine, quantization_of
from irshrink.module import Module, module_from_text
from irshrink.ports import encode_inputs
from irshrink.program.lower import lower
from irshrink.samples import InputSpec, input_specs, load_samples


def quantized(codes: str, moved: str = "x") -> Module:
    """A model whose float input is quantized to ``codes`` with scale 0.5 and zero point 3."""
    return module_from_text(
        f"""<ir_version: 9, opset_import: ["" : 20]>
        g (float[1, 2, 4] x) => (float[1, 2, 4] y) <float s = {{0.5}}, {codes} z = {{3}}> {{
            t = Transpose <perm = [0, 1, 2]> (x)
            q = QuantizeLinear ({moved}, s, z)
            y = DequantizeLinear (q, s, z)
        }}"""
    )


INTEGERS = """<ir_version: 9, opset_import: ["" : 20]>
g (uint8[1, 4] x) => (float[1, 4] y) <float s = {0.5}, uint8 z = {3}> { y = DequantizeLinear (x, s, z) }"""
CODES = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)


@pytest.mark.parametrize("moved", ["x", "t"])
@pytest.mark.parametrize("codes", ["int8", "uint8", "int16"])
def test_what_a_graph_quantizes_its_input_to(codes: str, moved: str) -> None:
    module = quantized(codes, moved)
    found = quantization_of(module.graph.inputs[0])
    # The Transpose that nobody reads behind its output reads the input, too.
    assert found == Affine(0.5, 3, codes)
    assert input_specs(module.graph)[0].codes == codes


def test_the_range_of_an_input() -> None:
    assert Affine(0.5, 3, "uint8").range == (-1.5, 126.0)
    assert Affine(0.5, 3, "int8").range == (-65.5, 62.0)


@pytest.mark.parametrize("given", ["int8", "uint8"])
def test_codes_of_a_model_that_quantizes_to_uint8_are_refused(given: str, tmp_path: Path) -> None:
    """Pixels, or what the converter made of them?"""
    module = quantized("uint8")
    question = "numbers as the model takes them, or quantized ones"
    with pytest.raises(SamplesError, match=f"the array is {given}, {question}"):
        encode_inputs(lower(module), {"x": CODES.astype(given)})
    np.savez(tmp_path / "x.npz", x=CODES.astype(given))
    with pytest.raises(SamplesError, match=f"'x' is {given}: {question}"):
        load_samples(tmp_path / "x.npz", input_specs(module.graph), role="calibration")


def test_uint8_is_taken_where_no_model_and_no_build_stores_it() -> None:
    [stored] = encode_inputs(lower(quantized("int8")), {"x": CODES})
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, CODES * 2 + 3)


@pytest.mark.parametrize("given", ["int8", "uint8"])
def test_stored_values_in_the_build_s_type_or_the_model_s(given: str) -> None:
    values = CODES if given == "uint8" else (CODES.astype(np.int16) - 128).astype(np.int8)
    [stored] = encode_inputs(lower(quantized("uint8")), {"x": values}, stored=True)
    np.testing.assert_array_equal(stored, CODES.astype(np.int16) - 128)


def test_int8_for_an_input_of_uint8() -> None:
    """The build stores x - 128: 5 may be 5 or 133."""
    program = lower(module_from_text(INTEGERS))
    values = np.array([[5, 6, 7, 8]])
    with pytest.raises(SamplesError, match="Give the model's numbers as uint8; with stored=True"):
        encode_inputs(program, {"x": values.astype(np.int8)})
    [numbers] = encode_inputs(program, {"x": values.astype(np.uint8)})
    np.testing.assert_array_equal(numbers, values - 128)
    for given in (values.astype(np.uint8), (values - 128).astype(np.int8)):
        [stored] = encode_inputs(program, {"x": given}, stored=True)
        np.testing.assert_array_equal(stored, numbers)


def test_int8_is_no_question_for_integers_of_another_type(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([[-3], [4]], np.int8))
    for wanted in (np.int8, np.int64):
        samples = load_samples(tmp_path / "x.npz", [InputSpec("x", (1,), np.dtype(wanted))], role="input")
        assert [feed["x"].tolist() for feed in samples.feeds()] == [[-3], [4]]
