"""A planned build again: from its lock, in another folder, with other threads, with and without its plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from irshrink.cli import run
from irshrink.module import module_from_text
from irshrink.planning.compiling import PLAN_NAME

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that was really searched."""
    folder = tmp_path_factory.mktemp("planned")
    module_from_text(NET).save(folder / "net.onnx")
    x = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x)
    budgets = ["--objective", "smallest", "--max-drop", "0.2", "--evaluations", "4", "--processes", "1"]
    given = [f"{folder}/net.onnx", "-t", "cortex-m0", "-c", f"{folder}/samples.npz", *budgets]
    assert run(["compile", *given, "--journal", f"{folder}/journal", "-o", f"{folder}/build"]) == 0
    return folder


def replay(work: Path, build: Path) -> int:
    return run(["replay", f"{build}", f"{work}/net.onnx", "-c", f"{work}/samples.npz", "--check", "--json"])


def test_the_same_bytes_in_another_folder_with_other_threads(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "build", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert replay(work, tmp_path / "moved") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identical"]
    assert found["files"] == len([path for path in (work / "build").rglob("*") if path.is_file()])
    report = json.loads((work / "build" / "report.json").read_text())
    assert len(report["plan"]["evaluations"]) == 4


def test_evidence_that_is_gone_or_changed_is_named(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "build", tmp_path / "build")
    plan = tmp_path / "build" / PLAN_NAME
    plan.write_text(plan.read_text().replace('"judged_on": ', '"judged_on": 1'))
    assert replay(work, tmp_path / "build") == 4
    assert "plan.json, the evidence of the search, differs from what" in capsys.readouterr().err
    plan.unlink()
    assert replay(work, tmp_path / "build") == 4
    assert "plan.json, the evidence of the search, is missing" in capsys.readouterr().err
    plan.write_text("{")
    assert replay(work, tmp_path / "build") == 1
    assert "is no plan of this version of irshrink" in capsys.readouterr().err


def test_a_lock_alone_compiles_and_says_what_is_missing(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(work / "build" / "recipe.lock", tmp_path)
    given = [f"{work}/net.onnx", "-c", f"{work}/samples.npz"]
    assert run(["compile", *given, "-r", f"{tmp_path}/recipe.lock", "-o", f"{tmp_path}/build"]) == 0
    assert "plan.json, the evidence of the search, is missing" in capsys.readouterr().err
    assert (tmp_path / "build" / "model.onnx").read_bytes() == (work / "build" / "model.onnx").read_bytes()
    assert json.loads((tmp_path / "build" / "report.json").read_text())["plan"] is None


def test_a_lock_beside_its_plan_gives_every_byte(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"{work}/net.onnx", "-c", f"{work}/samples.npz", "-r", f"{work}/build/recipe.lock"]
    assert run(["compile", *given, "-o", f"{tmp_path}/build"]) == 0
    assert "warning" not in capsys.readouterr().err
    for name in (PLAN_NAME, "report.json", "recipe.lock", "model.onnx"):
        assert (tmp_path / "build" / name).read_bytes() == (work / "build" / name).read_bytes(), name
