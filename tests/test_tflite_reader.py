"""Reading TensorFlow Lite files: what stays as it was, and what is refused in which words."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from irshrink.errors import ModelError, ToolError, UnsupportedModelError
from irshrink.frontends.read import read_model
from irshrink.frontends.tflite import flatbuffer
from irshrink.frontends.tflite.reader import read
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.ops import AveragePoolInt8, ConvInt8, DenseInt8, Reshape, Transpose
from irshrink.target import load_target
from irshrink.testing.tflite import TfliteWriter
from irshrink.verify import verify_structure

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tflite") is None, reason="needs the schema: pip install 'irshrink[tflite]'"
)

SCALES = np.array([0.011, 0.022, 0.033, 0.044], np.float32)


def network() -> bytes:
    """Convolution, pool, dense layer in int8; the names are those of a Keras model."""
    rng = np.random.default_rng(0)
    w = TfliteWriter()
    x = w.tensor("serving_x:0", (1, 8, 6, 3), "int8", scale=0.5, zero_point=-3)
    kernel = w.constant("conv/w", rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scale=SCALES)
    bias = w.constant("conv/b", np.arange(4, dtype=np.int32), scale=SCALES * np.float32(0.5))
    a = w.tensor("net/conv/Relu;net/conv/BiasAdd", (1, 8, 6, 4), "int8", scale=0.25, zero_point=-128)
    b = w.tensor("net/pool/AvgPool", (1, 1, 1, 4), "int8", scale=0.25, zero_point=-128)
    c = w.tensor("net/flat/Reshape", (1, 4), "int8", scale=0.25, zero_point=-128)
    dense = w.constant("dense/w", rng.integers(-127, 128, (5, 4)).astype(np.int8), scale=0.01)
    y = w.tensor("out", (1, 5), "int8", scale=0.1, zero_point=7)
    same = {"Padding": 0, "StrideH": 1, "StrideW": 1}
    one = {"DilationHFactor": 1, "DilationWFactor": 1, "FusedActivationFunction": 1}
    w.operator("CONV_2D", [x, kernel, bias], [a], "Conv2DOptions", **same, **one)
    whole = {"Padding": 1, "StrideH": 8, "StrideW": 6, "FilterHeight": 8, "FilterWidth": 6}
    w.operator("AVERAGE_POOL_2D", [a], [b], "Pool2DOptions", **whole)
    w.operator("RESHAPE", [b], [c])
    w.operator("FULLY_CONNECTED", [c, dense, -1], [y], "FullyConnectedOptions")
    return w.finish([x], [y])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(network())
    return path


def constants(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_scales_and_integers_stay(file: Path) -> None:
    """Quantized tensors become QDQ pairs with the numbers of the file, weights per channel."""
    model = read(file, {})
    known = constants(model)
    quantize = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert [float(known[n.input[1]]) for n in quantize] == [0.25, 0.25, 0.25, np.float32(0.1)]
    assert [int(known[n.input[2]]) for n in quantize] == [-128, -128, -128, 7]
    (conv,) = (n for n in model.graph.node if n.op_type == "Conv")
    made = {n.output[0]: n for n in model.graph.node}
    weight, bias = made[conv.input[1]], made[conv.input[2]]
    np.testing.assert_array_equal(known[weight.input[1]], SCALES)
    assert known[weight.input[0]].shape == (4, 3, 3, 3)
    assert known[bias.input[0]].dtype == np.int32
    assert weight.attribute[0].i == 0


def test_ports_stay(file: Path) -> None:
    model = read(file, {})
    ((x,), (y,)) = model.graph.input, model.graph.output
    assert (x.name, x.type.tensor_type.elem_type) == ("serving_x:0", onnx.TensorProto.INT8)
    assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [1, 8, 6, 3]
    assert (y.name, y.type.tensor_type.elem_type) == ("out", onnx.TensorProto.INT8)
    onnx.checker.check_model(model, full_check=True)


def test_nodes_are_called_after_their_tensors(file: Path) -> None:
    """Of a fused name the first part; what surrounds the main node is a part of it."""
    names = {n.op_type: n.name for n in read(file, {}).graph.node}
    assert names["Conv"] == "net/conv/Relu"
    assert names["Relu"] == "net/conv/Relu/relu"
    assert names["AveragePool"] == "net/pool/AvgPool"
    assert names["Gemm"] == "out"


def test_program_moves_no_bytes(file: Path) -> None:
    """Channels-last stays as it is: no Transpose in the program, one at the graph's entrance at most."""
    module, _ = read_model(file)
    Pipeline(cleanup_steps(), [], verify_structure, lambda _: None).run(module, load_target("host"), 0)
    assert sum(node.op_type == "Transpose" for node in module.graph) == 1
    program = lower(module)
    kinds = [type(op) for op in program]
    assert Transpose not in kinds
    assert [k for k in kinds if k is not Reshape] == [ConvInt8, AveragePoolInt8, DenseInt8]


def test_packed_weights(tmp_path: Path) -> None:
    """int4 is two numbers in a byte, the first in the lower half."""
    raw = np.array([0x21, 0xFE], np.uint8)
    np.testing.assert_array_equal(flatbuffer._contents(raw, "INT4", (2, 2)), [[1, 2], [-2, -1]])
    np.testing.assert_array_equal(flatbuffer._contents(raw, "INT4", (3,)), [1, 2, -2])


def test_every_truncation_is_refused(file: Path) -> None:
    """A sentence with the file's name, whatever is missing."""
    data = file.read_bytes()
    for length in range(8, len(data), 37):
        file.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"net\.tflite: "):
            read(file, {})


def test_damage_is_refused_or_read(file: Path) -> None:
    """Any changed byte gives a model or a sentence, nothing else."""
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for place in rng.integers(8, len(data), 3):
            changed[place] = rng.integers(256)
        file.write_bytes(bytes(changed))
        try:
            read(file, {})
        except ModelError as e:
            assert str(e).startswith(str(file))  # noqa: PT017 - not every damage is one


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"PK\x03\x04 not a model at all")
    with pytest.raises(ModelError, match="not a TensorFlow Lite model"):
        read(path, {})


def test_unknown_operators_are_listed(tmp_path: Path) -> None:
    w = TfliteWriter()
    x, y, z = (w.tensor(name, (1, 8), "float32") for name in "xyz")
    w.operator("CUMSUM", [x], [y])
    w.operator("CUMSUM", [y], [z])
    path = tmp_path / "net.tflite"
    path.write_bytes(w.finish([x], [z]))
    with pytest.raises(UnsupportedModelError, match=r"not supported: CUMSUM \(2\)"):
        read(path, {})


def test_16_bit_activations_are_refused(tmp_path: Path) -> None:
    w = TfliteWriter()
    x, y = (w.tensor(name, (1, 8), "int16", scale=0.1) for name in "xy")
    w.operator("LOGISTIC", [x], [y])
    path = tmp_path / "net.tflite"
    path.write_bytes(w.finish([x], [y]))
    with pytest.raises(UnsupportedModelError, match="tensor 'x' is quantized to int16"):
        read(path, {})


def test_uint8_models_of_old_converters(tmp_path: Path) -> None:
    """Weights with a zero point, one scale per tensor: integers all the same, stored less 128."""
    rng = np.random.default_rng(0)
    w = TfliteWriter()
    x = w.tensor("x", (1, 5, 5, 2), "uint8", scale=0.5, zero_point=120)
    kernel = rng.integers(60, 190, (3, 3, 3, 2)).astype(np.uint8)
    weights = w.constant("w", kernel, scale=0.02, zero_point=127)
    bias = w.constant("b", np.arange(3, dtype=np.int32), scale=0.01)
    y = w.tensor("y", (1, 5, 5, 3), "uint8", scale=0.3, zero_point=0)
    fields = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    w.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", **fields)
    path = tmp_path / "net.tflite"
    path.write_bytes(w.finish([x], [y]))
    module, _ = read_model(path)
    (op,) = lower(module)
    assert isinstance(op, ConvInt8)
    assert op.input_zero_point == -8
    np.testing.assert_array_equal(op.weight, kernel.astype(np.int32) - 127)


def test_an_operator_that_does_not_fit_is_named(tmp_path: Path) -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4, 4, 3), "float32"), w.tensor("layer", (1, 4, 4, 2), "float32")
    kernel = w.constant("w", np.zeros((2, 1, 1, 5), np.float32))
    w.operator("CONV_2D", [x, kernel], [y], "Conv2DOptions", StrideH=1, StrideW=1)
    path = tmp_path / "net.tflite"
    path.write_bytes(w.finish([x], [y]))
    with pytest.raises(ModelError, match="operator CONV_2D 'layer' cannot be read: 3 does not divide"):
        read(path, {})


def test_missing_schema_says_how_to_get_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(ToolError, match=r"pip install 'irshrink\[tflite\]'"):
        read(file, {})
