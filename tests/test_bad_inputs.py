"""Everything a user can get wrong: one clear sentence, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from irshrink import cli

CONV = (
    "g (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { c = Conv <pads = [0, 0, 0, 0]> (x, w)  y = Relu (c) }"
)
DENSE = "g (float[1, 3, 8, 8] x) => (float[1, 3] y) { f = Flatten (x)  y = MatMul (f, v) }"
WEIGHTS = {"w": (4, 3, 3, 3), "v": (192, 3)}


def model(text: str, opset: int = 20, **weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A graph in ONNX's syntax; ``w`` and ``v`` are made up where they are read and not given."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "mine" : 1]> {text}')
    read = {name for node in proto.graph.node for name in node.input}
    rng = np.random.default_rng(0)
    made = {n: rng.normal(0, 0.4, shape).astype(np.float32) for n, shape in WEIGHTS.items() if n in read}
    for name, values in {**made, **weights}.items():
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


def spoiled(value: float) -> np.ndarray[Any, Any]:
    weights = np.ones((4, 3, 3, 3), np.float32)
    weights[2, 1, 0, 0] = value
    return weights


def unnamed_outputs() -> onnx.ModelProto:
    proto = model(CONV)
    del proto.graph.output[:]
    return proto


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "conv": lambda: model(CONV),
    "dense": lambda: model(DENSE),
    "open": lambda: model(CONV.replace("1, 3, 8, 8", "N, 3, H, 8").replace("[1, 4, 6, 6]", "[N, 4, h, 6]")),
    "nan": lambda: model(CONV, w=spoiled(np.nan)),
    "infinite": lambda: model(CONV, w=spoiled(np.inf)),
    "channels": lambda: model(CONV.replace("[1, 3, 8, 8] x", "[1, 5, 8, 8] x")),
    "attribute": lambda: model(CONV.replace("pads = [0, 0, 0, 0]", "strides = [1, 1, 1]")),
    "undefined": lambda: model(CONV.replace("Relu (c)", "Relu (d)")),
    "unordered": lambda: model("g (float[2] x) => (float[2] y) { a = Relu (b)  b = Relu (a)  y = Relu (b) }"),
    "outputs": unnamed_outputs,
    "inputs": lambda: model("g () => (float[192, 3] y) { y = Relu (v) }"),
    "newer": lambda: model(CONV, opset=99),
    "unsupported": lambda: model(
        "g (float[1, 4, 4] x, float[1, 1, 2] l) => (float[1] y, float[1, 1, 1, 2] z)"
        '{ y = Det (x)  z = LSTM <hidden_size = 2, activations = ["Softsign", "Tanh", "Tanh"]> (l, a, b) }',
        a=np.ones((1, 8, 2), np.float32),
        b=np.ones((1, 8, 2), np.float32),
    ),
    "complex": lambda: model("g (complex64[1, 3] x) => (complex64[1, 3] y) { y = Identity (x) }"),
    "string": lambda: model("g (string[1, 3] x) => (string[1, 3] y) { y = Identity (x) }"),
    "empty-input": lambda: model("g (float[1, 0] x) => (float[1, 0] y) { y = Relu (x) }"),
    "undefined-values": lambda: model("g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) { y = Sqrt (x) }"),
    "two": lambda: model("g (float[1, 3, 8, 8] x, float[1] z) => (float[1, 3, 8, 8] y) { y = Mul (x, z) }"),
    "quantized": lambda: model(
        "g (float[1, 3] x) => (float[1, 3] y) {q = QuantizeLinear (x, s, o) y = DequantizeLinear (q, s, o)}",
        s=np.array(0.1, np.float32),
        o=np.array(0, np.int8),
    ),
}  # fmt: skip

X = np.random.default_rng(1).normal(0, 1, (10, 3, 8, 8)).astype(np.float32)


def changed(value: float, dtype: str = "f4") -> np.ndarray[Any, Any]:
    samples = X.astype(dtype)
    samples[3, 0, 0, 0] = value
    return samples


ARRAYS: dict[str, dict[str, Any]] = {
    "good": {"x": X},
    "good3": {"x": X[:, 0, 0, :3]},
    "labelled": {"x": X, "y": np.arange(10) % 3},
    "shape": {"x": X.transpose(0, 2, 3, 1)},
    "one": {"x": X[0]},
    "name": {"X": X},
    "dtype": {"x": X.astype(np.int64)},
    "complex": {"x": X.astype(np.complex64)},
    "text": {"x": np.array(["a"] * 10)},
    "nan": {"x": changed(np.nan)},
    "inf": {"x": changed(-np.inf)},
    "huge": {"x": changed(1e300, "f8")},
    "none": {"x": X[:0]},
    "constant": {"x": np.full_like(X, 0.5)},
    "same": {"x": np.repeat(X[:1], 5, axis=0)},
    "extra": {"x": X, "q": X},
    "labels-9": {"x": X, "y": np.arange(9)},
    "labels-float": {"x": X, "y": np.arange(10.0)},
    "labels-onehot": {"x": X, "y": np.eye(10, dtype=int)},
    "labels-negative": {"x": X, "y": np.arange(10) - 5},
    "labels-large": {"x": X, "y": np.arange(10)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the tests name."""
    folder = tmp_path_factory.mktemp("bad")
    for name, make in MODELS.items():
        onnx.save(make(), folder / f"{name}.onnx")
    for name, arrays in ARRAYS.items():
        np.savez(folder / f"{name}.npz", **arrays)
    _damaged_files(folder)
    _external_data(folder)
    _images(folder)
    (folder / "thesis").mkdir()
    (folder / "thesis" / "thesis.tex").touch()
    return folder


def _damaged_files(folder: Path) -> None:
    good = (folder / "conv.onnx").read_bytes()
    (folder / "truncated.onnx").write_bytes(good[: len(good) // 2])
    (folder / "empty.onnx").touch()
    (folder / "text.onnx").write_text("I am no model\n" * 20)
    (folder / "folder.onnx").mkdir()
    good = (folder / "good.npz").read_bytes()
    middle = len(good) // 2
    (folder / "truncated.npz").write_bytes(good[:middle])
    (folder / "flipped.npz").write_bytes(good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :])
    (folder / "words.npz").write_text("I am no archive")
    np.save(folder / "array.npy", X)


def _external_data(folder: Path) -> None:
    for name in ("missing", "short"):
        place = {"save_as_external_data": True, "location": f"{name}.bin", "size_threshold": 0}
        onnx.save(model(CONV), folder / f"{name}.onnx", **place)
    (folder / "missing.bin").unlink()
    (folder / "short.bin").write_bytes(b"\0" * 100)


def _images(folder: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (4, 8, 8, 3), np.uint8)
    for name in ("photos", "corrupt", "unlabelled", "larger"):
        (folder / name).mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image).resize((9, 9) if name == "larger" else (8, 8)).save(
                folder / name / f"{number}.png"
            )
    Image.fromarray(pixels[0]).save(folder / "photo.jpg")
    (folder / "corrupt" / "4.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:120])
    (folder / "unlabelled" / "labels.csv").write_text("file,label\n0.png,1\n1.png,cat\n")
    (folder / "no-photos").mkdir()


def refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    code: int = 1,
) -> str:
    """The message of a command that must fail, and leave everything as it was."""
    monkeypatch.chdir(folder)
    before = sorted(str(path) for path in folder.rglob("*"))
    assert cli.run(list(arguments)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.endswith((".\n", "?\n"))
    assert "Traceback" not in printed.err
    assert sorted(str(path) for path in folder.rglob("*")) == before
    return printed.err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.onnx", "none.onnx: no such file. Give the path of a model."),
        ("folder.onnx", "folder.onnx: is a folder without 'saved_model.pb'. Give the path of a model: "),
        ("truncated.onnx", "truncated.onnx: not a readable ONNX model (truncated download, or another"),
        ("text.onnx", "text.onnx: not a readable ONNX model"),
        ("photo.jpg", "photo.jpg: not a readable ONNX model"),
        ("empty.onnx", "empty.onnx: not an ONNX model, or one without any node."),
        ("missing.onnx", "the weights of 'w' are in 'missing.bin', which is not beside the model."),
        ("short.onnx", "'short.bin' has 100 bytes, but 'w' ends at 432."),
        ("open.onnx", "input 'x' has the dynamic shape [N, 3, H, 8]. Give its sizes: --shape x=1,3,H,8 with"),
        ("nan.onnx", "nan.onnx: 'w', which Conv 'c' reads, holds NaN."),
        ("infinite.onnx", "infinite.onnx: 'w', which Conv 'c' reads, holds infinity."),
        ("attribute.onnx", "contradict each other at Conv: Attribute strides has incorrect size"),
        ("channels.onnx", "channels.onnx: these nodes cannot run on the target:\n  Conv 'c': 5 channels"),
        ("undefined.onnx", "breaks the ONNX specification: Nodes in a graph must be topologically sorted, "
                           "however input 'd' of node: name: OpType: Relu"),
        ("unordered.onnx", "must be topologically sorted, however input 'b' of node"),
        ("outputs.onnx", "the model has no outputs."),
        ("inputs.onnx", "the model has no inputs"),
        ("newer.onnx", "opset 99 is newer than what the installed onnx"),
        ("unsupported.onnx", "these nodes cannot run on the target:\n  Det 'y': there is no kernel for it. "),
        ("unsupported.onnx", "LSTM 'z': there is no kernel for its activation Softsign. Use Sigmoid"),
        ("complex.onnx", "input 'x' is COMPLEX64"),
        ("string.onnx", "input 'x' is STRING"),
        ("empty-input.onnx", "input 'x' of shape [1, 0] is empty. Give it a size."),
        ("undefined-values.onnx", "output 'y' is NaN on random inputs, so the build could not be checked."),
    ],
)  # fmt: skip
def test_models(
    file: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compile", file, "-t", "cortex-m4", "-o", "new/out")
    assert message in refused(folder, monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "nothing.npz",
            "nothing.npz: no such file or folder. Give the calibration data as .npz or .csv, or as a folder",
        ),
        ("words.npz", "words.npz: not an .npz file, or a truncated one."),
        ("array.npy", "array.npy: not an .npz file"),
        ("truncated.npz", "truncated.npz: not an .npz file, or a truncated one."),
        ("flipped.npz", "flipped.npz: the file is damaged or truncated. Copy or write it again."),
        ("shape.npz", "'x' has the shape [10, 8, 8, 3], expected [n, 3, 8, 8] (the first axis counts"),
        ("one.npz", "'x' has the shape [3, 8, 8], expected [n, 3, 8, 8]"),
        ("name.npz", "no array 'x'; arrays are named like the model's inputs. Known: X."),
        ("dtype.npz", "'x' is int64, the model takes float32, and the conversion could change values."),
        ("complex.npz", "array 'x' is of dtype complex64; numbers are needed."),
        ("text.npz", "array 'x' is of dtype <U1; numbers are needed."),
        ("nan.npz", "nan.npz: sample 3 has NaN in 'x'. Remove or mend that sample."),
        ("inf.npz", "inf.npz: sample 3 has infinity in 'x'."),
        ("huge.npz", "huge.npz: sample 3 has infinity in 'x'."),
        ("none.npz", "none.npz: holds no samples. Give at least one calibration sample."),
        ("constant.npz", "constant.npz: every value of every sample is 0.5. Give real calibration samples."),
        ("same.npz", "same.npz: all 5 samples are the same."),
        ("extra.npz", "array 'q' is neither an input of the model ('x') nor the labels 'y'. Leave it out."),
        ("labels-9.npz", "labels 'y' have the shape [9], expected [10]"),
        ("labels-float.npz", "'y': 3 numbers with 1. Class indices are integers"),
        ("labels-onehot.npz", "labels 'y' have the shape [10, 10], expected [10]: one class index"),
        ("labels-negative.npz", "sample 0 has the label -5"),
        ("labels-large.npz", "label 9, but the model has 3 classes, 0..2."),
        ("photos", "photos: how images become the input 'x' is not declared. Give at least mean and std"),
    ],
)
def test_calibration(
    file: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compile", "dense.onnx", "-t", "host", "-c", file, "-o", "out")
    assert message in refused(folder, monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("photos", "mean=127", "images needs std; value = (pixel * scale - mean) / std."),
        ("photos", "mean=127 std=0", "std is 0; values are divided by it."),
        ("photos", "mean=nan std=1", "mean, std and scale must be finite numbers."),
        ("photos", "mean=1,2 std=1", "mean has 2 numbers; give one, or one for each of the 3 channels."),
        ("photos", "men=1 std=1", "images has no option 'men'. Did you mean 'mean'?"),
        ("photos", "mean=1 std=1 resize=crp", "images.resize: 'crp' is not known. Did you mean 'crop'?"),
        ("photos", "mean=1 std=1 channels=gray", "channels = 'gray', but the input has 3 channels."),
        ("corrupt", "mean=1 std=1", "corrupt/4.jpg: not a readable image"),
        ("no-photos", "mean=1 std=1", "no-photos: holds no images"),
        ("larger", "mean=1 std=1", "larger/0.png: is 9x9, the input is 8x8. Declare resize"),
        ("unlabelled", "mean=1 std=1", "labels.csv: line 3 is not 'file,label' with an integer label."),
    ],
)
def test_images(
    file: str,
    options: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = [argument for option in options.split() for argument in ("--image", option)]
    arguments = ("compile", "conv.onnx", "-t", "host", "-c", file, *images, "-o", "out")
    assert message in refused(folder, monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("quantized.onnx -c good3.npz", "the model is quantized already"),
        ("two.onnx -c good.npz", "good.npz: no array 'z'"),
        ("conv.onnx -c labelled.npz", "has labels, but the model's outputs are not one vector of scores."),
        ("undefined-values.onnx -c good.npz", "output 'y' of the float model is NaN on sample 0."),
        ("conv.onnx --keep-float conv", "keep_float: nothing is quantized here."),
        ("conv.onnx -c good.npz --keep-float cnv", "keep_float: no node is named or is a 'cnv'."),
        ("conv.onnx --verify", "--verify needs data to measure with. Give --eval or --calibration."),
        ("conv.onnx --max-drop 1%", "--max-drop needs data to measure with."),
        ("conv.onnx --quantize int8", "needs calibration data. Give --calibration samples.npz."),
        ("conv.onnx --quantize int4", "'int4' is not one of 'int8', 'w4a8'"),
        ("conv.onnx --qantize int8", "Did you mean one of: '--max-size', '--quantize', '--requantize'?"),
        ("conv.onnx --flash lots", "flash: 'lots' is not a size. Write bytes or a unit: 65536, 64K, 1M."),
        ("conv.onnx --ram 0", "ram is 0; it must be a positive number of bytes."),
        ("conv.onnx --test-inputs 0", "at least one input must be tested."),
        ("conv.onnx --shape q=1", "--shape: the model has no input 'q'. Known: x."),
        ("conv.onnx --shape x=1,3,9,9", "--shape x=1,3,9,9 contradicts the shape [1, 3, 8, 8] in conv.onnx."),
        ("open.onnx --shape x=1,3,0,8", "every dimension must be positive."),
        ("open.onnx --shape x=1,3,2,8", "Conv 'c': its output 'c' of shape [1, 4, 0, 6] has 0 elements."),
        ("conv.onnx more", "Got unexpected extra argument (more). See `irshrink compile --help`."),
    ],
)
def test_options(
    arguments: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("compile", *arguments.split(), "-t", "host", "-o", "out")
    assert message in refused(folder, monkeypatch, capsys, *command)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--flash 1K", "flash: code and weights take "),
        ("--ram 1K", "In use at once: x"),
        ("--ram 800", "more than the 800 of --ram 800"),
        ("--flash 1K", "more than the 1,024 of --flash 1K. The largest layers"),
    ],
)
def test_budgets(
    arguments: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("compile", "conv.onnx", "-t", "cortex-m4", *arguments.split(), "-o", "new/out")
    assert message in refused(folder, monkeypatch, capsys, *command, code=2)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("thesis", "thesis: holds 'thesis.tex' and is not an earlier irshrink build"),
        ("good.npz", "good.npz: is not a folder. Choose another one with -o."),
        ("good.npz/build", "good.npz' is not a folder."),
        ("/proc/irshrink/build", "/proc/irshrink/build: cannot be written"),
    ],
)
def test_output_folders(
    out: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(folder, monkeypatch, capsys, "compile", "conv.onnx", "-t", "host", "-o", out)


def test_a_folder_without_permission(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)  # root may write anywhere
    command = ("compile", "conv.onnx", "-t", "host", "-o", "locked/out")
    assert f"locked/out: no permission to write in '{folder}'." in refused(
        folder, monkeypatch, capsys, *command
    )


RECIPES = {
    'calibraton = "good.npz"': "unknown key 'calibraton'. Did you mean 'calibration'?",
    'target = "host': "recipe.toml: not valid TOML",
    'seed = "one"': "recipe.toml: seed: Expected `int`, got `str`.",
    'io = "flaot"': "recipe.toml: io: 'flaot' is not known. Did you mean 'float'?",
    "flash = -5": "flash is -5",
    '[[steps]]\npass = "quantize-in8"': "unknown pass 'quantize-in8'. Did you mean 'quantize-int8'?",
    '[[steps]]\npass = "quantize-int8"\nmethd = "mse"': "has no option 'methd'. Did you mean 'method'?",
    '[[steps]]\npass = "quantize-int8"\nmethod = "msi"': "method: 'msi' is not known. Did you mean 'mse'?",
    '[[steps]]\nname = "quantize-int8"': 'names no pass. Write pass = "name"',
    '[[steps]]\npass = "quantize-int8"': "quantize-int8 needs calibration data.",
    'keep_float = ["c"]\n[[steps]]\npass = "fold-pad"': "steps replace what quantize and keep_float stand",
    "lock = 1": "not a lock of this version of irshrink. Object missing required field `model_sha256`.",
}


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text.replace("\n", " "))
def test_recipes(
    text: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    command = ("compile", "conv.onnx", "-t", "host", "-r", str(recipe), "-o", "out")
    assert RECIPES[text] in refused(folder, monkeypatch, capsys, *command)
