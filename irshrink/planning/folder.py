"""What ``irshrink plan`` writes: the plan, and a recipe that a person can edit and compile."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from irshrink.errors import OutputError
from irshrink.files import write_text
from irshrink.frontends.options import seen_from
from irshrink.output import fresh_folder, require_replaceable
from irshrink.planning import answer
from irshrink.planning.compiling import PLAN_NAME, plain_plan, plan_text
from irshrink.planning.plan import Plan
from irshrink.planning.search import Found
from irshrink.recipe import Recipe
from irshrink.report.page import render_plan_page

RECIPE_NAME, PAGE_NAME = "recipe.toml", "plan.html"
#: What an earlier plan is recognized by.
_MARKS, _WHAT = (PLAN_NAME, RECIPE_NAME), "plan"
_SEAL = "# irshrink plan, as it was written: "


def require_room(out: Path, force: bool = False) -> None:
    """Check before any work that :func:`write_plan` may fill ``out``.

    Raises:
        OutputError: it holds something else, or an earlier plan whose recipe somebody has edited.
    """
    require_replaceable(out, force, _MARKS, _WHAT)
    recipe = out / RECIPE_NAME
    if not force and recipe.is_file() and _is_edited(recipe):
        raise OutputError(
            f"{recipe}: was edited since irshrink wrote it. Choose another folder with -o, or replace it "
            "with --force."
        )


def write_plan(found: Found, out: Path, title: str, *, force: bool = False) -> None:
    """Write plan, page and recipe into ``out``, which appears complete or not at all.

    Args:
        title: what the page calls the model.

    Raises:
        OutputError: see :func:`require_room`.
    """
    require_room(out, force)
    with fresh_folder(out, force, _MARKS, _WHAT) as folder:
        write_text(folder / PLAN_NAME, plan_text(found.plan))
        write_text(folder / PAGE_NAME, render_plan_page(plain_plan(found.plan), title))
        write_text(folder / RECIPE_NAME, recipe_text(found, out))


def recipe_text(found: Found, out: Path) -> str:
    """The recipe of a plan for the folder ``out``, with what was decided as comments."""
    body = "\n".join([*map(_comment, _remarks(found.plan, out)), "", _beside(found.recipe, out).to_toml()])
    return f"{_SEAL}{_digest(body)}\n{body}"


def _remarks(plan: Plan, out: Path) -> list[str]:
    chosen = plan.evaluations[plan.chosen]
    decided = [
        f"  {knob.title}: {knob.options[knob.chosen - 1].label}" if knob.chosen else f"  {knob.title}: off"
        for knob in plan.knobs
    ]
    figures = answer.figures_of(chosen)
    verdict = "It keeps its budgets." if plan.met else f"It misses them: {answer.sentence(plan)}"
    return [
        f"Plan {plan.chosen} of {len(plan.evaluations)} that were tried. Objective: {plan.objective}.",
        verdict,
        f"It loses {answer.shown('drop', figures.drop, plan)} on the {plan.judged_on:,} samples that judged.",
        *decided,
        f"Edit a line and compile it: irshrink compile MODEL -r {(out / RECIPE_NAME).as_posix()} -o build/",
    ]


def _comment(line: str) -> str:
    return f"# {' '.join(line.splitlines())}"


def _beside(recipe: Recipe, out: Path) -> Recipe:
    """With paths relative to the folder that the recipe is in, as recipes have them."""

    def relative(path: str | None) -> str | None:
        return None if path is None else Path(os.path.relpath(path, out)).as_posix()

    metric = recipe.metric
    if metric is not None and ":" in metric:
        file, _, function = metric.rpartition(":")
        metric = f"{relative(file)}:{function}"
    return msgspec.structs.replace(
        recipe,
        calibration=relative(recipe.calibration),
        eval=relative(recipe.eval),
        schedules=relative(recipe.schedules),
        metric=metric,
        frontend=seen_from(recipe.frontend, out),
    )


def _is_edited(recipe: Path) -> bool:
    first, _, body = recipe.read_text("utf-8", errors="replace").partition("\n")
    return not first.startswith(_SEAL) or first.removeprefix(_SEAL) != _digest(body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
