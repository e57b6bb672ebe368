"""Keras, TensorFlow and PyTorch: conversions against the frameworks, and files that must not run."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.errors import ModelError, ToolError
from irshrink.frontends.process import CONVERTERS
from irshrink.frontends.pytorch import from_torch
from irshrink.frontends.read import read_model
from irshrink.module import Module
from irshrink.onnxrt import run, session
from irshrink.testing.frameworks import needs, run_file

NETS = Path(__file__).parents[1] / "benchmarks" / "nets"
Array = NDArray[Any]

#: Files that TensorFlow would happily run.
HOSTILE = """
import sys; sys.path.insert(0, sys.argv[2])
import keras, tensorflow as tf, tensorflow_nets
from pathlib import Path
tensorflow_nets.main(Path(sys.argv[1]))
image = keras.Input((4, 4, 3))
keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save("lambda.keras")
class Reader(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}
tf.saved_model.save(Reader(), "reader")
"""


def require_agreement(module: Module, folder: Path, name: str) -> None:
    """The converted model computes in ONNX Runtime what the framework computed."""
    opened = session(module.to_proto())
    with np.load(folder / f"{name}-x.npz") as x, np.load(folder / f"{name}-y.npz") as y:
        samples, answers = {key: x[key] for key in x}, {key: y[key] for key in y}
    for index in range(8):
        ours = run(opened, {key: values[index][None] for key, values in samples.items()})
        for key, values in answers.items():
            tolerance = 1e-5 * float(np.abs(values).max())
            np.testing.assert_allclose(ours[key][0], values[index], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``benchmarks/nets/tensorflow_nets.py`` writes, and two models that are refused."""
    folder = tmp_path_factory.mktemp("tensorflow")
    (folder / "make.py").write_text(HOSTILE, "utf-8")
    run_file("keras", folder / "make.py", folder, str(folder), str(NETS))
    return folder


@pytest.mark.long
@needs("keras", "tensorflow|tensorflow-cpu", "tf2onnx")
def test_keras(tensorflow: Path) -> None:
    module, imported = read_model(tensorflow / "mobile.keras")
    require_agreement(module, tensorflow, "mobile")
    assert module.graph.inputs[0].shape is not None
    assert list(module.graph.inputs[0].shape)[1:] == [32, 32, 3]  # the framework's own layout
    layers = {str(node.name).split("/")[0] for node in module.graph}
    assert layers >= {
        "stem", "stem_relu", "depthwise", "pointwise", "join", "separable", "pool", "flatten", "scores"
    }  # fmt: skip
    assert {"keras", "tf2onnx", "python"} <= set(imported.versions)
    old, _ = read_model(tensorflow / "mobile.h5")
    assert old.to_proto().SerializeToString() == module.to_proto().SerializeToString()


@pytest.mark.long
@needs("tensorflow|tensorflow-cpu", "tf2onnx")
def test_saved_model(tensorflow: Path) -> None:
    module, imported = read_model(tensorflow / "speech")
    require_agreement(module, tensorflow, "speech")
    assert {"front", "block", "head"} <= {str(node.name).split("/")[0] for node in module.graph}
    assert len(imported.files) >= 3


@pytest.mark.long
@needs("keras", "tensorflow|tensorflow-cpu", "tf2onnx")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("lambda.keras", "holds a Lambda layer, Python code that irshrink does not run"),
        ("reader", r"\(ReadFile\) reaches outside the model"),
    ],
)
def test_tensorflow_files_with_code(file: str, message: str, tensorflow: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(tensorflow / file)


@pytest.mark.long
@needs("torch", "onnxscript")
def test_pytorch(tmp_path: Path) -> None:
    run_file("torch", NETS / "torch_nets.py", tmp_path, str(tmp_path))
    module, imported = read_model(tmp_path / "residual.pt2")
    require_agreement(module, tmp_path, "residual")
    names = {str(node.name) for node in module.graph}
    assert {"stem/Conv", "silu/Sigmoid", "body.0.conv1/Conv", "body.2/Add", "head/Gemm"} <= names
    assert {"torch", "onnxscript"} <= set(imported.versions)


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    """The script for .pt2 as a module; PyTorch is not imported by its checks."""
    spec = importlib.util.spec_from_file_location("convert_pytorch", CONVERTERS / "convert_pytorch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(folder: Path, graph: Any = None, **entries: str) -> Path:
    path = folder / "net.pt2"
    content = {"archive_format": "pt2", "models/model.json": json.dumps(graph or {})} | entries
    with zipfile.ZipFile(path, "w") as file:
        for name, text in content.items():
            file.writestr(f"net/{name}", text)
    return path


def node(target: str) -> dict[str, Any]:
    return {"graph": {"nodes": [{"target": target, "inputs": []}]}}


def size(expression: str) -> dict[str, Any]:
    return {"sizes": [{"as_expr": {"expr_str": expression}}]}


@pytest.mark.parametrize(
    "graph",
    [
        node("torch.ops.aten.conv2d.default"),
        node("_operator.mul"),
        size("Symbol('s40', positive=True, integer=True)"),
        size("2*s0 + FloorDiv(Max(s1, 3), 2) - 1"),
    ],
)
def test_plain_programs_pass(graph: Any, tmp_path: Path, converter: ModuleType) -> None:
    converter.require_safe(archive(tmp_path, graph))


@pytest.mark.parametrize(
    ("graph", "entries", "message"),
    [
        (
            None,
            {"data/aotinductor/model/run.so": ""},
            "holds 'net/data/aotinductor/model/run.so', which is no",
        ),
        (None, {"data/constants/custom_obj_0": ""}, "custom_obj_0', which is no part"),
        (None, {"../../evil": ""}, "which is no part"),
        (
            None,
            {"data/weights/model_weights_config.json": '{"a": {"use_pickle": true}}'},
            "tensors as pickles",
        ),
        (None, {"models/model.json": "{"}, "the archive is damaged"),
        (None, {"models/model.json": "[" * 200_000}, "the archive is damaged"),
        (node("torch.os.system"), {}, r"calls 'torch\.os\.system', which is no operator"),
        (node("torch.ops.aten.from_file.default"), {}, "which is no operator"),
        (size("__import__('os').system('id')"), {}, "which is no expression"),
        (size("exec(chr(105))"), {}, "which is no expression"),
        (size("s0.__class__"), {}, "which is no expression"),
        (size("Symbol('s0').free_symbols"), {}, "which is no expression"),
    ],
)
def test_programs_that_could_run_code(
    graph: Any, entries: dict[str, str], message: str, tmp_path: Path, converter: ModuleType
) -> None:
    with pytest.raises(converter.RefusedModelError, match=message):
        converter.require_safe(archive(tmp_path, graph, **entries))


def test_what_is_no_archive(tmp_path: Path, converter: ModuleType) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(converter.RefusedModelError, match="the archive is damaged"):
        converter.require_safe(tmp_path / "net.pt2")


class Exported:
    """Stands for ``torch.export.ExportedProgram``."""


class Network:
    """Stands for a ``torch.nn.Module``."""

    def __init__(self, *, training: bool = False) -> None:
        self.training = training


def fake_torch(export: Any) -> Any:
    def save(program: Any, path: Path) -> None:
        path.write_bytes(f"{type(program).__name__} in {path.name}".encode())

    namespace = SimpleNamespace(ExportedProgram=Exported, export=export, save=save)
    return SimpleNamespace(export=namespace, nn=SimpleNamespace(Module=Network))


def test_from_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(module: Any, inputs: tuple[Any, ...], dynamic_shapes: Any) -> Exported:
        if inputs == ("odd",):
            raise RuntimeError("Data-dependent branching\nin line 7")
        return Exported()

    path = tmp_path / "net.pt2"
    monkeypatch.setitem(sys.modules, "torch", fake_torch(export))
    assert from_torch(Network(), ("x",), path) == path
    assert path.read_bytes() == b"Exported in model.pt2"  # not the name that the caller chose
    assert from_torch(Exported(), (), path) == path
    for module, inputs, message in (
        (Network(training=True), (), "Network is in training mode"),
        (3, (), "from_torch takes a torch.nn.Module, this is a int"),
        (Network(), ("odd",), "PyTorch cannot export Network: Data-dependent branching$"),
    ):
        with pytest.raises(ModelError, match=message):
            from_torch(module, inputs, path)
    with pytest.raises(ModelError, match=r"ends in \.pt2"):
        from_torch(Network(), (), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolError, match=r"pip install 'irshrink\[pytorch\]'"):
        from_torch(Network(), (), path)
