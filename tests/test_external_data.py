"""Weights beside the model: where they may lie, that they stay there, and how a large model is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from irshrink import onnxrt
from irshrink.errors import ModelError, OutputError
from irshrink.files import sha256
from irshrink.module import load_module
from irshrink.save import save_model

WEIGHTS = np.random.default_rng(0).normal(0, 1, (40, 30)).astype(np.float32)
X = {"x": np.ones((1, 40), np.float32)}


def proto(location: str = "w.bin", **more: str) -> onnx.ModelProto:
    """``y = x @ w`` with w in a file."""
    graph = "g (float[1, 40] x) => (float[1, 30] y) { y = MatMul (x, w) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {graph}')
    tensor = onnx.TensorProto(
        name="w", data_type=1, dims=WEIGHTS.shape, data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    return folder


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_stay_in_their_file(folder: Path) -> None:
    module = load_module(write(folder, proto()))
    tensor = module.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert module.external == (folder / "w.bin",)
    assert len(module.to_proto().SerializeToString()) < 1000
    result = onnxrt.run(onnxrt.session(module.model), X)
    np.testing.assert_allclose(result["y"], X["x"] @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "sub/../../secret.bin", "..", ".", "", "w.bin/../../x", "C:\\w"]
)
def test_places_outside_the_folder_are_refused(location: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"is not inside the model's folder|not beside the model"):
        load_module(write(folder, proto(location)))


def test_an_absolute_place_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is not inside the model's folder"):
        load_module(write(folder, proto(str(folder / "w.bin"))))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_that_leave_the_folder_are_refused(link: object, folder: Path) -> None:
    link(folder.parent / "secret.bin", folder / "link.bin")  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"not inside the model's folder|several hard links"):
        load_module(write(folder, proto("link.bin")))


def test_a_relative_path_of_the_model_is_no_way_around(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, proto("../secret.bin"))
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match="not inside the model's folder"):
        load_module("m.onnx")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"length": "10"}, "is 10 bytes long, but its shape"),
        ({"offset": "4"}, "has 4800 bytes, but 'w' ends at 4804"),
        ({"offset": "-4"}, "must be numbers"),
        ({"offset": "9" * 30}, "must be numbers"),
        ({"length": "1e3"}, "must be numbers"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(entry: dict[str, str], message: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_module(write(folder, proto(**entry)))


def test_external_data_inside_subgraphs_and_attributes_is_checked_and_loaded(folder: Path) -> None:
    model = proto("../secret.bin")
    tensor = model.graph.initializer.pop()
    node = onnx.helper.make_node("Constant", [], ["w"])
    node.attribute.append(onnx.helper.make_attribute("value", tensor))
    model.graph.node.insert(0, node)
    with pytest.raises(ModelError, match="not inside the model's folder"):
        load_module(write(folder, model))
    model.graph.node[0].attribute[0].t.external_data[0].value = "w.bin"
    module = load_module(write(folder, model))
    np.testing.assert_array_equal(module.graph[0].attributes["value"].as_tensor().numpy(), WEIGHTS)
    assert not isinstance(module.graph[0].attributes["value"].as_tensor(), ir.ExternalTensor)


def test_a_small_model_is_saved_as_one_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "small.onnx"
    load_module(write(folder, proto())).save(out)
    assert [path.name for path in out.parent.iterdir()] == ["small.onnx"]
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(out).graph.initializer[0]), WEIGHTS)


def test_a_large_model_is_saved_with_its_weights_beside(folder: Path, tmp_path: Path) -> None:
    module, out = load_module(write(folder, proto())), tmp_path / "out" / "large.onnx"
    save_model(module.model, out, limit=1000)
    assert sorted(path.name for path in out.parent.iterdir()) == ["large.onnx", "large.onnx.data"]
    assert out.stat().st_size < 1000
    again = load_module(out)
    np.testing.assert_array_equal(again.graph.initializers["w"].const_value.numpy(), WEIGHTS)  # type: ignore[union-attr]
    first = sha256(out, *again.external)
    save_model(module.model, out, limit=1000)
    assert sha256(out, *again.external) == first


def test_a_model_is_not_saved_over_its_own_weights(folder: Path) -> None:
    module = load_module(write(folder, proto()))
    with pytest.raises(OutputError, match="holds weights of the model itself"):
        module.save(folder / "w.bin")
    assert (folder / "w.bin").read_bytes() == WEIGHTS.tobytes()
