"""``irshrink explain`` on models that ONNX Runtime quantized, in each of its formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from irshrink.explain.explain import explain_model
from irshrink.explain.points import find_points
from irshrink.module import Module, load_module
from irshrink.optimize import optimize_model
from irshrink.testing import faults

MODELS = Path(__file__).parents[1] / "models"
Array = np.ndarray[Any, np.dtype[Any]]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples for ONNX Runtime's calibration."""

    def __init__(self, x: Array) -> None:
        self._feeds = iter([{"input": one[None]} for one in x])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "kws.npz"
    np.savez(path, input=np.load(MODELS / "kws-samples.npz")["input"][:8].astype(np.float32))
    return path


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model without batch normalization, as ONNX Runtime's own preparation would leave it."""
    path = tmp_path_factory.mktemp("model") / "kws.onnx"
    optimize_model(MODELS / "kws.onnx", path)
    return path


FORMATS = {
    "default": {},
    "per channel": {"per_channel": True, "activation_type": QuantType.QInt8},
    "operators": {"quant_format": QuantFormat.QOperator, "per_channel": True},
    "int4": {"weight_type": QuantType.QInt4},
    "int16": {"activation_type": QuantType.QUInt16},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=list(FORMATS))
def test_models_of_onnx_runtime(folded: Path, samples: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    out = tmp_path / "ort.onnx"
    given = {"quant_format": QuantFormat.QDQ, **options}
    quantize_static(str(folded), str(out), Reader(np.load(samples)["input"]), **given)
    result = explain_model(out, samples, floats=MODELS / "kws.onnx")
    convolutions = [layer for layer in result["layers"] if layer["op"] == "Conv"]
    assert len(convolutions) == 9
    assert all(layer["weights"] is not None for layer in convolutions)
    assert {layer["weights"]["dtype"] for layer in convolutions} <= {"int8", "uint8", "int4"}
    assert sum(layer["compared_with"] == "float model" for layer in result["layers"]) >= 11
    causes = [cause["cause"] for cause in result["causes"]]
    assert not {"wrong-preprocessing", "bias-overflow"} & {*causes}
    assert ("coarse-weights" in causes) == ("weight_type" in options)


def test_a_fault_in_a_model_of_onnx_runtime(folded: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "ort.onnx"
    quantize_static(str(folded), str(out), Reader(np.load(samples)["input"]), quant_format=QuantFormat.QDQ)
    proto = onnx.load(out)
    value = faults.scale_grid(proto, 40)
    onnx.save(proto, out)
    result = explain_model(out, samples, floats=MODELS / "kws.onnx")
    named = next(layer for layer in result["layers"] if layer["value"] == value)
    assert (result["causes"][0]["cause"], result["causes"][0]["layer"]) == (
        "activation-outlier",
        named["name"],
    )
    assert result["causes"][0]["gain_db"] > 5


def test_a_quantizer_that_folds_relu_into_the_grid_is_understood(
    folded: Path, samples: Path, tmp_path: Path
) -> None:
    """ONNX Runtime drops the Relu before a grid that begins at 0; the float twin must still clamp there."""
    out = tmp_path / "ort.onnx"
    quantize_static(str(folded), str(out), Reader(np.load(samples)["input"]), quant_format=QuantFormat.QDQ)
    assert not any(node.op_type == "Relu" for node in onnx.load(out).graph.node)
    rounded = find_points(load_module(out).graph, "kws")
    assert sum(point.low == 0 for point in rounded.points) == 9
    alone = explain_model(out, samples)
    assert alone["score"]["snr_db"] > 15
    assert any("ReLU" in note for note in alone["notes"])


def test_weights_that_the_graph_itself_rounds() -> None:
    """As some quantizers leave them: float weights behind QuantizeLinear and DequantizeLinear."""
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 2] y)
    <float[4, 2] w = {0.5, -1, 0.25, 1, 0, 0.75, -0.5, 0.125}, float s = {0.0078125}, int8 z = {0},
     float xs = {0.5}, int8 xz = {3}> {
      xq = QuantizeLinear (x, xs, xz) xr = DequantizeLinear (xq, xs, xz)
      wq = QuantizeLinear (w, s, z) wr = DequantizeLinear (wq, s, z)
      y = MatMul (xr, wr) }"""
    module = Module(ir.from_proto(onnx.parser.parse_model(text)))
    rounded = find_points(module.graph, "g")
    layer = rounded.points[-1]
    assert layer.op_type == "MatMul"
    assert layer.weight is not None
    assert layer.weight.codes.tolist() == [[64, -127 - 1], [32, 127], [0, 96], [-64, 16]]
    assert [point.op_type for point in layer.sources] == ["input"]


def test_a_quantized_tflite_model(tmp_path: Path) -> None:
    """Its values have names of their own, so only the outputs are compared with the float model."""
    samples = np.load(MODELS / "kws-samples.npz")["input"][:4].astype(np.float32)
    np.savez(tmp_path / "samples.npz", input_1=samples)
    result = explain_model(MODELS / "kws.tflite", tmp_path / "samples.npz", floats=MODELS / "kws.onnx")
    assert len(result["layers"]) == 13
    assert result["score"]["snr_db"] > 10
    assert "no counterpart" in result["notes"][0]
