"""Models as other people's exporters write them, from the file to a finished build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from irshrink import cli
from irshrink.analyses.cost import graph_parameters
from irshrink.module import load_module

X = np.random.default_rng(0).normal(0, 1, (8, 3, 8, 8)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)


def save(folder: Path, nodes: list[Any], *, open_sizes: bool = False, **initializers: Any) -> Path:
    """A model from ``images:0`` to ``scores/σ``; negative sizes are how some exporters write open ones."""
    batch = -1 if open_sizes else 1
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
        for name, shape in (("images:0", (3, 8, 8)), ("scores/σ", (4, 1, 1)))
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in initializers.items()]
    graph = helper.make_graph(nodes, "my net", ports[:1], ports[1:], tensors)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "my net.onnx")
    np.savez(folder / "samples.npz", **{"images:0": X})
    return folder / "my net.onnx"


def nodes(weights: str = "weights") -> list[Any]:
    return [
        helper.make_node("Conv", ["images:0", weights], ["c"], name='net/"conv" <1>; é'),
        helper.make_node("Relu", ["c"], ["r"], name="net/relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["scores/σ"], name="net/pool"),
    ]


def constant() -> Any:
    return helper.make_node("Constant", [], ["weights"], value=numpy_helper.from_array(WEIGHTS, "w"))


def compiled(model: Path, out: Path, *more: str) -> dict[str, Any]:
    samples = str(model.parent / "samples.npz")
    assert cli.run(["compile", str(model), "-t", "cortex-m4", "-c", samples, "-o", str(out), *more]) == 0
    report: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return report


def test_odd_names_and_weights_in_constant_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path, [constant(), *nodes()], open_sizes=True)
    assert graph_parameters(load_module(model).graph) == WEIGHTS.size
    report = compiled(model, tmp_path / "out")
    assert report["model"]["parameters"] == WEIGHTS.size
    assert report["size"]["float_weights_bytes"] == WEIGHTS.nbytes
    assert report["notes"] == ["Input 'images:0': the open batch dimension was set to 1."]
    assert report["choices"] == {"measured": 0, "by_rule": 1, "outdated": 0}
    assert {layer["dtype"] for layer in report["layers"]} == {"int8"}
    printed = capsys.readouterr().out
    assert "my net for cortex-m4" in printed
    assert "4 inputs" in printed
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "net/&#34;conv&#34; &lt;1&gt;; é" in page


def test_external_weights_belong_to_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path, nodes(), weights=WEIGHTS)
    place = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(model), model, **place)
    report = compiled(model, tmp_path / "out")
    assert report["model"]["bytes"] == model.stat().st_size + WEIGHTS.nbytes
    lock = str(tmp_path / "out" / "recipe.lock")
    compiled(model, tmp_path / "again", "--recipe", lock)
    assert capsys.readouterr().err == ""
    (tmp_path / "weights.bin").write_bytes((WEIGHTS * 2).tobytes())
    compiled(model, tmp_path / "other", "--recipe", lock)
    warning = "warning: the model's external data differs from what the lock was made with"
    assert warning in capsys.readouterr().err


def test_builds_can_be_inspected_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path, nodes(), weights=WEIGHTS)
    compiled(model, tmp_path / "out", "--json")
    assert json.loads(capsys.readouterr().out)["target"] == "cortex-m4"
    quantized = str(tmp_path / "out" / "model.onnx")
    assert cli.run(["inspect", quantized, "-t", "cortex-m4", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)["target"]
    assert view["integer"]
    assert view["float"] == []
    assert cli.run(["diff", str(model), quantized]) == 0
    assert "largest difference" in capsys.readouterr().out


def test_models_with_other_inputs_are_compared_by_structure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path, nodes(), weights=WEIGHTS)
    other = onnx.load(model)
    other.graph.input[0].name = other.graph.node[0].input[0] = "photos"
    onnx.save(other, tmp_path / "other.onnx")
    assert cli.run(["diff", str(model), str(tmp_path / "other.onnx")]) == 0
    text = capsys.readouterr().out
    assert "Conv" in text
    assert "outputs were not compared: a takes images:0: float32 [1, 3, 8, 8]; b takes photos" in text


def test_the_bytes_depend_on_nothing_around(tmp_path: Path) -> None:
    model = save(tmp_path, nodes(), weights=WEIGHTS)
    places = [tmp_path / "here", tmp_path / "Ü x" / "there"]
    changes = [
        {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2", "TZ": "America/Lima", "HOME": "/none"},
    ]  # fmt: skip
    built = []
    for place, change in zip(places, changes, strict=True):
        place.mkdir(parents=True)
        command = [
            sys.executable,
            "-m",
            "irshrink",
            "compile",
            os.path.relpath(model, place),
            "-t",
            "cortex-m4",
        ]
        command += ["-c", str(model.parent / "samples.npz"), "-o", f"build {len(built)}"]
        subprocess.run(command, cwd=place, env={**os.environ, **change}, check=True, capture_output=True)
        files = sorted(p for p in (place / f"build {len(built)}").rglob("*") if p.is_file())
        built.append({p.relative_to(place / f"build {len(built)}"): p.read_bytes() for p in files})
    assert built[0] == built[1]
