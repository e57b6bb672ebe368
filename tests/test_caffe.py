"""Caffe networks: what the reader computes, against Caffe's rules and OpenCV's importer, and refusals."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from irshrink import cli
from irshrink.errors import ModelError
from irshrink.frontends.caffe.layers.table import KNOWN
from irshrink.frontends.caffe.reader import files, read
from irshrink.frontends.read import read_model
from irshrink.onnxrt import run, session
from irshrink.testing.caffe import INPUT, layer, rich_network, weights, write
from irshrink.testing.frameworks import OPENCV, answers_of_opencv, needs

Array = NDArray[Any]
CHANNELS, HEIGHT, WIDTH = 4, 9, 7


def computed(folder: Path, layers: str, blobs: dict[str, list[Array]], x: Array) -> dict[str, Array]:
    """Outputs of ``layers`` on one image ``data`` [1, 4, 9, 7]."""
    path = write(folder, INPUT % (CHANNELS, HEIGHT, WIDTH) + layers, blobs)
    return run(session(read(path, {})), {"data": x})


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(1).normal(size=(1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32)


def pooled(x: Array, kernel: int, stride: int, pad: int, method: str) -> Array:
    """Pooling as caffe/src/caffe/layers/pooling_layer.cpp computes it, loop by loop."""
    _, _, height, width = x.shape
    out = [ceil((size + 2 * pad - kernel) / stride) + 1 for size in (height, width)]
    if pad:
        out = [o - ((o - 1) * stride >= size + pad) for o, size in zip(out, (height, width), strict=True)]
    y = np.zeros((*x.shape[:2], *out), np.float32)
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * stride - pad, j * stride - pad
            bottom, right = min(top + kernel, height + pad), min(left + kernel, width + pad)
            count = (bottom - top) * (right - left)
            part = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            y[:, :, i, j] = part.max((2, 3)) if method == "MAX" else part.sum((2, 3)) / count
    return y


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (4, 3, 2), (5, 1, 2), (2, 3, 1), (6, 5, 3)],
)
def test_pooling_rounds_as_caffe_does(
    method: str, kernel: int, stride: int, pad: int, x: Array, tmp_path: Path
) -> None:
    parameters = f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    y = computed(tmp_path, layer("pool", "Pooling", "data", "pool", parameters), {}, x)["pool"]
    np.testing.assert_allclose(y, pooled(x, kernel, stride, pad, method), rtol=1e-5, atol=1e-6)


ELEMENTWISE = [
    ("ReLU", "relu_param { negative_slope: 0.1 }", lambda x: np.where(x > 0, x, 0.1 * x)),
    ("ReLU6", "", lambda x: np.clip(x, 0, 6)),
    ("Clip", "clip_param { min: -0.5 max: 0.5 }", lambda x: np.clip(x, -0.5, 0.5)),
    ("AbsVal", "", np.abs),
    ("BNLL", "", lambda x: np.log1p(np.exp(x))),
    ("ELU", "elu_param { alpha: 0.5 }", lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    ("Power", "power_param { power: 3 scale: 2 shift: 1 }", lambda x: (1 + 2 * x) ** 3),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", lambda x: 2 ** (1 + 0.5 * x)),
    ("Log", "log_param { base: 10 scale: 0.1 shift: 2 }", lambda x: np.log10(2 + 0.1 * x)),
    ("Softmax", "", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", lambda x: x.transpose(0, 2, 3, 1)),
    ("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }",
     lambda x: x.reshape(1, 2, 2, 9, 7)),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: -1 } }", lambda x: x.reshape(1, 4, 63)),
    ("Flatten", "flatten_param { axis: 2 }", lambda x: x.reshape(1, 4, 63)),
    ("Tile", "tile_param { axis: 1 tiles: 2 }", lambda x: np.tile(x, (1, 2, 1, 1))),
    ("Dropout", "", lambda x: x),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"), ELEMENTWISE, ids=lambda v: v if isinstance(v, str) else ""
)
def test_layers_without_weights(kind: str, parameters: str, expected: Any, x: Array, tmp_path: Path) -> None:
    y = computed(tmp_path, layer("it", kind, "data", "y", parameters), {}, x)["y"]
    np.testing.assert_allclose(y, expected(x), rtol=1e-4, atol=1e-5)


def test_local_response_within_a_channel(x: Array, tmp_path: Path) -> None:
    parameters = "lrn_param { local_size: 3 alpha: 2 beta: 0.75 norm_region: WITHIN_CHANNEL }"
    y = computed(tmp_path, layer("lrn", "LRN", "data", "y", parameters), {}, x)["y"]
    expected = x / (1 + 2 * pooled(x * x, 3, 1, 1, "AVE")) ** 0.75
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_operands_of_scale_and_bias(x: Array, tmp_path: Path) -> None:
    gate = layer("gate", "Pooling", "data", "gate", "pooling_param { pool: AVE global_pooling: true }")
    flat = layer("flat", "Reshape", "gate", "flat", "reshape_param { shape { dim: 0 dim: 0 } }")
    scaled = layer("scale", "Scale", "data flat", "y", "scale_param { axis: 0 bias_term: true }")
    offset = np.array(3, np.float32).reshape(1)
    added = layer("plus", "Bias", "y", "z", "bias_param { num_axes: 0 }")
    bias = np.arange(CHANNELS, dtype=np.float32)
    blobs = {"scale": [bias], "plus": [offset]}
    z = computed(tmp_path, gate + flat + scaled + added, blobs, x)["z"]
    mean = x.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(z, x * mean + bias[:, None, None] + 3, rtol=1e-4, atol=1e-5)


def test_inner_products_of_more_axes(x: Array, tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(WIDTH, 3)).astype(np.float32)
    parameters = "inner_product_param { num_output: 3 axis: 3 transpose: true bias_term: false }"
    y = computed(tmp_path, layer("ip", "InnerProduct", "data", "y", parameters), {"ip": [w]}, x)["y"]
    np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-5)


def test_old_spelling_and_rules(x: Array, tmp_path: Path) -> None:
    """Layers as an enumeration, inputs with four numbers, a batch, and layers for training only."""
    text = f"""
        name: "old" input: "data" input_dim: 10 input_dim: {CHANNELS} input_dim: {HEIGHT} input_dim: {WIDTH}
        layers {{ name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1
                  convolution_param {{ num_output: 2 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
        layers {{ name: "relu" type: RELU bottom: "conv" top: "conv" }}
        layers {{ name: "loss" type: SOFTMAX_LOSS bottom: "conv" include {{ phase: TRAIN }} }}
        layers {{ name: "none" type: SILENCE bottom: "data" }}
    """
    w, b = np.ones((2, CHANNELS, 1, 1), np.float32), np.array([0.5, -0.5], np.float32)
    path = write(tmp_path, text, {})
    path.with_suffix(".caffemodel").write_bytes(weights({"conv": [w, b]}, old=True))
    y = run(session(read(path, {})), {"data": x})["conv"]
    expected = np.maximum(x.sum(1, keepdims=True) + b[None, :, None, None], 0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_outputs_are_blobs_that_nobody_reads(x: Array, tmp_path: Path) -> None:
    text = layer("split", "Split", "data", "a b") + layer("relu", "ReLU", "b", "b")
    outputs = computed(tmp_path, text, {}, x)
    assert set(outputs) == {"a", "b"}
    np.testing.assert_array_equal(outputs["a"], x)


def test_names_of_layers_reach_the_module(tmp_path: Path) -> None:
    path = write(tmp_path, *rich_network(np.random.default_rng(0)))
    module, imported = read_model(path)
    names = [str(node.name) for node in module.graph]
    assert {"conv1", "bn1", "pool2/Pad", "pool2/AveragePool", "prob"} <= set(names)
    assert imported.files == (path, path.with_suffix(".caffemodel"))
    assert not imported.versions
    assert read_model(path.with_suffix(".caffemodel"))[0].to_proto() == module.to_proto()


def test_shapes_are_those_of_onnx(tmp_path: Path) -> None:
    proto = read(write(tmp_path, *rich_network(np.random.default_rng(0))), {})
    told = {info.name: info.type for info in (*proto.graph.value_info, *proto.graph.output)}
    del proto.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    assert {info.name: info.type for info in (*inferred.value_info, *inferred.output)} == told


@needs(OPENCV)
def test_same_numbers_as_opencv(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = write(tmp_path, *rich_network(rng))
    x = rng.normal(size=(4, 3, 19, 17)).astype(np.float32)
    opened = session(read(path, {}))
    y = np.concatenate([run(opened, {"data": sample[None]})["prob"] for sample in x])
    np.testing.assert_allclose(y, answers_of_opencv(path, x, tmp_path), rtol=1e-4, atol=1e-6)


GOOD = INPUT % (4, 9, 7)
CONV = "convolution_param { num_output: 2 kernel_size: 3 }"


def one(kind: str, parameters: str, name: str = "it") -> str:
    """A network of one layer."""
    return GOOD + layer(name, kind, "data", "y", parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "net.prototxt: has no layers. Give the deploy.prototxt"),
        ("layer {", "not a network description of Caffe: line 1"),
        ("\x00\xff", "not a network description of Caffe"),
        (one("Mystery", "") + layer("b", "Odd", "y", "z"), "'it' (Mystery), 'b' (Odd). Replace"),
        (layer("d", "ImageData", "", "data"), "'d' (ImageData). Give the deploy.prototxt, which has"),
        (one("ReLU", "relu_param { slope: 1 }"), "irshrink does not know: line 1: "),
        (GOOD + layer("r", "ReLU", "other", "y"), "layer 'r' (ReLU) reads 'other', which no layer before it"),
        (GOOD + layer("r", "ReLU", "data data", "y"), "layer 'r' (ReLU) cannot have 2 inputs"),
        (GOOD + layer("r", "ReLU", "data", "y z"), "layer 'r' (ReLU) gives 1 blobs, the network names 2"),
        (one("Convolution", CONV), "layer 'it' (Convolution) has no weights in the .caffemodel"),
        (one("Convolution", CONV, "w"), "have the shape [2, 3, 3, 3], the network needs [2, 4, 3, 3]"),
        (one("Convolution", ""), "'it' (Convolution): kernel_size has 0 numbers"),
        (one("Pooling", "pooling_param { pool: STOCHASTIC }"), "stochastic pooling is random"),
        (one("Pooling", "pooling_param { kernel_size: 10 }"), "has nothing to look at in 9 pixels"),
        (one("Pooling", ""), "kernel, stride or padding makes no sense"),
        (one("Flatten", "flatten_param { axis: 7 }"), "[1, 4, 9, 7] has no axis 7"),
        (one("Tile", "tile_param { tiles: 9000000000 }"), "too large for any device"),
        (one("Slice", "slice_param { slice_point: 9 }"), "cannot be cut into 1 so"),
        (one("Reshape", "reshape_param { shape { dim: 5 } }"), "does not fit into [5]"),
        (one("BatchNorm", "batch_norm_param { use_global_stats: false }"), "statistics on the batch"),
        (one("Eltwise", "eltwise_param { coeff: 1 coeff: 2 }"), "1 inputs, 2 coefficients"),
        (INPUT % (4, 1 << 40, 7) + layer("r", "ReLU", "data", "y"), "input 'data' has the shape"),
        (INPUT % (4, 0, 7) + layer("r", "ReLU", "data", "y"), "an input has the shape [1, 4, 0, 7]"),
        (GOOD, "the network has no output"),
    ],
)
def test_refusals(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text, {"w": [np.zeros((2, 3, 3, 3), np.float32)]})
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        read(path, {})
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no layers"),
        (b"\xa2\x06\xff\xff\xff\xff\x7f", "not a .caffemodel, or a truncated one"),
        (weights({"w": [np.zeros(6, np.float32)]})[:-3], "not a .caffemodel, or a truncated one"),
    ],
)
def test_damaged_weights(data: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + layer("r", "ReLU", "data", "y"), {})
    path.with_suffix(".caffemodel").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read(path, {})


def test_where_the_other_file_is(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + layer("r", "ReLU", "data", "y"), {"r": []}, name="deploy")
    elsewhere = path.with_suffix(".caffemodel").rename(tmp_path / "trained.caffemodel")
    assert files(path, {}) == (path, elsewhere)  # the only one there
    (tmp_path / "more.caffemodel").touch()
    with pytest.raises(
        ModelError, match=r"not in 'deploy\.caffemodel'. Give --frontend weights=net\.caffemodel"
    ):
        files(path, {})
    assert files(path, {"weights": str(elsewhere)}) == (path, elsewhere)
    with pytest.raises(ModelError, match="no such file"):
        files(path, {"weights": str(tmp_path / "none")})


def test_a_build_says_what_it_was_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Report and lock name the format and both files; a replay wants the same weights."""
    text = GOOD + layer("c", "Convolution", "data", "c", CONV) + layer("r", "ReLU", "c", "c")
    blobs = {"c": [np.ones((2, 4, 3, 3), np.float32), np.zeros(2, np.float32)]}
    path = write(tmp_path / "net", text, blobs)
    (tmp_path / "elsewhere.caffemodel").write_bytes(path.with_suffix(".caffemodel").read_bytes())
    build, again = tmp_path / "build", tmp_path / "again"
    assert cli.run(["compile", str(path), "-t", "cortex-m4", "-o", str(build)]) == 0
    report = json.loads((build / "report.json").read_text("utf-8"))
    assert report["model"]["format"] == "Caffe"
    assert report["model"]["bytes"] == sum(file.stat().st_size for file in files(path, {}))
    assert ["c", "r"] in [row["origin"] for row in report["layers"]]
    weights_option = ["--frontend", f"weights={tmp_path / 'elsewhere.caffemodel'}"]
    replay = ["compile", str(path), "-r", str(build / "recipe.lock"), *weights_option, "-o", str(again)]
    assert cli.run(replay) == 0
    assert (again / "recipe.lock").read_bytes() == (build / "recipe.lock").read_bytes()
    blobs["c"][0][0, 0, 0, 0] = 2
    (tmp_path / "elsewhere.caffemodel").write_bytes(weights(blobs))
    assert cli.run(replay) == 1
    assert "belongs to a model with SHA-256" in capsys.readouterr().err


#: What a damaged or hostile description may say in place of a number.
ODD = (
    "-1",
    "0",
    "7",
    "99999999999",
    "9223372036854775807",
    "-9223372036854775808",
    "1e39",
    "nan",
    '""',
    "MAX",
)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_networks_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    """Numbers, layer types, lines and bytes of the weights changed at random: a sentence at worst."""
    rng = random.Random(seed)
    text, blobs = rich_network(np.random.default_rng(0))
    data = weights(blobs)
    for _ in range(25):
        lines, spoiled = text.split("\n"), bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(lines))
            if rng.random() < 0.3:
                lines[at] = re.sub(r'type: "\w+"', f'type: "{rng.choice(KNOWN)}"', lines[at])
            numbers = list(re.finditer(r"(?<=: )-?[\d.]+", lines[at]))
            if numbers and rng.random() < 0.6:
                number = rng.choice(numbers)
                lines[at] = lines[at][: number.start()] + rng.choice(ODD) + lines[at][number.end() :]
            if rng.random() < 0.2:
                lines.insert(rng.randrange(len(lines)), lines.pop(at))
            if rng.random() < 0.3:
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        path = write(tmp_path, "\n".join(lines), {})
        path.with_suffix(".caffemodel").write_bytes(bytes(spoiled))
        with suppress(ModelError):
            read(path, {})
