"""Our quantized models elsewhere and back: ONNX Runtime runs them; compiled again, they give the same C."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irshrink import onnxrt
from irshrink.compiler import compile_model
from irshrink.module import load_module
from irshrink.optimize import optimize_model
from irshrink.program.lower import lower
from irshrink.program.reference import run_program
from irshrink.recipe import make_recipe
from irshrink.registry import make_pass
from irshrink.testing.nodes import floats, model

MODELS = Path(__file__).parents[1] / "models"
#: Tell how a build was made. The model loses constants that are there twice when it is read again.
TOLD = {"report.html", "report.json", "recipe.lock", "model.onnx"}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two convolutions, a sum, a pool and a classifier; its samples lie beside it."""
    constants = {
        "w": floats(0, 8, 3, 3, 3),
        "b": floats(1, 8),
        "v": floats(2, 8, 1, 3, 3),
        "u": floats(3, 5, 8),
    }
    nodes = [
        ("Conv", ("x", "w", "b"), "c", {"pads": [1, 1, 1, 1]}),
        ("Relu", ("c",), "r", {}),
        ("Conv", ("r", "v"), "d", {"pads": [1, 1, 1, 1], "group": 8}),
        ("Add", ("r", "d"), "s", {}),
        ("GlobalAveragePool", ("s",), "p", {}),
        ("Flatten", ("p",), "f", {}),
        ("Gemm", ("f", "u"), "g", {"transB": 1}),
        ("Softmax", ("g",), "y", {}),
    ]
    onnx.save(model(nodes, (1, 3, 8, 8), constants), tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", x=floats(4, 16, 3, 8, 8))
    return tmp_path / "net.onnx"


def built(model: Path, out: Path, **recipe: Any) -> Path:
    compile_model(model, make_recipe({"target": "cortex-m4", "test_inputs": 1, **recipe}), out)
    return out


def require_same_c(model: Path, samples: Path, bits: int, folder: Path) -> None:
    step = {"pass": "quantize-int8", "weight_bits": bits}
    first = built(model, folder / "first", calibration=str(samples), steps=(step,))
    (folder / "again").mkdir()
    again = folder / "again" / model.name
    shutil.copy(first / "model.onnx", again)
    second = built(again, folder / "second", eval=str(samples))
    files = [p.relative_to(first) for p in sorted(first.rglob("*")) if p.is_file() and p.name not in TOLD]
    assert len(files) > 8
    assert [f for f in files if (first / f).read_bytes() != (second / f).read_bytes()] == []
    optimize_model(second / "model.onnx", folder / "third.onnx")
    assert (folder / "third.onnx").read_bytes() == (second / "model.onnx").read_bytes()


def test_a_quantized_model_compiled_again_gives_the_same_c(net: Path) -> None:
    require_same_c(net, net.parent / "samples.npz", 4, net.parent)


@pytest.mark.long
@pytest.mark.parametrize("bits", [8, 2])
def test_so_do_8_and_2_bits(net: Path, bits: int) -> None:
    require_same_c(net, net.parent / "samples.npz", bits, net.parent)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ic", "kws"])
def test_real_models_compiled_again_give_the_same_c(tmp_path: Path, name: str) -> None:
    require_same_c(MODELS / f"{name}.onnx", MODELS / f"{name}-samples.npz", 4, tmp_path)


@pytest.mark.parametrize("bits", [8, 4])
def test_onnx_runtime_runs_them_and_agrees(net: Path, bits: int) -> None:
    samples, out = net.parent / "samples.npz", net.parent / "quantized.onnx"
    optimize_model(net, out, [make_pass("quantize-int8", {"weight_bits": bits})], calibration=samples)
    program = lower(load_module(out), io="float")
    session = onnxrt.session(out, optimize=False)
    for x in np.load(samples)["x"]:
        (theirs,) = onnxrt.run(session, {"x": x[None]}).values()
        (ours,) = run_program(program, [x[None]])
        assert np.abs(theirs - ours).max() <= 1 / 256  # one step of the Softmax
