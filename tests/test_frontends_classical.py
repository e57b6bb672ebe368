"""scikit-learn, XGBoost and LightGBM files: conversions against the libraries, and what is never opened."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.errors import ModelError
from irshrink.frontends.detect import frontend_of
from irshrink.frontends.process import CONVERTERS
from irshrink.frontends.read import read_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.reference import run_program
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.testing.frameworks import needs, run_file
from irshrink.verify import verify_structure

NETS = Path(__file__).parents[1] / "benchmarks" / "nets"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``benchmarks/nets/classical_nets.py`` writes."""
    folder = tmp_path_factory.mktemp("classical")
    run_file("skops", NETS / "classical_nets.py", folder, str(folder), str(CONVERTERS))
    return folder


def answers(path: Path, x: NDArray[np.float32]) -> tuple[list[NDArray[Any]], list[str]]:
    """Outputs of the converted model for all rows, and the names of its nodes."""
    module, imported = read_model(path)
    names = [str(node.name) for node in module.graph]
    assert imported.versions or path.suffix == ".onnx"
    fix_input_shapes(module, {"x": x.shape})
    Pipeline(cleanup_steps(), [], verify_structure, lambda _: None).run(module, load_target("host"), 0)
    return run_program(lower(module), [x]), names


@needs("scikit-learn", "skl2onnx", "skops", "onnxmltools", "lightgbm", "xgboost|xgboost-cpu")
@pytest.mark.long
def test_models_answer_as_their_libraries(models: Path) -> None:
    x = np.load(models / "x.npy")
    steps = {"mlp.skops": "net/", "svm.skops": "vectors/", "forest.skops": "trees/", "booster.onnx": "trees/"}
    for name in (*steps, "histogram.skops", "xgboost.json", "xgboost.ubj", "lightgbm.txt"):
        (label, scores), names = answers(models / name, x)
        assert any(node.startswith(steps.get(name, "")) for node in names), names
        with np.load(models / f"{name.partition('.')[0]}-y.npz") as wanted:
            np.testing.assert_array_equal(label, wanted["label"], err_msg=name)
            np.testing.assert_allclose(scores, wanted["scores"], atol=1e-5, err_msg=name)


@needs("scikit-learn", "skl2onnx", "skops", "onnxmltools", "lightgbm", "xgboost|xgboost-cpu")
@pytest.mark.long
def test_neighbouring_numbers_take_their_own_branches(models: Path) -> None:
    with np.load(models / "close-y.npz") as wanted:
        (_, scores), _ = answers(models / "close.skops", wanted["x"])
        np.testing.assert_allclose(scores, wanted["scores"], atol=1e-5)


@needs("scikit-learn", "skl2onnx", "skops", "onnxmltools", "lightgbm", "xgboost|xgboost-cpu")
@pytest.mark.long
def test_what_converters_would_get_wrong_or_run_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="which is no type of scikit-learn or NumPy that is known"):
        read_model(models / "foreign.skops")
    with pytest.raises(ModelError, match="its trees take 0 for missing"):
        read_model(models / "zeros.txt")
    broken = models / "broken.skops"
    broken.write_bytes((models / "forest.skops").read_bytes()[:999])
    with pytest.raises(ModelError, match="the file is damaged"):
        read_model(broken)


@pytest.mark.parametrize("name", ["model.pkl", "model.pickle", "model.joblib"])
def test_pickles_are_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"irshrink never loads one.*skops\.io\.dump.*from_sklearn"):
        frontend_of(tmp_path / name)


FILES = {
    "a.json": (b'{"learner":{"gradient_booster":{}}}', "xgboost"),
    "b.json": (b'{"layers": []}', "onnx"),
    "c.ubj": (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost"),
    "d.txt": (b"tree\nversion=v4\n", "lightgbm"),
    "e.txt": (b"trees are green\n", "onnx"),
    "f.skops": (b"PK", "sklearn"),
}


@pytest.mark.parametrize("name", FILES)
def test_formats_are_told_by_content(name: str, tmp_path: Path) -> None:
    content, wanted = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert frontend_of(tmp_path / name).name == wanted


def converter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_classical", CONVERTERS / "convert_classical.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_thresholds_are_rounded_down() -> None:
    rounded_down = converter().rounded_down
    for number in (0.1, -0.1, 0.5, 1e-46, -1e-46, 1e39, -1e39, 0.30000001192092896):
        t = rounded_down(number)
        assert t == float(np.float32(t)) <= number
        with np.errstate(over="ignore"):
            assert float(np.nextafter(np.float32(t), np.float32(np.inf))) > number


def test_booleans_become_integers() -> None:
    as_numbers = converter().as_numbers
    assert as_numbers([True, np.bool_(False), 2]) == [1, 0, 2]
    assert as_numbers("LEAF") == "LEAF"
