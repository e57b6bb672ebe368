"""The command line: exit codes, messages, and the commands on a small model, end to end."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

from irshrink import cli, errors
from irshrink.errors import BudgetError, InternalError, ModelError, ToolError
from irshrink.output import fresh_folder

MODEL = """
<ir_version: 9, opset_import: ["" : 20]>
small (float[1, 2, 8, 8] x) => (float[1, 4] y)
   <int64[2] flat = {1, 36}>
{
   a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)
   r = Relu (a)
   p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
   f = Reshape (p, flat)
   y = Gemm (f, v, c)
}
"""
SHAPES = {"w": (9, 2, 3, 3), "b": (9,), "v": (36, 4), "c": (4,)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.onnx``, ``samples.npz`` and ``eval.npz`` (labelled by the model itself)."""
    from irshrink.onnxrt import run, session

    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(MODEL)
    for name, shape in SHAPES.items():
        values = rng.normal(0, 0.4, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(proto, folder / "small.onnx")
    x = rng.standard_normal((48, 2, 8, 8)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x[:16])
    answers = [int(run(session(folder / "small.onnx"), {"x": one[None]})["y"].argmax()) for one in x]
    np.savez(folder / "eval.npz", x=x, y=np.array(answers))
    return folder


def irshrink(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.app.commands, "fail", fail)
    return irshrink("fail")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("m.onnx: broken."), 1),
        (BudgetError("RAM: too small."), 2),
        (ToolError("zig: missing."), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error, monkeypatch) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    said = {OSError: "output: the disk is full. Free some space, or set TMPDIR to another."}
    assert captured.err.strip() == f"error: {said.get(type(error), str(error) or 'stopped.')}"


@pytest.mark.parametrize("error", [RuntimeError("oops\nmore"), InternalError("oops")])
def test_our_bugs_are_one_line_unless_debugging(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IRSHRINK_DEBUG", raising=False)
    assert failing(error, monkeypatch) == 70
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "a bug in irshrink" in lines[0]
    assert "IRSHRINK_DEBUG=1" in lines[0]
    monkeypatch.setenv("IRSHRINK_DEBUG", "1")
    assert failing(error, monkeypatch) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compil"], "No such command 'compil'. Did you mean 'compile'?"),
        (["compile", "m.onnx", "--targt", "x"], "--target"),
        (["compile", "m.onnx"], "Missing option '-o' / '--out'. See `irshrink compile --help`."),
        (["compile", "m.onnx", "-o", "{new}"], "no target. Give --target"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "cortexm4"], "Did you mean 'cortex-m4'?"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "host", "--ram", "x"], "'x' is not a size"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "host", "-q", "int8"], "needs calibration data"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "host", "--shape", "x"], "Write name=1,3,224,224"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "host", "--image", "mean"], "Write key=value"),
        (["compile", "m.onnx", "-o", "{new}", "-t", "host", "-r", "none.toml"], "none.toml: cannot be read"),
        (["compile", "none.onnx", "-o", "{new}", "-t", "host"], "none.onnx: no such file"),
        (["compile", "none.onnx", "-o", "{full}", "-t", "host"], "not an earlier irshrink build"),
        (["compile", "none.onnx", "-o", "{file}", "-t", "host"], "is not a folder"),
        (["inspect", "none.onnx"], "none.onnx: no such file"),
        (["diff", "none.onnx", "none.onnx"], "none.onnx: no such file"),
        (["run", "{full}", "--input", "none.npz"], "not a folder that `irshrink compile` wrote"),
        (["passes", "fold-batchnrm"], "Did you mean 'fold-batchnorm'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    places = {name: tmp_path / name for name in ("new", "full", "file")}
    assert irshrink(*(argument.format(**places) for argument in arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert not (tmp_path / "new").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert irshrink() == 1
    assert "compile" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(cli.app.commands))
def test_every_command_prints_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in cli.app.commands[name].params)


def test_where_the_cmake_function_is_and_an_import_as_json(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert irshrink("cmake", "--json") == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).is_file()
    out = tmp_path / "out.onnx"
    assert irshrink("import", files / "small.onnx", "-o", out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"out": str(out), "format": "ONNX", "nodes": 5, "converter": {}}


def test_the_documents_say_what_exit_codes_there_are() -> None:
    text = (Path(__file__).parents[1] / "docs" / "integration.md").read_text("utf-8")
    said = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    kinds = [errors.IrshrinkError, *errors.IrshrinkError.__subclasses__()]
    assert said == sorted({0, 130, *(kind.exit_code for kind in kinds)})


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert irshrink("targets") == 0
    text = capsys.readouterr().out
    assert "cortex-m4 " in text
    assert "nucleo-f446re" in text
    assert irshrink("targets", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"host", "cortex-m33"} <= {target["name"] for target in listed["targets"]}


def test_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert irshrink("passes") == 0
    assert "quantize-int8" in capsys.readouterr().out
    assert irshrink("passes", "quantize-int8") == 0
    page = capsys.readouterr().out
    assert "lossy" in page
    assert "keep-float (list of text, default [])" in page
    assert "nodes that stay float, by name or operator type" in page
    assert irshrink("passes", "--json") == 0
    assert {p["name"]: p["lossy"] for p in json.loads(capsys.readouterr().out)}["fold-batchnorm"] is False


def test_inspect(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert irshrink("inspect", files / "small.onnx", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["macs"] == 4 * 4 * 9 * 18 + 4 * 36
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 2, 8, 8]}]
    assert {o["op"]: o["count"] for o in facts["operators"]}["Conv"] == 1
    assert irshrink("inspect", files / "small.onnx", "--target", "cortex-m4") == 0
    text = capsys.readouterr().out
    assert "100.0 % of the 2,736 MACs" in text
    assert "float: 0 layers" in text


def test_inspect_lists_what_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4, 4] x) => (float[1] y) { y = Det (x) }'
    )
    onnx.save(proto, tmp_path / "det.onnx")
    assert irshrink("inspect", tmp_path / "det.onnx", "--target", "host") == 0
    assert "cannot be compiled: 1 node has no kernel" in capsys.readouterr().out


BRANCHES = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 4] y) <float z = {0.0}> {
    s = ReduceSum <keepdims = 0> (x)
    c = Greater (s, z)
    y = If (c) <
        then_branch = t () => (float[1, 4] a) { a = Neg (x) },
        else_branch = e () => (float[1, 4] b) { b = Relu (x) }
    >
}"""


def test_inspect_says_what_a_branch_depends_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(onnx.parser.parse_model(BRANCHES), tmp_path / "if.onnx")
    assert irshrink("inspect", tmp_path / "if.onnx", "--target", "host") == 0
    assert (
        "If 'y': which branch it takes depends on the data: 'c' is computed. A build always runs the same "
        "operators: make the condition a constant"
    ) in capsys.readouterr().out


PLAIN = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 4] y) { y = Identity (x) }"""
QUANTIZED = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 4] y) <float s = {0.01}, int8 z = {-128}> {
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}"""


def test_diff_stays_in_the_range_of_the_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard normal values would be cut at 0 and 2.55, and the models be said to differ by that."""
    for name, text in (("plain", PLAIN), ("quantized", QUANTIZED)):
        onnx.save(onnx.parser.parse_model(text), tmp_path / f"{name}.onnx")
    plain, quantized = tmp_path / "plain.onnx", tmp_path / "quantized.onnx"
    for a, b, label in ((plain, quantized, "b"), (quantized, plain, "a")):
        assert irshrink("diff", a, b, "--json") == 0
        result = json.loads(capsys.readouterr().out)
        said = f"random, seed 0: 'x' uniform from 0 to 2.55, the range that {label} quantizes it to"
        assert result["samples"] == said
        assert 0 < result["outputs"][0]["max_abs_difference"] <= 0.0051


RECURRENT = """<ir_version: 9, opset_import: ["" : 20]>
g (float[3, 1, 2] x) => (float[1, 2] y) <
    float[1, 8, 2] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8},
    float[1, 8, 2] r = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8},
    int64[1] a = {0}, float[2, 2] v = {1, 2, 3, 4}
> {
    u = MatMul (x, v)
    [lstm] h, last = LSTM <hidden_size = 2> (u, w, r)
    y = Squeeze (last, a)
}"""


def test_a_node_of_several_operators_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And it goes by the name in the model, as in what compile says."""
    onnx.save(onnx.parser.parse_model(RECURRENT), tmp_path / "lstm.onnx")
    assert irshrink("inspect", tmp_path / "lstm.onnx", "--target", "host") == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if "lstm" in line][1:] == [
        "    lstm (DenseF32, RecurrentF32, Slice): it has no int8 form"
    ]


def test_inspect_shows_open_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, L, 4] x) => (float[1, L, 4] y) { y = Relu (x) }'
    )
    onnx.save(proto, tmp_path / "open.onnx")
    assert irshrink("inspect", tmp_path / "open.onnx") == 0
    assert "x: float32 [1, L, 4]" in capsys.readouterr().out
    assert irshrink("inspect", tmp_path / "open.onnx", "--target", "host") == 1
    assert "--shape x=1,L,4 with numbers for L" in capsys.readouterr().err


def test_diff(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = files / "small.onnx"
    assert irshrink("diff", small, small) == 0
    assert "the same file" in capsys.readouterr().out
    proto = onnx.load(small)
    weights = onnx.numpy_helper.to_array(proto.graph.initializer[-1]) + np.float32(0.5)
    proto.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(weights, "c"))
    onnx.save(proto, tmp_path / "other.onnx")
    assert irshrink("diff", small, tmp_path / "other.onnx", "--json", "--input", files / "samples.npz") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"][0]["max_abs_difference"] == pytest.approx(0.5, rel=1e-4)
    assert result["text"]
    assert irshrink("diff", small, tmp_path / "other.onnx", "--text") == 0
    text = capsys.readouterr().out
    assert "(random, seed 0: standard normal, which real inputs may not be: give them with --input)" in text
    assert "largest difference 0.5" in text
    assert "+++ b" in text


def test_folders_appear_complete_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "build"
    with pytest.raises(FileNotFoundError), fresh_folder(out) as folder:
        (folder / "half" / "written").touch()
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with fresh_folder(out) as folder:
            (folder / "recipe.lock").write_text(text)
    assert [p.name for p in tmp_path.iterdir()] == ["build"]
    assert (out / "recipe.lock").read_text() == "two"


def compiled(files: Path, out: Path, *more: object) -> int:
    data = ("--calibration", files / "samples.npz", "--eval", files / "eval.npz")
    return irshrink("compile", files / "small.onnx", *data, "-o", out, *more)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("target", ["cortex-m4", "host"])
def test_compile_run_and_replay(
    target: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "elsewhere" / "second"
    assert compiled(files, first, "--target", target) == 0
    assert "all equal the reference" in capsys.readouterr().out
    report: dict[str, Any] = json.loads((first / "report.json").read_text("utf-8"))
    assert report["emulation"]["mismatched_bytes"] == 0
    assert report["accuracy"]["metric"] == "top-1"
    assert report["accuracy"]["original"] == 1.0

    replay = ("--recipe", first / "recipe.lock", "--json")
    assert compiled(files, second, *replay) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out)["passes"][0]["seconds"] is not None
    assert content(first) == content(second)

    outputs = tmp_path / "y.npz"
    assert irshrink("run", first, "--input", files / "samples.npz", "--output", outputs, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["inputs"], facts["mismatched_bytes"]) == (16, 0)
    assert facts["instructions"] == report["emulation"]["instructions"]
    with np.load(outputs) as arrays:
        assert arrays["y"].shape == (16, 1, 4)


def test_budgets_and_replays_of_another_model(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build"
    assert compiled(files, out, "--target", "host", "--quantize", "none") == 0
    assert (
        irshrink("compile", files / "small.onnx", "-t", "cortex-m4", "--flash", "1K", "-o", tmp_path / "b")
        == 2
    )
    assert "flash" in capsys.readouterr().err.lower()
    (tmp_path / "other.onnx").write_bytes((files / "small.onnx").read_bytes() + b"\x08\x09")
    again = ("compile", tmp_path / "other.onnx", "--recipe", out / "recipe.lock", "-o", tmp_path / "c")
    assert irshrink(*again) == 1
    assert "belongs to a model with SHA-256" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build", "other.onnx"]
