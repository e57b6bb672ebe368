"""``irshrink plan``: what it writes, and that a person can edit and compile that; nothing is searched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

import irshrink
from irshrink import api, cli
from irshrink.errors import RecipeError
from irshrink.module import module_from_text
from irshrink.planning import compiling
from irshrink.planning.plan import Plan
from irshrink.planning.search import Found
from irshrink.recipe import Recipe, load_recipe, make_recipe
from irshrink.testing.plans import example_plan

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""
ARRAYS = {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
STEPS = ({"pass": "quantize-int8", "method": "minmax"},)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module_from_text(NET).save(tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", **ARRAYS)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a search was asked; it finds an example at once, of which ``met`` says whether it will do."""
    seen: dict[str, Any] = {"met": True}

    def search(model: Path, recipe: Recipe, **options: Any) -> Found:
        seen.update(model=model, recipe=recipe, **options)
        plan = msgspec.convert(example_plan(met=seen["met"]), Plan)
        tried = list(plan.evaluations)
        tried[plan.chosen] = msgspec.structs.replace(tried[plan.chosen], steps=STEPS)
        plan = msgspec.structs.replace(plan, evaluations=tuple(tried))
        found = msgspec.structs.replace(recipe, objective=None, evaluations=None, fit=5, steps=STEPS)
        return Found(plan, found, lambda _: pytest.fail("nothing is to be chosen again"))

    monkeypatch.setattr(api, "search_plan", search)
    monkeypatch.setattr(compiling, "search_plan", search)
    return seen


def plan(*options: str) -> int:
    given = ["net.onnx", "-t", "cortex-m0", "-c", "samples.npz", "--objective", "smallest"]
    return cli.run(["plan", *given, "--max-drop", "1%", "--flash", "40K", *options])


def test_a_plan_is_a_recipe_that_compiles(
    work: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan("-o", "plans/first", "--processes", "2", "--journal", "kept") == 0
    said = capsys.readouterr().out
    assert "asked: the smallest plan with at most 1.00 points" in said
    assert "written to plans/first; irshrink compile net.onnx --recipe plans/first/recipe.toml" in said
    assert (asked["processes"], asked["folder"], asked["cluster"]) == (2, Path("kept"), None)
    names = {path.name for path in (work / "plans" / "first").iterdir()}
    assert names == {"plan.json", "plan.html", "recipe.toml"}
    text = (work / "plans" / "first" / "recipe.toml").read_text()
    assert 'calibration = "../../samples.npz"' in text
    assert "# It keeps its budgets." in text
    assert "#   bits of the weights: " in text
    assert cli.run(["compile", "net.onnx", "-r", "plans/first/recipe.toml", "-o", "build"]) == 0
    recipe = json.loads((work / "build" / "report.json").read_text())["recipe"]
    assert (recipe["steps"], recipe["fit"], recipe["flash"]) == ([*STEPS], 5, 40 * 1024)


def test_where_no_plan_will_do_the_nearest_is_there(
    work: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["met"] = False
    assert plan("-o", "plan", "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["met"] is False
    assert "error: no plan keeps the budgets" in captured.err
    text = (work / "plan" / "recipe.toml").read_text()
    assert "# It misses them: no plan keeps the budgets" in text
    assert cli.run(["report", "plan"]) == 0


def test_where_no_plan_will_do_nothing_is_built(
    work: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["met"] = False
    given = ["net.onnx", "-t", "cortex-m0", "-c", "samples.npz", "--objective", "smallest"]
    options = ["--max-drop", "1%", "--junit", "junit.xml", "--processes", "3", "-o", "build", "--json"]
    assert cli.run(["compile", *given, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: no plan keeps the budgets" in captured.err
    assert asked["processes"] == 3
    assert not (work / "build").exists()
    [case] = ElementTree.parse(work / "junit.xml").getroot()
    assert case.attrib["name"] == "plan"
    assert "no plan keeps" in str(case[0].text)


def test_what_somebody_edited_is_not_replaced(
    work: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan("-o", "plan") == 0
    assert plan("-o", "plan") == 0
    recipe = work / "plan" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("minmax", "entropy"))
    assert plan("-o", "plan") == 1
    assert "plan/recipe.toml: was edited since irshrink wrote it" in capsys.readouterr().err
    assert "entropy" in recipe.read_text()
    assert cli.run(["compile", "net.onnx", "-r", "plan/recipe.toml", "-o", "build"]) == 0
    assert plan("-o", "plan", "--force") == 0
    assert "minmax" in recipe.read_text()


def test_other_peoples_folders_stay(
    work: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "thesis").mkdir()
    (work / "thesis" / "plan.json").write_text("{}")
    assert plan("-o", "thesis") == 1
    assert "not an earlier irshrink plan (no recipe.toml)" in capsys.readouterr().err
    assert "recipe" not in asked


def test_all_paths_are_seen_from_the_folder_of_the_recipe(work: Path, asked: dict[str, Any]) -> None:
    (work / "score.py").write_text("def error(outputs): return 0.0\n")
    assert plan("-o", "a/b", "-e", "samples.npz", "--metric", "score.py:error") == 0
    found = load_recipe(work / "a" / "b" / "recipe.toml")
    for path in (found.calibration, found.eval, (found.metric or "").rpartition(":")[0]):
        assert path is not None
        assert Path(path).resolve().parent == work


def test_from_python(work: Path, asked: dict[str, Any]) -> None:
    budgets: dict[str, Any] = {"target": "cortex-m0", "max_drop": "1%", "objective": "smallest"}
    found = irshrink.plan("net.onnx", calibration=ARRAYS, cluster="local:2", **budgets)
    assert (asked["cluster"], asked["recipe"].max_drop) == ("local:2", 0.01)
    assert found.plan.met
    assert found.recipe.calibration is None
    report = irshrink.compile("net.onnx", "build", recipe=found.recipe, calibration=ARRAYS)
    assert report["recipe"]["steps"] == [*STEPS]


def test_an_objective_needs_a_limit_to_what_it_costs() -> None:
    with pytest.raises(RecipeError, match="how much accuracy may a plan lose to be smallest"):
        make_recipe({"target": "cortex-m4", "objective": "smallest", "calibration": "x.npz"})


@pytest.mark.parametrize(
    ("target", "option", "said"),
    [
        ("cortex-m4", ("--latency", "20ms"), "an emulator tells no latency"),
        ("host", ("--instructions", "3M"), "nothing counts the instructions"),
    ],
)
def test_what_nothing_measures_is_refused_before_a_search(
    target: str, option: tuple[str, str], said: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("plan", "compile"):
        given = ["net.onnx", "-t", target, "-c", "samples.npz", "--objective", "accurate", *option]
        assert cli.run([command, *given, "-o", "out", "--journal", "journal"]) == 1
        assert said in capsys.readouterr().err
        assert not (work / "journal").exists()


def test_a_folder_that_may_not_be_filled_is_refused_before_a_search(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "thesis").mkdir()
    (work / "thesis" / "thesis.tex").touch()
    given = ["net.onnx", "-t", "cortex-m0", "-c", "samples.npz", "--objective", "accurate"]
    assert cli.run(["compile", *given, "-o", "thesis", "--journal", "journal"]) == 1
    assert "not an earlier irshrink build" in capsys.readouterr().err
    assert not (work / "journal").exists()


def test_compile_takes_every_option_of_plan() -> None:
    compile_, plan_ = ({one.name for one in cli.app.commands[name].params} for name in ("compile", "plan"))
    assert plan_ < compile_
    assert compile_ - plan_ == {"timings", "junit"}
