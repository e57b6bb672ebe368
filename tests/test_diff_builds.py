"""`irshrink diff` of two builds: recipes, decisions, figures, layers and files."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from irshrink import cli
from irshrink.diff_builds import diff_builds
from irshrink.report.report import build_report, write_report
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import example_graph, facts
from irshrink.testing.small_net import small_net


def irshrink(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def build(folder: Path, plan: dict[str, Any] | None = None, **recipe: Any) -> Path:
    """A folder as a build leaves it, as far as a comparison reads it."""
    folder.mkdir()
    given = facts()
    made = dataclasses.replace(given, plan=plan, graph=example_graph(), recipe={**given.recipe, **recipe})
    write_report(build_report(made), folder)
    small_net().save(folder / "model.onnx")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two builds that differ in their recipe, their plan, one layer and the model."""
    a = build(tmp_path / "a", example_plan(), steps=[{"pass": "quantize-int8"}])
    other = copy.deepcopy(example_plan())
    other["knobs"][0]["chosen"] = 2
    steps = [{"pass": "prune-channels", "ratio": 0.3}, {"pass": "quantize-int8", "method": "mse"}]
    b = build(tmp_path / "b", other, steps=steps)
    report = json.loads((b / "report.json").read_text("utf-8"))
    report["graph"][4]["bits"] = 4
    report["graph"][4]["bytes"][1] = 320
    report["size"]["flash_bytes"] = 15_950
    (b / "report.json").write_text(json.dumps(report), "utf-8")
    module = small_net()
    module.model.producer_name = "another"
    module.save(b / "model.onnx")
    return a, b


def test_what_differs_between_two_builds(pair: tuple[Path, Path]) -> None:
    found = diff_builds(*pair)
    assert not found["identical"]
    assert found["same_model"]
    assert {"name": "flash", "a": 31_900, "b": 15_950} in found["figures"]
    assert found["recipe"] == [
        {"key": "step prune-channels", "a": None, "b": "yes"},
        {"key": "prune-channels.ratio", "a": None, "b": 0.3},
        {"key": "quantize-int8.method", "a": None, "b": "mse"},
    ]
    assert found["decisions"] == [
        {
            "knob": "prune-channels",
            "title": "channels removed",
            "a": "10 % of the multiplications",
            "b": "20 % of the multiplications",
        }
    ]
    (layer,) = found["layers"]
    assert (layer["layer"], layer["a"]["bits"], layer["b"]["bits"], layer["b"]["bytes"]) == (
        "/fc",
        None,
        4,
        320,
    )
    assert [row["name"] for row in found["files"]] == ["model.onnx", "report.html", "report.json"]
    assert list(found["models"]) == ["model.onnx"]
    assert found["models"]["model.onnx"]["outputs"][0]["max_abs_difference"] == 0


def test_the_terminal_tells_the_same(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert irshrink("diff", *pair) == 0
    text = capsys.readouterr().out
    assert "-50.0 %" in text
    assert "10 % of the multiplications  20 % of the multiplications" in text
    assert "- -> 4" in text
    assert "3 files differ: model.onnx, report.html, report.json" in text
    assert irshrink("diff", *pair, "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"]


def test_builds_of_the_same_bytes_are_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = build(tmp_path / "a")
    shutil.copytree(a, tmp_path / "b")
    assert irshrink("diff", a, tmp_path / "b") == 0
    assert "every byte of every file is the same" in capsys.readouterr().out


def test_a_build_beside_a_model_is_the_model_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = build(tmp_path / "a")
    small_net().save(tmp_path / "net.onnx")
    assert irshrink("diff", a, tmp_path / "net.onnx") == 0
    assert "are the same file, byte for byte" in capsys.readouterr().out


def test_a_build_is_compared_with_no_other_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = build(tmp_path / "a")
    (tmp_path / "none").mkdir()
    for arguments, told in (
        ((a, tmp_path / "none"), "none: "),
        ((a, tmp_path / "net.onnx"), "no such file"),
        ((a, a, "--shape", "x=1,3,8,8"), "--shape is for models"),
    ):
        assert irshrink("diff", *arguments) == 1
        assert told in capsys.readouterr().err
