"""Running finished builds: from the command line on files, from Python on arrays, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import irshrink
from irshrink.diff import diff_models
from irshrink.errors import SamplesError, UserError
from irshrink.execute import execute, mismatches, render
from irshrink.recipe import make_recipe

Array = np.ndarray[Any, np.dtype[Any]]
X = np.random.default_rng(0).normal(0, 1, (6, 3, 8, 8)).astype(np.float32)
IMAGES = {"mean": [127.0], "std": [64.0]}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 build for this machine, whose recipe declares how images become its input."""
    folder = tmp_path_factory.mktemp("execute")
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y)'
        "{ c = Conv (x, w)  y = Relu (c) }"
    )
    weights = np.random.default_rng(1).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(proto, folder / "conv.onnx")
    np.savez(folder / "x.npz", x=X)
    recipe = make_recipe({"target": "host", "calibration": str(folder / "x.npz"), "images": IMAGES})
    report = irshrink.compile_model(folder / "conv.onnx", recipe, folder / "build")
    assert "was not used" in " ".join(report["notes"])
    return folder / "build"


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "in.npz", **arrays)
    return folder / "in.npz"


def test_integers_that_could_mean_either_are_refused(build: Path, tmp_path: Path) -> None:
    """int8: the model's numbers, or stored ones? In a file and in memory, the same rule."""
    values = np.clip(X * 10, -128, 127).astype(np.int8)
    question = "x'.* int8.* numbers as the model takes them, or quantized ones"
    with pytest.raises(SamplesError, match=f"{question}.* as float32. If they are quantized .* --stored"):
        execute(build, saved(tmp_path, x=values))
    loaded = irshrink.load_build(build)
    with pytest.raises(SamplesError, match=f"{question}.* as float32; with stored=True"):
        loaded({"x": values[0]})
    recipe = make_recipe({"target": "host", "calibration": str(saved(tmp_path, x=values))})
    with pytest.raises(SamplesError, match=rf"{question}.* these are \(values - zero_point\) \* scale"):
        irshrink.compile_model(build.parent / "conv.onnx", recipe, tmp_path / "build")
    with pytest.raises(SamplesError, match=question):
        diff_models(
            build.parent / "conv.onnx",
            build / "model.onnx",
            data=saved(tmp_path, x=values),
            shapes={"x": (1, 3, 8, 8)},
        )
    by_code, by_number = loaded({"x": values[0]}, stored=True), loaded({"x": real(build, values[0])})
    assert np.array_equal(by_code["y"], by_number["y"])


def test_pixels_are_numbers(build: Path, tmp_path: Path) -> None:
    """A float model takes uint8 for what it is: no build stores that."""
    pixels = np.random.default_rng(5).integers(0, 3, X.shape).astype(np.uint8)
    execute(build, saved(tmp_path, x=pixels), output=tmp_path / "pixels.npz")
    execute(build, saved(tmp_path, x=pixels.astype(np.float32)), output=tmp_path / "floats.npz")
    with np.load(tmp_path / "pixels.npz") as left, np.load(tmp_path / "floats.npz") as right:
        assert np.array_equal(left["y"], right["y"])


def test_what_is_said_to_be_stored_must_be(build: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="'x' is float32, the build stores int8"):
        execute(build, saved(tmp_path, x=X), stored=True)
    with pytest.raises(SamplesError, match="input 'x' is stored as int8, the array is float32"):
        irshrink.load_build(build)({"x": X[0]}, stored=True)
    with pytest.raises(SamplesError, match=r"--stored is about arrays of an \.npz"):
        execute(build, tmp_path, stored=True)


def real(build: Path, stored: Array) -> Array:
    """The numbers that stored ones stand for."""
    program = irshrink.load_build(build).program
    held = program.tensors[program.inputs[0].tensor].quantization
    assert held is not None
    numbers: Array = (stored.astype(np.float32) - held.zero_point) * np.float32(held.scale)
    return numbers


def test_real_numbers_and_stored_ones_give_the_same_bytes(build: Path, tmp_path: Path) -> None:
    port = irshrink.load_build(build).program.inputs[0]
    quantization = irshrink.load_build(build).program.tensors[port.tensor].quantization
    assert quantization is not None
    stored = np.rint(X / np.float32(quantization.scale)) + quantization.zero_point
    for name, values in (("real", X), ("stored", np.clip(stored, -128, 127).astype(np.int8))):
        said: list[str] = []
        facts = execute(
            build,
            saved(tmp_path, x=values),
            output=tmp_path / f"{name}.npz",
            stored=name == "stored",
            progress=said.append,
        )
        assert (facts["inputs"], facts["compared_bytes"], facts["mismatched_bytes"]) == (6, 6 * 144, 0)
        assert said[-1] == "reference 5 of 6"
    with np.load(tmp_path / "real.npz") as real, np.load(tmp_path / "stored.npz") as given:
        assert real["y"].dtype == np.int8
        assert np.array_equal(real["y"], given["y"])


def test_fewer_samples_and_words_for_one(build: Path, tmp_path: Path) -> None:
    text = render(execute(build, saved(tmp_path, x=X), samples=1))
    assert text.splitlines()[0].split("  ")[1:] == ["1 input", "144 output bytes, all equal the reference"]


def test_inputs_may_be_constant(build: Path, tmp_path: Path) -> None:
    assert execute(build, saved(tmp_path, x=np.zeros_like(X)))["inputs"] == 6


def test_images_are_prepared_as_the_recipe_says(build: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (2, 8, 8, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    execute(build, tmp_path, output=tmp_path / "images.npz")
    real = ((pixels.astype(np.float32) - 127) / 64).transpose(0, 3, 1, 2)
    execute(build, saved(tmp_path, x=real), output=tmp_path / "arrays.npz")
    with np.load(tmp_path / "images.npz") as left, np.load(tmp_path / "arrays.npz") as right:
        assert np.array_equal(left["y"], right["y"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X}, "no array 'x'"),
        ({"x": X.transpose(0, 2, 3, 1)}, r"has the shape \[6, 8, 8, 3\], expected \[n, 3, 8, 8\]"),
        ({"x": X[:0]}, "holds no samples. Give at least one input sample."),
        ({"x": X.astype(np.int64)}, "'x' is int64, the model takes float32"),
        ({"x": np.full_like(X, np.nan)}, "sample 0 has NaN in 'x'"),
    ],
)
def test_inputs_that_do_not_fit(build: Path, tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        execute(build, saved(tmp_path, **arrays))


def test_damaged_inputs(build: Path, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_bytes(saved(tmp_path, x=X).read_bytes()[:500])
    with pytest.raises(SamplesError, match=r"not an \.npz file, or a truncated one"):
        execute(build, tmp_path / "in.npz")


def test_arrays_in_python(build: Path) -> None:
    loaded = irshrink.load_build(build)
    one, batched = loaded({"x": X[0]})["y"], loaded({"x": X[:1].astype(np.float64)})["y"]
    assert one.shape == (1, 4, 6, 6)
    assert one.dtype == np.float32
    assert np.array_equal(one, batched)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "no array for the input 'x'; given: none"),
        ({"X": X}, "no array for the input 'x'; given: 'X'"),
        ({"x": X}, r"takes the shape \[1, 3, 8, 8\], the array has \[6, 3, 8, 8\]"),
        ({"x": X[0].transpose(1, 2, 0)}, r"the array has \[8, 8, 3\]"),
        ({"x": X[0] * np.float32(np.nan)}, "input 'x' holds NaN"),
        ({"x": X[0].astype(str)}, "input 'x' takes float32, the array is <U"),
        ({"x": "a"}, r"the array has \[\]"),
    ],
)
def test_arrays_that_do_not_fit(build: Path, feeds: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        irshrink.load_build(build)(feeds)


def test_folders_that_are_no_builds(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a folder that `irshrink compile` wrote \(no report.json\)"):
        irshrink.load_build(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(build, copy)
    shutil.copy(build.parent / "conv.onnx", copy / "model.onnx")
    with pytest.raises(UserError, match=r"model\.onnx: is not the model that was compiled there"):
        irshrink.load_build(copy)
    for text in ("{", "[]", "{}"):
        (copy / "report.json").write_text(text)
        with pytest.raises(UserError, match=r"its report\.json is damaged or of another version"):
            irshrink.load_build(copy)


def test_mismatches_count_bytes() -> None:
    left, right = np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    assert mismatches([[left]], [[left]]) == (12, 0)
    assert mismatches([[left]], [[right]]) == (12, 1)
