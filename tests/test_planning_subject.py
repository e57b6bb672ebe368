"""What is searched: which samples do what, what identifies it, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.errors import RecipeError, ToolError, UserError
from irshrink.planning.subject import Subject, _sources_digest
from irshrink.recipe import make_recipe

MODELS = Path(__file__).parents[1] / "models"
KWS, SAMPLES = MODELS / "kws.onnx", MODELS / "kws-samples.npz"


def opened(model: Path = KWS, **recipe: Any) -> Subject:
    return Subject.open(model, make_recipe({"target": "cortex-m4", "calibration": str(SAMPLES), **recipe}))


def test_two_thirds_are_fitted_to_and_the_others_judge() -> None:
    subject = opened()
    assert (len(subject.fitted), len(subject.held)) == (43, 21)
    assert not set(subject.fitted.select.tolist()) & set(subject.held.select.tolist())
    assert (subject.cost_unit, subject.macs) == ("instructions", 2_656_768)
    assert opened(target="host").cost_unit == "multiply-accumulates"
    assert subject.module.calibration is subject.fitted


def test_the_digest_is_of_what_decides_figures(tmp_path: Path) -> None:
    first = opened().digest
    shutil.copy(KWS, tmp_path / "other.onnx")
    shutil.copy(SAMPLES, tmp_path / "other.npz")
    same = {"objective": "smallest", "max_drop": "1%", "flash": "32K", "evaluations": 3, "instructions": "3M"}
    assert opened(tmp_path / "other.onnx", calibration=str(tmp_path / "other.npz"), **same).digest == first
    others: list[dict[str, Any]] = [{"seed": 1}, {"ram": "12K"}, {"fit": 40}, {"target": "cortex-m3"}]
    assert len({first, *(opened(**other).digest for other in others)}) == 1 + len(others)


def test_another_file_or_number_is_another_subject(tmp_path: Path) -> None:
    data = dict(np.load(SAMPLES))
    data["input"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "changed.npz", **data)
    assert opened(calibration=str(tmp_path / "changed.npz")).digest != opened().digest


def test_sources_are_found_and_what_talks_to_people_is_not_among_them() -> None:
    from irshrink.planning.subject import _files_of

    names = {name for name, _ in _files_of("irshrink")}
    assert {"passes/prune/prune_channels.py", "backends/tvm/backend.py", "targets/host.toml"} <= names
    assert {"judge.py", "planning/judging.py"} <= names
    assert not {"cli.py", "report/report.py", "planning/search.py"} & names
    assert len(_sources_digest()) == 64


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"calibration": None}, "a plan needs samples to fit to and to judge with. Give --calibration"),
        ({"fit": 64}, "64 samples are too few: passes fit to 64 of them"),
        ({"variants": [{"input": [1, 50, 10, 1]}, {"input": [1, 60, 10, 1]}]}, "one set of input shapes"),
    ],
)
def test_what_cannot_be_searched_is_refused(recipe: dict[str, Any], message: str) -> None:
    every = {"target": "cortex-m4", "calibration": str(SAMPLES), **recipe}
    given = {key: value for key, value in every.items() if value is not None}
    with pytest.raises(RecipeError, match=message):
        Subject.open(KWS, make_recipe(given))


def test_it_refuses_what_a_compilation_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        opened(tmp_path / "none.onnx")
    file = tmp_path / "odd.toml"
    text = (MODELS.parent / "irshrink/targets/cortex-m4.toml").read_text()
    file.write_text('backend = "none"\n' + text.replace('backend = "tvm"', ""))
    with pytest.raises((ToolError, RecipeError), match="no backend 'none'"):
        opened(target=str(file))
