"""Builds whose activations are int16: what the caller sees, in C and through the loader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irshrink import load_build
from irshrink.compiler import compile_model
from irshrink.ports import encode_inputs, quantize_int16
from irshrink.recipe import Recipe
from irshrink.testing.loader import loader_of

MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int16") / "build"
    samples = str(MODELS / "kws-samples.npz")
    compile_model(
        MODELS / "kws.onnx", Recipe(target="host", calibration=samples, quantize="w8a16", test_inputs=2), out
    )
    return out


def test_the_report_counts_layers_of_int16(build: Path) -> None:
    report = json.loads((build / "report.json").read_text("utf-8"))
    convolutions = [layer for layer in report["layers"] if layer["op"] == "ConvInt16"]
    assert len(convolutions) == 9
    assert all(layer["macs"] > 0 and layer["dtype"] == "int16" for layer in convolutions)
    assert report["accuracy"]["compiled"] >= 0.95


def test_the_header_says_how_to_quantize(build: Path) -> None:
    text = (build / "src" / "model.h").read_text("utf-8")
    assert "static inline int16_t model_quantize_int16(float value" in text
    assert "input: int16_t [1, 50, 10, 1]" in text


def test_the_loader_gives_what_the_build_gives(build: Path) -> None:
    x = np.load(MODELS / "kws-samples.npz")["input"][0:1].astype(np.float32)
    ours, theirs = load_build(build)({"input": x}), loader_of(build).Model().run({"input": x})
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


def test_inputs_are_rounded_and_saturate(build: Path) -> None:
    [stored] = encode_inputs(load_build(build).program, {"input": np.full((1, 50, 10, 1), 1e9, np.float32)})
    assert stored.dtype == np.int16
    assert (stored == 32767).all()
    halves = np.array([0.5, 1.5, -0.5, -1e30, np.inf], np.float32)
    np.testing.assert_array_equal(quantize_int16(halves, 1.0), [0, 2, 0, -32768, 32767])
