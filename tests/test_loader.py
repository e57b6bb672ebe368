"""irshrink_model.py of a package, and large constants as bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from irshrink import load_build
from irshrink.backends.package import files as package_files
from irshrink.backends.package.blob import blob_files, joined
from irshrink.backends.toolchain import zig
from irshrink.backends.tvm import weights
from irshrink.compiler import compile_model
from irshrink.ports import encode_inputs
from irshrink.recipe import Recipe
from irshrink.target import load_target
from irshrink.testing.loader import loader_of

MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loader") / "build"
    recipe = Recipe(target="host", calibration=str(MODELS / "kws-samples.npz"), test_inputs=1)
    compile_model(MODELS / "kws.onnx", recipe, out)
    return out


def test_the_loader_gives_what_the_build_gives(build: Path) -> None:
    module = loader_of(build)
    model = module.Model()
    x = np.load(MODELS / "kws-samples.npz")["input"][0:1].astype(np.float32)
    ours = load_build(build)({"input": x})
    theirs = model.run({"input": x})
    assert list(theirs) == list(ours)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
    [stored] = encode_inputs(load_build(build).program, {"input": x})
    [raw] = model.run_bytes([stored.tobytes()])
    port = module.OUTPUTS[0]
    decoded = (np.frombuffer(raw, port.dtype).astype(np.float32) - port.zero_point) * np.float32(port.scale)
    np.testing.assert_array_equal(decoded.reshape(port.shape), theirs[port.name])


def test_the_loader_refuses_in_sentences(build: Path, tmp_path: Path) -> None:
    module = loader_of(build)
    model = module.Model()
    x = np.zeros(module.INPUTS[0].shape, np.float32)
    for given, message in [
        ({"inptu": x}, "there is no input 'inptu'; the inputs are 'input'."),
        ({}, "input 'input' is missing."),
        ({"input": x[0]}, r"input 'input' has shape \(1, 50, 10, 1\), got \(50, 10, 1\)."),
        ({"input": x.astype(complex)}, "input 'input' takes float32, got complex128."),
    ]:
        with pytest.raises(module.ModelError, match=message):
            model.run(given)
    with pytest.raises(module.ModelError, match=r"input 'input' takes 500 bytes, got 3\."):
        model.run_bytes([b"abc"])
    with pytest.raises(module.ModelError, match="takes 1 inputs, got 0"):
        model.run_bytes([])
    with pytest.raises(module.ModelError, match=r"no such library\. Keep lib/ beside this file"):
        module.Model(tmp_path / "x.so")
    (tmp_path / "x.so").write_bytes(b"no library")
    with pytest.raises(module.ModelError, match="cannot be loaded here, it was built for host"):
        module.Model(tmp_path / "x.so")


def test_the_loader_asks_what_integers_are(build: Path) -> None:
    """The rule of load_build: int8 may be the model's numbers, or stored ones."""
    module = loader_of(build)
    model, ours = module.Model(), load_build(build)
    stored = np.arange(500, dtype=np.int16).reshape(1, 50, 10, 1).astype(np.int8)
    with pytest.raises(module.ModelError, match=r"is int8, .* quantized ones\? .* float32; with stored=True"):
        model.run({"input": stored})
    with pytest.raises(module.ModelError, match=r"is stored as int8, got float32\."):
        model.run({"input": stored.astype(np.float32)}, stored=True)
    wanted = ours({"input": stored}, stored=True)
    for name, value in model.run({"input": stored}, stored=True).items():
        np.testing.assert_array_equal(value, wanted[name])
    pixels = stored.view(np.uint8)
    wanted = ours({"input": pixels})
    for name, value in model.run({"input": pixels}).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_the_loader_needs_nothing_but_python(build: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); sys.modules['numpy'] = None\n"
        "from irshrink_model import INPUTS, Model, ModelError\n"
        "model = Model()\n"
        "print(len(model.run_bytes([bytes(INPUTS[0].nbytes)])[0]))\n"
        "try:\n    model.run({INPUTS[0].name: [0]})\n"
        "except ModelError as e:\n    print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=build, capture_output=True, text=True, check=False
    )
    assert done.stdout == "12\nModel.run() needs NumPy: pip install numpy, or use Model.run_bytes().\n"


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_large_weights_are_linked_as_bytes(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same results, and the package's own files know how to build it."""
    monkeypatch.setattr(weights, "_MOST_TEXT", 1000)
    monkeypatch.setattr(weights, "_MOST_TEXT_BARE_METAL", 1000)
    monkeypatch.setattr(package_files, "_MOST_TEXT", 100)
    out = tmp_path / "build"
    recipe = Recipe(target=target, calibration=str(MODELS / "kws-samples.npz"), test_inputs=2)
    report = compile_model(MODELS / "kws.onnx", recipe, out)
    assert report["emulation"]["mismatched_bytes"] == 0
    assert (out / "src" / "model_weights.bin").stat().st_size > 20_000
    assert len((out / "src" / "model_weights.h").read_text("utf-8")) < 5000
    cc = f"{sys.executable} -m ziglang cc"
    done = subprocess.run(
        ["make", "test", f"HOST_CC={cc}", f"CPU_FLAGS=-mcpu={load_target(target).cpu}"] if target == "host"
        else ["make", "test", f"HOST_CC={cc}"],
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "PASS", done.stderr


def test_parts_of_a_blob_are_aligned() -> None:
    data, offsets = joined({"a": b"123", "b": b"x" * 64, "c": b"y"})
    assert offsets == {"a": 0, "b": 64, "c": 128}
    assert (data[:3], data[64:128], data[128:129], len(data)) == (b"123", b"x" * 64, b"y", 192)


def test_another_blob_is_another_object(tmp_path: Path) -> None:
    """The assembler file names the digest: the compiler's cache would take the old bytes for the new."""
    objects = []
    for value in (b"a", b"b"):
        folder = tmp_path / value.decode()
        folder.mkdir()
        for name, content in blob_files("numbers", value * 100).items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        objects += zig.compile_objects([folder / "numbers.S"], load_target("cortex-a72"), folder)
    assert [value * 100 in o.read_bytes() for value, o in zip((b"a", b"b"), objects, strict=True)] == [
        True
    ] * 2
