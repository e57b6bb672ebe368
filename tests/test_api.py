"""What programs call: the same builds as the command line's, from Python values."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irshrink
import irshrink.compiler
from irshrink.cli import run
from irshrink.errors import BudgetError, RecipeError
from irshrink.module import module_from_text
from irshrink.replay import compare_folders

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""
ARRAYS = {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    module_from_text(NET).save(folder / "net.onnx")
    np.savez(folder / "samples.npz", **ARRAYS)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("name", irshrink.__all__)
def test_no_module_takes_a_public_name(name: str) -> None:
    """Importing a module ``irshrink.compile`` would put it where the function is."""
    assert importlib.util.find_spec(f"irshrink.{name}") is None
    assert callable(getattr(irshrink, name))


def test_the_same_build_from_files_arrays_and_the_command_line(net: Path) -> None:
    options = ["-t", "cortex-m0", "-c", f"{net}/samples.npz", "--flash", "64K"]
    assert run(["compile", f"{net}/net.onnx", *options, "-o", f"{net}/line"]) == 0
    keys: dict[str, Any] = {"target": "cortex-m0", "flash": "64K"}
    irshrink.compile(net / "net.onnx", net / "paths", calibration=net / "samples.npz", **keys)
    report = irshrink.compile(str(net / "net.onnx"), f"{net}/arrays", calibration=ARRAYS, **keys)
    assert report["hardware"]["flash_limit_bytes"] == 64 * 1024
    for folder in ("paths", "arrays"):
        assert compare_folders(net / "line", net / folder).identical


def test_a_recipe_under_keys(net: Path) -> None:
    (net / "recipe.toml").write_text('target = "cortex-m0"\nprefix = "tiny"\ncalibration = "samples.npz"\n')
    report = irshrink.compile(net / "net.onnx", net / "recipe", recipe=net / "recipe.toml", prefix="small")
    assert (report["recipe"]["prefix"], report["recipe"]["quantize"]) == ("small", "int8")
    recipe = irshrink.Recipe(target="cortex-m0", prefix="tiny")
    report = irshrink.compile(net / "net.onnx", net / "object", recipe=recipe, test_inputs=2)
    assert (report["recipe"]["prefix"], report["emulation"]["inputs"]) == ("tiny", 2)


def test_a_lock_of_another_model_is_refused(net: Path, tmp_path: Path) -> None:
    irshrink.compile(net / "net.onnx", tmp_path / "build", target="cortex-m0")
    module_from_text(NET.replace("0.1,", "0.15,")).save(tmp_path / "other.onnx")
    lock = tmp_path / "build" / "recipe.lock"
    with pytest.raises(RecipeError, match="belongs to a model with SHA-256"):
        irshrink.compile(tmp_path / "other.onnx", tmp_path / "again", recipe=lock)
    assert json.loads((tmp_path / "build" / "report.json").read_text())["format"] == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "arguments: no target"),
        ({"target": "cortex-m0", "flahs": 3}, "unknown key 'flahs'. Did you mean 'flash'"),
        ({"target": "cortex-m0", "calibration": [1.0]}, "calibration is a list. Give a path, or arrays by"),
    ],
)
def test_mistakes(keys: dict[str, Any], said: str, net: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        irshrink.compile(net / "net.onnx", net / "none", **keys)
    assert not (net / "none").exists()


def test_a_missed_budget_is_an_exception(net: Path) -> None:
    with pytest.raises(BudgetError, match="flash"):
        irshrink.compile(net / "net.onnx", net / "none", target="cortex-m0", flash=100)
    assert not (net / "none").exists()
