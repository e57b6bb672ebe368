"""`irshrink report`, `explain BUILD` and `diff BUILD BUILD` on reports of builds."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irshrink import cli
from irshrink.explain.decisions import explain_build
from irshrink.module import PassRecord
from irshrink.report.fits import misfit
from irshrink.report.report import build_report, write_report
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import example_graph, facts

EXPLAINED = json.loads(
    (Path(__file__).parents[1] / "irshrink" / "explain" / "decisions.schema.json").read_text("utf-8")
)
BITS = {
    "name": "/fc", "op_type": "Gemm", "weights": 2560, "bits": 4, "bytes": 1280, "saved_bytes": 1280,
    "loss": {"8": 0.0001, "4": 0.0012, "3": 0.02},
}  # fmt: skip


def irshrink(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def made(plan: dict[str, Any] | None = None, target: str = "cortex-m4") -> dict[str, Any]:
    given = facts(target)
    mixed = PassRecord("quantize-mixed", True, 0.0, {}, {"layer_decisions": [BITS]})
    return build_report(
        dataclasses.replace(given, plan=plan, graph=example_graph(), history=[*given.history, mixed])
    )


def build(folder: Path, report: dict[str, Any]) -> Path:
    folder.mkdir()
    write_report(report, folder)
    return folder


def test_a_build_is_summed_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "build", made(example_plan()))
    assert irshrink("report", folder) == 0
    text = capsys.readouterr().out
    assert "kws for cortex-m4" in text
    assert "asked: the smallest plan" in text
    assert irshrink("report", folder / "report.json", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "report.json").read_text("utf-8"))


def test_the_page_is_written_again(tmp_path: Path) -> None:
    folder = build(tmp_path / "build", made(example_plan()))
    assert irshrink("report", folder, "-o", tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_bytes() == (folder / "report.html").read_bytes()


def test_a_plan_has_a_page_without_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(example_plan(met=False)), "utf-8")
    assert irshrink("report", tmp_path) == 0
    assert "no plan of 14 that were tried keeps the budgets" in capsys.readouterr().out
    assert irshrink("report", file, "-o", tmp_path / "plan.html") == 0
    assert "<h1>plan</h1>" in (tmp_path / "plan.html").read_text("utf-8")
    assert irshrink("explain", file) == 1
    assert "is a plan, not a build" in capsys.readouterr().err


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda plan: plan.pop(key)


def _nowhere(plan: dict[str, Any]) -> None:
    plan["chosen"] = 99


def _unmeasured(plan: dict[str, Any]) -> None:
    plan["chosen"] = 12


def _level(plan: dict[str, Any]) -> None:
    plan["evaluations"][0]["levels"]["quantize-mixed"] = 7


def _number(plan: dict[str, Any]) -> None:
    plan["evaluations"][0]["figures"]["drop"] = "much"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_without("budgets"), "budgets is missing"),
        (_nowhere, "it names plan 99 of 16"),
        (_unmeasured, "the plan that it chose was never measured"),
        (_level, "a plan has level 7 of 'quantize-mixed', which has 3"),
        (_number, "evaluations[0].figures.drop is no number"),
    ],
)
def test_damaged_plans_are_refused(
    damage: Callable[[dict[str, Any]], Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = copy.deepcopy(example_plan())
    damage(plan)
    (tmp_path / "plan.json").write_text(json.dumps(plan), "utf-8")
    assert irshrink("report", tmp_path / "plan.json") == 1
    assert f"no plan of this version of irshrink: {told}. Compile again." in capsys.readouterr().err


def test_what_is_no_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content, told in (
        ("a.json", "{", "cannot be read: it is no JSON"),
        ("b.json", "[]", "no report of this version of irshrink: it is no object"),
        ("c.json", '{"format": 2}', "no report of this version of irshrink: irshrink is missing"),
    ):
        (tmp_path / name).write_text(content, "utf-8")
        assert irshrink("report", tmp_path / name) == 1
        assert told in capsys.readouterr().err
    assert irshrink("report", tmp_path / "none") == 1
    assert "no such file. Give a build, or a plan.json." in capsys.readouterr().err
    assert irshrink("report", tmp_path) == 1
    assert "holds no report.json and no plan.json" in capsys.readouterr().err


def test_a_layer_that_reads_a_later_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = made()
    report["graph"][0]["inputs"] = [3]
    folder = build(tmp_path / "build", made())
    (folder / "report.json").write_text(json.dumps(report), "utf-8")
    assert irshrink("report", folder) == 1
    assert "a layer of its graph reads a later one" in capsys.readouterr().err


def test_our_check_agrees_with_the_validator() -> None:
    schema = json.loads(
        (Path(__file__).parents[1] / "irshrink" / "report" / "schema.json").read_text("utf-8")
    )
    used: set[str] = set()

    def visit(part: Any, names: bool) -> None:
        if isinstance(part, dict):
            used.update(() if names else part)
            for key, item in part.items():
                visit(item, not names and key in ("properties", "$defs"))
        elif isinstance(part, list):
            for item in part:
                visit(item, False)

    visit(schema, False)
    told = {"$schema", "$id", "$defs", "title", "description"}
    checked = {"type", "const", "enum", "required", "properties", "additionalProperties", "items", "minItems",
               "maxItems", "minimum", "exclusiveMinimum", "maximum", "pattern", "oneOf", "$ref"}  # fmt: skip
    assert used <= told | checked
    good = json.loads(json.dumps(made(example_plan())))
    assert misfit(good, schema, schema) is None
    wrong = [("size.flash_bytes", -1), ("size.more", 1), ("model.sha256", "x"), ("notes", [1]),
             ("accuracy.outputs", None), ("emulation.native", 1), ("plan.objective", "")]  # fmt: skip
    for path, value in wrong:
        bad = copy.deepcopy(good)
        holder, _, key = path.rpartition(".")
        (bad[holder] if holder else bad)[key] = value
        assert misfit(bad, schema, schema) is not None, path
        assert not jsonschema.Draft202012Validator(schema).is_valid(bad), path


@pytest.mark.parametrize(
    "plan", [None, example_plan(), example_plan(met=False)], ids=["none", "met", "not met"]
)
def test_decisions_fit_their_schema(plan: dict[str, Any] | None) -> None:
    jsonschema.Draft202012Validator.check_schema(EXPLAINED)
    jsonschema.Draft202012Validator(EXPLAINED).validate(json.loads(json.dumps(explain_build(made(plan)))))


def test_decisions_say_what_their_neighbours_would_do() -> None:
    by_name = {one["knob"]: one for one in explain_build(made(example_plan()))["decisions"]}
    assert by_name["prune-channels"]["label"] == "10 % of the multiplications"
    assert by_name["prune-channels"]["why"] == [
        "One level more loses 1.08 points ± 0.16, over --max-drop 1.00 points.",
        "One level less takes 2,204 B more flash and loses 0.12 points less.",
    ]
    assert by_name["low-rank"]["why"] == [
        "One level more loses 1.24 points ± 0.16, over --max-drop 1.00 points (predicted)."
    ]
    more = by_name["quantize-mixed"]["alternatives"][0]
    assert more["change"]["flash_bytes"] == 48_806 - 29_284


def test_layers_say_what_was_known_of_them() -> None:
    layers = {row["name"]: row for row in explain_build(made())["layers"]}
    assert layers["/fc"]["bits"] == 4
    assert layers["/fc"]["why"] == ["4 bits lose 0.0012 alone and save 1,280 B; 3 bits would lose 0.02"]
    assert layers["/side"]["state"] == "joined"
    assert "/pool" not in layers


def test_a_build_that_was_not_searched_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "build", made())
    assert irshrink("explain", folder) == 0
    text = capsys.readouterr().out
    assert "Nothing was searched. The recipe says int8: no alternatives were tried." in text
    assert "/fc: 4 bits lose 0.0012 alone" in text
    assert irshrink("explain", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == []


def test_explain_without_data_takes_builds_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "build", made(example_plan()))
    assert irshrink("explain", folder) == 0
    assert "  One level more loses 1.08 points" in capsys.readouterr().out
    for arguments, told in (
        ((tmp_path / "net.onnx",), "To measure a model give samples with --input."),
        ((folder, "--float", "net.onnx"), "--float needs samples"),
        ((folder, "--out", "page.html"), "--out needs samples"),
    ):
        assert irshrink("explain", *arguments) == 1
        assert told in capsys.readouterr().err
