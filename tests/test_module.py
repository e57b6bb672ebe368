"""What happens to a model at the entrance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from irshrink import onnxrt
from irshrink.module import load_module
from irshrink.verify import verify_structure


def test_nodes_of_one_name_get_a_number_each(tmp_path: Path) -> None:
    """ONNX's checker lets them pass, newer ONNX Runtimes do not; messages and the report go by names."""
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] y)
    {
       [relu] a = Relu (x)
       [relu] b = Neg (a)
       c = Neg (b)
       [relu_1] d = Neg (c)
       [relu] y = Neg (d)
    }"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    module = load_module(path)
    assert [node.name for node in module.graph] == ["relu", "relu_2", "", "relu_1", "relu_3"]
    verify_structure(module)
    result = onnxrt.run(onnxrt.session(module.model), {"x": np.array([-1.0, 2.0], np.float32)})
    assert result["y"].tolist() == [0.0, 2.0]


def test_a_clone_shares_weights_and_nothing_else(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] y)
    <float[2] w = {1.0, 2.0}> { y = Mul (x, w) }"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    module = load_module(path)
    clone = module.clone()
    clone.graph[0].op_type = "Add"
    clone.history.append(None)  # type: ignore[arg-type]
    assert module.graph[0].op_type == "Mul"
    assert module.history == []
    assert clone.source == path
    weights = [m.graph.initializers["w"].const_value for m in (module, clone)]
    assert weights[0] is weights[1]
