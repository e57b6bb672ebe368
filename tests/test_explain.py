"""``irshrink explain``: planted faults are named first, and bad input is told in a sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from irshrink import cli
from irshrink.explain.explain import explain_model
from irshrink.explain.page import render_page
from irshrink.explain.text import render
from irshrink.optimize import optimize_model
from irshrink.registry import make_pass
from irshrink.samples import ImageOptions
from irshrink.testing import faults
from irshrink.testing.nodes import floats, model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
SCHEMA = json.loads((ROOT / "irshrink" / "explain" / "schema.json").read_text("utf-8"))
Array = np.ndarray[Any, np.dtype[Any]]
Change = Callable[[onnx.ModelProto], object]
#: Of the small net, its input in [-1, 1].
SHAPE = (1, 3, 8, 8)


def small_net() -> onnx.ModelProto:
    """Three convolutions, one of them depthwise, and a classifier."""
    weights = {
        "w0": floats(0, 8, 3, 3, 3) / 5,
        "b0": floats(1, 8) / 4,
        "w1": floats(2, 8, 1, 3, 3) / 3,
        "b1": floats(3, 8) / 4,
        "w2": floats(4, 12, 8, 1, 1) / 3,
        "b2": floats(5, 12) / 4,
        "w3": floats(6, 4, 12),
        "b3": floats(7, 4),
    }
    pads = {"pads": [1, 1, 1, 1]}
    return model(
        [
            ("Conv", ("x", "w0", "b0"), "c0", pads),
            ("Relu", ("c0",), "r0", {}),
            ("Conv", ("r0", "w1", "b1"), "c1", {**pads, "group": 8}),
            ("Relu", ("c1",), "r1", {}),
            ("Conv", ("r1", "w2", "b2"), "c2", {}),
            ("Relu", ("c2",), "r2", {}),
            ("GlobalAveragePool", ("r2",), "p", {}),
            ("Flatten", ("p",), "f", {}),
            ("Gemm", ("f", "w3", "b3"), "y", {"transB": 1}),
        ],
        SHAPE,
        weights,
    )


def images(count: int) -> Array:
    """Noise around a colour of each image's own, in [-1, 1]."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(-0.8, 0.8, (count, 3, 1, 1))
    return np.clip(colours + rng.normal(0, 0.4, (count, *SHAPE[1:])), -1, 1).astype(np.float32)


class Bench:
    """The small net, quantized, and samples for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = small_net()
        self.floats = self.save(self.net, "float")
        self.x = images(16)
        self.samples = self.write(self.x)

    def save(self, proto: onnx.ModelProto, name: str) -> Path:
        onnx.save(proto, self.folder / f"{name}.onnx")
        return self.folder / f"{name}.onnx"

    def write(self, x: Array, name: str = "samples", **more: Array) -> Path:
        arrays = {"x": x.astype(np.float32), **more}
        np.savez(self.folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        return self.folder / f"{name}.npz"

    def quantize(self, model: Path | None = None, samples: Path | None = None, **options: Any) -> Path:
        out = self.folder / "int8.onnx"
        steps = [make_pass("quantize-int8", {"method": "minmax", **options})]
        optimize_model(model or self.floats, out, steps, calibration=samples or self.samples)
        return out

    def faulty(self, plant: Change, **options: Any) -> Path:
        proto = onnx.load(self.quantize(**options))
        plant(proto)
        return self.save(proto, "faulty")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def checked(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result that fits the schema, whose recipes are recipes, and that can be shown."""
    plain: Mapping[str, Any] = json.loads(json.dumps(result))
    jsonschema.Draft202012Validator(SCHEMA).validate(plain)
    for cause in plain["causes"]:
        for remedy in cause["remedies"]:
            require_recipe(remedy["recipe"])
    assert render(plain).count("\n") > 3
    HTMLParser().feed(render_page(plain))
    return plain


def require_recipe(text: str | None) -> None:
    lines = tomllib.loads(text or "")
    for step in lines.pop("steps", ()):
        make_pass(step.pop("pass"), step)
    if "images" in lines:
        ImageOptions(**{"mean": 0, "std": 1, **lines.pop("images")})
    assert set(lines) <= {"keep_float"}


def first(result: Mapping[str, Any]) -> Mapping[str, Any]:
    cause: Mapping[str, Any] = checked(result)["causes"][0]
    return cause


@pytest.fixture(params=[True, False], ids=["with the float model", "alone"])
def given(request: pytest.FixtureRequest, bench: Bench) -> Path | None:
    return bench.floats if request.param else None


def test_a_sound_model_has_no_defect(bench: Bench, given: Path | None) -> None:
    result = checked(explain_model(bench.quantize(), bench.samples, floats=given))
    assert result["score"]["snr_db"] > 25
    assert {cause["cause"] for cause in result["causes"]} <= {"sensitive-layer"}
    named = [layer["name"] for layer in result["layers"]]
    assert named == ["x", "node_c0", "node_c1", "node_c2", "node_p", "node_y"]
    assert all((layer["snr_weights_db"] is None) == (given is None) for layer in result["layers"])
    assert all(layer["snr_alone_db"] >= layer["snr_whole_db"] - 3 for layer in result["layers"])


def test_one_planted_activation_is_named(bench: Bench, given: Path | None) -> None:
    faulty = bench.faulty(lambda proto: faults.scale_grid(proto, 40))
    cause = first(explain_model(faulty, bench.samples, floats=given))
    assert (cause["cause"], cause["layer"]) == ("activation-outlier", "node_c2")
    assert "No sample comes near its ends" in cause["sentence"]
    assert cause["gain_db"] > 10


def test_a_channel_that_is_much_larger_is_named(bench: Bench) -> None:
    value = faults.plant_outlier(bench.net)
    planted = bench.save(bench.net, "planted")
    cause = first(explain_model(bench.quantize(planted), bench.samples, floats=planted))
    assert (value, cause["layer"]) == ("r0", "node_c0")
    assert cause["cause"] == "activation-outlier"
    assert cause["evidence"]["outlier_channels"] == [0]


def test_a_clipped_activation_is_named(bench: Bench, given: Path | None) -> None:
    faulty = bench.faulty(lambda proto: faults.scale_grid(proto, 1 / 8, number=0))
    cause = first(explain_model(faulty, bench.samples, floats=given))
    assert (cause["cause"], cause["layer"]) == ("saturated-activation", "node_c0")
    assert cause["evidence"]["clipped_high"] > 0.05
    assert any('method = "minmax"' in (remedy["recipe"] or "") for remedy in cause["remedies"])


def test_a_bias_at_the_end_of_its_integers_is_named(bench: Bench, given: Path | None) -> None:
    faulty = bench.faulty(lambda proto: faults.saturate_bias(proto, number=1))
    cause = first(explain_model(faulty, bench.samples, floats=given))
    assert (cause["cause"], cause["layer"]) == ("bias-overflow", "node_c1")
    assert cause["evidence"]["saturated"] == [0]
    assert (cause["gain_db"] is None) == (given is None)


def test_a_clipped_bias_is_named(bench: Bench) -> None:
    faulty = bench.faulty(lambda proto: faults.clip_bias(proto, number=1))
    cause = first(explain_model(faulty, bench.samples, floats=bench.floats))
    assert (cause["cause"], cause["layer"]) == ("bias-overflow", "node_c1")
    assert "instead of" in cause["sentence"]
    assert cause["gain_db"] > 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 127.5 + 127.5, "look like pixels 0 to 255"),
        (lambda x: (x + 1) / 2, "look like pixels / 255"),
        (lambda x: x / 127.5, "fill 0.784 % of it"),
    ],
)
def test_wrong_preprocessing_is_named(
    bench: Bench, given: Path | None, change: Callable[[Array], Array], words: str
) -> None:
    wrong = bench.write(change(bench.x), "wrong")
    cause = first(explain_model(bench.quantize(), wrong, floats=given))
    assert (cause["cause"], cause["layer"]) == ("wrong-preprocessing", "x")
    assert words in cause["sentence"]
    lines = tomllib.loads(cause["remedies"][0]["recipe"])["images"]
    assert np.allclose((change(bench.x) - lines["mean"]) / lines["std"], bench.x, atol=0.02)


def test_red_and_blue_exchanged_are_noticed(tmp_path: Path) -> None:
    """A net that answers with the strongest colour; no range tells which one came first."""
    nodes = [
        ("GlobalAveragePool", ("x",), "p", {}),
        ("Flatten", ("p",), "f", {}),
        ("Gemm", ("f", "w"), "y", {"transB": 1}),
    ]
    bench = Bench(tmp_path)
    net = bench.save(model(nodes, SHAPE, {"w": 10 * np.eye(3)}), "colours")
    labels = np.arange(24) % 3
    x = np.random.default_rng(0).uniform(-1, 0, (24, *SHAPE[1:]))
    x[np.arange(24), labels] += 1
    right = bench.write(x, "right", y=labels)
    quantized = bench.quantize(net, right)
    assert checked(explain_model(quantized, right, floats=net))["causes"] == []
    cause = first(explain_model(quantized, bench.write(x[:, ::-1], "bgr", y=labels), floats=net))
    assert cause["cause"] == "wrong-preprocessing"
    assert "red and blue" in cause["sentence"]
    assert cause["remedies"][0]["after"]["value"] == 1.0
    unlabelled = checked(explain_model(quantized, bench.write(x[:, ::-1], "bgr"), floats=net))
    assert unlabelled["causes"] == []  # this net is as sure of the one order as of the other


def test_the_sample_that_sets_the_ranges_is_named(bench: Bench, given: Path | None) -> None:
    x = bench.x.copy()
    x[5] *= 30
    samples = bench.write(x, "bad")
    cause = first(explain_model(bench.quantize(samples=samples), samples, floats=given))
    assert (cause["cause"], cause["evidence"]["sample"]) == ("calibration-sample", 5)
    assert cause["gain_db"] > 10


def test_calibration_on_other_data_is_named(bench: Bench) -> None:
    x = bench.x.copy()
    x[5] *= 30
    quantized = bench.quantize(samples=bench.write(x, "other"))
    cause = first(explain_model(quantized, bench.samples, floats=bench.floats))
    assert (cause["cause"], cause["evidence"]["sample"]) == ("calibration-sample", None)


def test_one_scale_for_uneven_channels_is_named(bench: Bench) -> None:
    for name, factor in (("w0", 1 / 30), ("b0", 1 / 30), ("w1", 30)):
        weights = faults.tensor(bench.net, name)
        array = numpy_helper.to_array(weights).copy()
        array[0] *= factor
        weights.CopyFrom(numpy_helper.from_array(array, name))
    uneven = bench.save(bench.net, "uneven")
    cause = first(explain_model(bench.quantize(uneven, per_channel=False), bench.samples, floats=uneven))
    assert (cause["cause"], cause["layer"]) == ("per-tensor-weights", "node_c1")
    assert "depthwise" in cause["sentence"]
    assert "per_channel = true" in cause["remedies"][0]["recipe"]


@pytest.mark.parametrize("bits", [4, 2])
def test_coarse_weights_are_named(bench: Bench, bits: int) -> None:
    quantized = bench.quantize(weight_bits=bits, bias_correction="none")
    cause = first(explain_model(quantized, bench.samples, floats=bench.floats))
    assert cause["cause"] == "coarse-weights"
    step = tomllib.loads(cause["remedies"][0]["recipe"])["steps"][0]
    assert step["weight_bits"] == bits
    assert 8 in step["layer_bits"].values()


def test_a_remedy_does_what_was_measured(bench: Bench) -> None:
    """What ``keep_float`` is said to buy is what the pass with that recipe gives."""
    faults.plant_outlier(bench.net)
    planted = bench.save(bench.net, "planted")
    result = checked(explain_model(bench.quantize(planted), bench.samples, floats=planted))
    remedy = next(r for r in result["causes"][0]["remedies"] if "keep_float" in (r["recipe"] or ""))
    names = tomllib.loads(remedy["recipe"])["keep_float"]
    again = explain_model(bench.quantize(planted, keep_float=names), bench.samples, floats=planted)
    assert again["score"]["snr_db"] == pytest.approx(remedy["after"]["snr_db"], abs=1.0)


@pytest.mark.parametrize("name", ["kws", "ic"])
@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (lambda proto: faults.scale_grid(proto, 40), "activation-outlier"),
        (faults.clip_bias, "bias-overflow"),
        (faults.saturate_bias, "bias-overflow"),
    ],
    ids=["activation", "clipped bias", "saturated bias"],
)
def test_faults_in_real_models_are_named(tmp_path: Path, name: str, plant: Change, expected: str) -> None:
    samples, out = MODELS / f"{name}-samples.npz", tmp_path / "int8.onnx"
    optimize_model(MODELS / f"{name}.onnx", out, [make_pass("quantize-int8", {})], calibration=samples)
    proto = onnx.load(out)
    plant(proto)
    onnx.save(proto, out)
    result = explain_model(out, samples, floats=MODELS / f"{name}.onnx", most=4)
    assert first(result)["cause"] == expected


def test_the_page_and_the_terminal_say_the_same(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = bench.faulty(lambda proto: faults.scale_grid(proto, 40))
    page = bench.folder / "explain.html"
    arguments = ["explain", faulty, "-i", bench.samples, "-f", bench.floats, "-o", page, "--samples", 4]
    assert cli.run([str(a) for a in arguments]) == 0
    shown, html = capsys.readouterr().out, page.read_text("utf-8")
    assert "1. activation-outlier" in shown
    assert f"written to {page}" in shown
    assert 'role="img" aria-label="Signal-to-noise ratio of 6 layers in dB.' in html
    assert "http" not in html.replace("http://www.w3.org", "")
    assert html.count("<tr>") == 1 + 6
    assert cli.run([str(a) for a in [*arguments, "--json"]]) == 0
    first(json.loads(capsys.readouterr().out))


def test_the_same_every_time(bench: Bench) -> None:
    quantized = bench.quantize()
    results = [explain_model(quantized, bench.samples, floats=bench.floats) for _ in range(2)]
    assert json.dumps(results[0]) == json.dumps(results[1])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.run(["explain", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_bad_input_is_told_in_a_sentence(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    quantized, samples = bench.quantize(), bench.samples
    assert "nothing in it is quantized" in refusal(capsys, bench.floats, "-i", samples)
    assert "is quantized itself" in refusal(capsys, quantized, "-i", samples, "-f", quantized)
    assert "has no array 'x'" in refusal(
        capsys, quantized, "-i", MODELS / "kws-samples.npz"
    ) or "x" in refusal(capsys, quantized, "-i", MODELS / "kws-samples.npz")
    other = refusal(capsys, quantized, "-i", samples, "-f", MODELS / "ic.onnx")
    assert "Give the model that was quantized" in other
    assert "no such file" in refusal(capsys, bench.folder / "none.onnx", "-i", samples)
    (bench.folder / "build").mkdir()
    (bench.folder / "build" / "model_small.onnx").touch()
    assert "Give one of these files" in refusal(capsys, bench.folder / "build", "-i", samples)
    assert "needs mean" in refusal(capsys, quantized, "-i", samples, "--image", "std=1")


def test_a_build_is_a_model(bench: Bench) -> None:
    (bench.folder / "build").mkdir()
    bench.quantize().rename(bench.folder / "build" / "model.onnx")
    assert explain_model(bench.folder / "build", bench.samples)["model"]["name"] == "model.onnx"
