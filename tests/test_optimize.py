"""``irshrink optimize``: ONNX in, ONNX out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from irshrink import cli, onnxrt
from irshrink.module import load_module
from irshrink.optimize import optimize_model, parse_pass
from irshrink.program.lower import lower
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import make_pass

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Embedding, product and convolution-free head: 3 weights, one Identity to clean up."""
    graph = """g (int64[1, 5] i) => (float[1, 5, 40] y)
    { e = Gather (t, i) n = Identity (e) h = MatMul (n, w) a = Relu (h) y = MatMul (a, v) }"""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {graph}')
    rng = np.random.default_rng(0)
    for name, shape in {"t": (50, 32), "w": (32, 48), "v": (48, 40)}.items():
        proto.graph.initializer.append(
            numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), name)
        )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    return path


def outputs(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    feeds = {"i": np.array([[3, 1, 4, 49, 0]])}
    return onnxrt.run(onnxrt.session(path), feeds)["y"]


def test_weights_in_int8(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    assert cli.run(["optimize", str(model), "-o", str(out), "--pass", "quantize-weights-int8"]) == 0
    assert "eliminate-identity, quantize-weights-int8\n" in capsys.readouterr().out
    assert out.stat().st_size < 0.4 * (tmp_path / "m.bin").stat().st_size
    before, after = outputs(model), outputs(out)
    assert np.abs(before - after).max() < 0.03 * np.abs(before).max()


def test_weights_in_int8_compile_and_compute_in_float(tmp_path: Path) -> None:
    out = tmp_path / "kws.onnx"
    optimize_model(MODELS / "kws.onnx", out, [make_pass("quantize-weights-int8")])
    program = lower(load_module(out))
    x = np.random.default_rng(1).normal(0, 1, program.inputs[0].shape).astype(np.float32)
    session = onnxrt.session(out)
    expected = onnxrt.run(session, {session.get_inputs()[0].name: x})
    (result,) = run_program(program, [x])
    np.testing.assert_allclose(result.reshape(-1), next(iter(expected.values())).reshape(-1), atol=1e-5)


def test_facts_as_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert cli.run(["optimize", str(model), "-o", str(out), "--verify", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["before"]["nodes"], facts["after"]["nodes"]) == (5, 4)
    np.testing.assert_array_equal(outputs(model), outputs(out))


def test_options_of_a_pass(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    step = "quantize-weights-int8 keep-float=Gather, min-elements=1600"
    assert cli.run(["optimize", str(model), "-o", str(out), "--no-cleanup", "--pass", step]) == 0
    assert "changed by: quantize-weights-int8\n" in capsys.readouterr().out
    names = set(load_module(out).graph.initializers)
    assert names == {"t", "w", "v_quantized", "v_scale"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "m.onnx"], "m.onnx: is the model itself. Choose another name with -o."),
        (["-o", "."], ".: is a folder."),
        (["-o", "m.bin"], "m.bin: holds weights of the model itself. Choose another name."),
        (["-o", "x.onnx", "--pass", "quantize-weight-int8"], "Did you mean 'quantize-weights-int8'?"),
        (["-o", "x.onnx", "--pass", "fold-pad 3"], "'3' is not an option. Write key=value."),
        (["-o", "x.onnx", "--pass", "fold-pad a=3 a.b=4"], "'a' is given twice."),
        (["-o", "x.onnx", "--pass", "quantize-weights-int8 keep-float=nobody,"], "no node is named or is a"),
    ],
)
def test_refusals(
    arguments: list[str],
    message: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(model.parent)
    assert cli.run(["optimize", "m.onnx", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.bin", "m.onnx"]


def test_a_table_is_written_entry_by_entry() -> None:
    name, options = parse_pass("quantize-int8 layer-bits.Gemm=8 layer-bits./stem/*.1=4 rounding=gptq")
    assert name == "quantize-int8"
    assert options == {"layer-bits": {"Gemm": 8, "/stem/*.1": 4}, "rounding": "gptq"}
