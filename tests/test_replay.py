"""A build made again from its lock: the same bytes, or the first difference and its cause."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irshrink.cli import run
from irshrink.module import module_from_text
from irshrink.replay import compare_folders

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    module_from_text(NET).save(folder / "net.onnx")
    rng = np.random.default_rng(0)
    for name in ("samples", "others"):
        np.savez(folder / f"{name}.npz", x=rng.standard_normal((8, 4)).astype(np.float32))
    (folder / "score.py").write_text("def error(outputs): return 0.0\n")
    metric = ["--metric", f"{folder}/score.py:error"]
    given = [f"{folder}/net.onnx", "-t", "cortex-m0", "-c", f"{folder}/samples.npz", *metric]
    code = run(["compile", *given, "-o", f"{folder}/build"])
    assert code == 0
    return folder


def replay(work: Path, *options: str, data: str = "samples") -> int:
    given = ["-c", f"{work}/{data}.npz", "--metric", f"{work}/score.py:error"]
    return run(["replay", f"{work}/build", f"{work}/net.onnx", *given, *options])


def test_the_same_bytes_from_anywhere(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert replay(work, "--check", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identical"]
    assert found["files"] == len([p for p in (work / "build").rglob("*") if p.is_file()])


def test_other_data_is_named_as_the_cause(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(work, "--check", data="others") == 4
    said = capsys.readouterr().err
    assert "the calibration data differs from what the lock was made with" in said
    assert "files differ, first model.onnx, byte" in said
    assert replay(work, data="others") == 0


def test_what_the_lock_only_has_digests_of_must_be_given(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", f"{work}/build", f"{work}/net.onnx"]) == 1
    assert "was made with calibration data. Give the same with --calibration" in capsys.readouterr().err
    assert run(["replay", f"{work}", f"{work}/net.onnx"]) == 1
    assert "Give the folder of a build" in capsys.readouterr().err


def test_another_model_is_refused(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module_from_text(NET.replace("0.1,", "0.15,")).save(tmp_path / "net.onnx")
    given = ["-c", f"{work}/samples.npz", "--metric", f"{work}/score.py:error"]
    assert run(["replay", f"{work}/build", f"{tmp_path}/net.onnx", *given]) == 1
    assert "belongs to a model with SHA-256" in capsys.readouterr().err


def test_the_first_difference_of_a_text_and_a_file_that_is_gone(tmp_path: Path) -> None:
    for folder, text in (("old", "one\ntwo\n"), ("new", "one\n2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.c").write_text(text)
    (tmp_path / "old" / "users.o").write_bytes(b"\0")
    found = compare_folders(tmp_path / "old", tmp_path / "new")
    assert found.sentence() == (
        "1 of 1 files differ, first a.c, line 2: 'two' before, '2' now; nothing in the lock says why."
    )
    (tmp_path / "old" / "a.c").unlink()
    assert compare_folders(tmp_path / "old", tmp_path / "new").sentence() == (
        "the builds have different files: a.c."
    )
