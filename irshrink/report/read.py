"""Reading what builds and searches wrote, ``report.json`` and ``plan.json``, checked before it is used."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from irshrink.errors import UserError
from irshrink.files import why_no_file
from irshrink.report.fits import misfit
from irshrink.report.report import REPORT_NAME

PLAN_NAME = "plan.json"


def is_build(path: Path) -> bool:
    """Whether a path is a folder with a report."""
    return (path / REPORT_NAME).is_file()


def read_report(path: Path) -> dict[str, Any]:
    """The report of a build.

    Args:
        path: the folder, or its ``report.json``.

    Raises:
        UserError: there is none, or it is damaged or of another version.
    """
    if path.is_dir() and not is_build(path):
        raise UserError(
            f"{path}: not a folder that `irshrink compile` wrote (no {REPORT_NAME}). Give its --out folder."
        )
    found = read_either(path)
    if "evaluations" in found:
        raise UserError(f"{path}: is a plan, not a build. Give a folder that `irshrink compile` wrote.")
    return found


def read_either(path: Path) -> dict[str, Any]:
    """A report, or a plan that was written by itself: that has the key ``evaluations``.

    Args:
        path: a build, its ``report.json``, or a ``plan.json``.

    Raises:
        UserError: it is neither, or it is damaged or of another version.
    """
    file = _file(path)
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no JSON"
        raise UserError(f"{file}: cannot be read: {why}. Give a build, or a {PLAN_NAME}.") from e
    schema = _schema()
    plan = isinstance(found, dict) and "evaluations" in found
    wrong = misfit(found, schema["$defs"]["plan"] if plan else schema, schema)
    wrong = wrong or _inconsistent(found if plan else found["plan"]) or _broken_graph(found)
    if wrong is not None:
        kind = "plan" if plan else "report"
        raise UserError(f"{file}: no {kind} of this version of irshrink: {wrong}. Compile again.")
    return dict(found)


def _file(path: Path) -> Path:
    if path.is_dir():
        names = [name for name in (REPORT_NAME, PLAN_NAME) if (path / name).is_file()]
        if not names:
            raise UserError(
                f"{path}: holds no {REPORT_NAME} and no {PLAN_NAME}. Give a folder that irshrink wrote."
            )
        return path / names[0]
    if not path.is_file():
        raise UserError(f"{path}: {why_no_file(path)}. Give a build, or a {PLAN_NAME}.")
    return path


def _inconsistent(plan: dict[str, Any] | None) -> str | None:
    """An index or a name of a plan that leads nowhere."""
    if plan is None:
        return None
    number = len(plan["evaluations"])
    named = [*plan["frontier"], plan["chosen"], *(one["evaluation"] for one in plan["relaxations"])]
    if any(index >= number for index in named):
        return f"it names plan {max(named)} of {number}"
    if plan["evaluations"][plan["chosen"]]["figures"] is None:
        return "the plan that it chose was never measured"
    levels = {knob["knob"]: len(knob["options"]) for knob in plan["knobs"]}
    for one in plan["evaluations"]:
        for name, level in one["levels"].items():
            if level > levels.get(name, 0):
                return f"a plan has level {level} of '{name}', which has {levels.get(name, 0)}"
    for knob in plan["knobs"]:
        if any(one["level"] > len(knob["options"]) for one in knob["alternatives"]):
            return f"'{knob['knob']}' has more alternatives than levels"
    return None


def _broken_graph(found: dict[str, Any]) -> str | None:
    rows = found.get("graph", ())
    if any(source >= index for index, row in enumerate(rows) for source in row["inputs"]):
        return "a layer of its graph reads a later one"
    return None


@cache
def _schema() -> dict[str, Any]:
    text = (Path(__file__).parent / "schema.json").read_text("utf-8")
    return dict(json.loads(text))
