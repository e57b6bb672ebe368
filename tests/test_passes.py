"""Runs the literate tests, and sees to it that a pass, its table line and its test come together."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from irshrink.passes import BUILTIN_PASSES
from irshrink.pipeline import Pass
from irshrink.registry import make_pass, pass_class
from irshrink.testing import Case, check_case, read_cases, updated_text

FOLDER = Path(__file__).parent / "passes"
PASSES = Path(__file__).parents[1] / "passes"
FILES = sorted(FOLDER.glob("*.md"))
CASES = [case for file in FILES for case in read_cases(file)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_literate(case: Case, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-literate"):
        case.path.write_text(updated_text(case.path), encoding="utf-8")
        return
    check_case(case)


def test_every_pass_has_a_literate_test_and_the_other_way_round() -> None:
    assert sorted(BUILTIN_PASSES) == sorted(file.stem for file in FILES)
    assert {case.pass_name for case in CASES} == set(BUILTIN_PASSES)


def test_every_pass_class_is_in_the_table() -> None:
    found = {
        f"irshrink.{'.'.join(file.relative_to(PASSES.parent).with_suffix('').parts)}:{name}"
        for file in sorted(PASSES.rglob("*.py"))
        for name in _pass_classes(file)
    }
    assert found == set(BUILTIN_PASSES.values())


@pytest.mark.parametrize("name", sorted(BUILTIN_PASSES))
def test_a_pass_keeps_the_protocol(name: str) -> None:
    cls = pass_class(name)
    step = make_pass(name)
    assert isinstance(step, Pass)
    assert step.name == name
    assert cls.__doc__, "the class says in a sentence what it does: the command line shows it"
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _pass_classes(file: Path) -> list[str]:
    """Classes that declare ``lossy``: only passes do."""
    names = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            fields = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            if any(isinstance(target, ast.Name) and target.id == "lossy" for target in fields):
                names.append(node.name)
    return names
