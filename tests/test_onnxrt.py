"""Sessions of ONNX Runtime: what they take, and its errors as ours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from irshrink import onnxrt
from irshrink.errors import ModelError
from irshrink.module import module_from_text

NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4] x) => (float[1, 4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> { y = Mul (x, w) }"""
FEEDS = {"x": np.ones((1, 4), np.float32)}


def test_every_form_of_a_model(tmp_path: Path) -> None:
    module = module_from_text(NET)
    module.save(tmp_path / "m.onnx")
    proto = module.to_proto()
    for model in (module.model, proto, proto.SerializeToString(), tmp_path / "m.onnx"):
        for optimize in (True, False):
            outputs = onnxrt.run(onnxrt.session(model, optimize=optimize), FEEDS)
            assert list(outputs) == ["y"]
            np.testing.assert_array_equal(outputs["y"], [[1, 2, 3, 4]])


def test_a_model_too_large_for_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxrt, "PROTOBUF_LIMIT", 8)
    module = module_from_text(NET)
    outputs = onnxrt.run(onnxrt.session(module.model), FEEDS)
    np.testing.assert_array_equal(outputs["y"], [[1, 2, 3, 4]])
    weight = module.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), [1, 2, 3, 4])


def test_telemetry_is_off() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the model: "):
        onnxrt.session(b"nonsense")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load .*none.onnx: "):
        onnxrt.session(tmp_path / "none.onnx")
    session = onnxrt.session(module_from_text(NET).model)
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model: "):
        onnxrt.run(session, {"z": FEEDS["x"]})
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model: "):
        onnxrt.run(session, {"x": np.ones((1, 5), np.float32)})
