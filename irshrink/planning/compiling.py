"""A compilation whose recipe leaves something open: search what, then compile that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from irshrink.console import Progress
from irshrink.errors import AccuracyError, BudgetError, RecipeError
from irshrink.files import why_no_file
from irshrink.planning import answer
from irshrink.planning.plan import Plan
from irshrink.planning.search import Found, search_plan
from irshrink.recipe import Recipe

PLAN_NAME = "plan.json"
#: Builds of plans that were predicted to fit and did not, before the search is called failed.
_BUILDS = 3

Report = dict[str, Any]
Build = Callable[[Recipe, Plan | None], Report]


@dataclass(frozen=True)
class Searching:
    """How plans are tried; nothing of it changes what is found.

    Attributes:
        processes: how many at a time; 0 for as many as there are cores.
        cluster: of Dask, in place of processes: a scheduler's address, or ``local:N``.
        folder: where is remembered what was tried; by default in the user's cache.
    """

    processes: int = 1
    cluster: str | None = None
    folder: Path | None = None


def is_open(recipe: Recipe) -> bool:
    """Whether a recipe without an objective says nothing about how its budgets are to be kept."""
    decided = (recipe.quantize, recipe.steps, recipe.prune, recipe.low_rank, recipe.sparsity)
    stated = (recipe.max_drop, recipe.max_size, recipe.flash, recipe.ram, recipe.instructions)
    undecided = all(one is None for one in decided) and not recipe.variants and not recipe.keep_float
    return undecided and recipe.calibration is not None and any(one is not None for one in stated)


def compile_planned(
    build: Build, model: Path, recipe: Recipe, searching: Searching, progress: Progress
) -> Report:
    """Build what a search finds. Without an objective int8 is tried first, which may do.

    Raises:
        BudgetError: no plan keeps the budgets; the message says what is nearest and what would help.
        IrshrinkError: whatever building raises.
    """
    missed: BudgetError | None = None
    if recipe.objective is None:
        try:
            return build(recipe, None)
        except BudgetError as e:
            progress(f"int8 does not do: {e}")
            missed = e
    try:
        found = search_plan(
            model,
            recipe,
            processes=searching.processes,
            cluster=searching.cluster,
            folder=searching.folder,
            progress=progress,
        )
    except RecipeError as e:
        if missed is None:
            raise
        raise BudgetError(f"{missed} No plan was searched: {e}") from e
    for _ in range(_BUILDS):
        found.require_met()
        try:
            return build(found.recipe, found.plan)
        except AccuracyError as e:
            raise AccuracyError(_on_other_data(str(e), found.plan)) from e
        except BudgetError as e:
            missed, found = e, found.without_chosen(str(e))
    assert missed is not None, "every turn returns or misses something"
    raise missed


def _on_other_data(message: str, plan: Plan) -> str:
    figures = answer.figures_of(plan.evaluations[plan.chosen])
    return (
        f"{message} The plan lost {answer.shown('drop', figures.drop, plan)} on the {plan.judged_on:,} "
        "samples that judged it: are these samples that the model was trained on, or too few? Give others as "
        "--calibration, or search with a smaller --max-drop."
    )


def plain_plan(plan: Plan) -> dict[str, Any]:
    """``plan`` of the report's schema; the same of a plan just found and of one that was read."""
    read = msgspec.convert(msgspec.to_builtins(plan), Plan)  # whole numbers where floats belong are floats
    found: dict[str, Any] = msgspec.to_builtins(read)
    return found


def plan_text(plan: Plan) -> str:
    """The content of ``plan.json``."""
    return msgspec.json.format(msgspec.json.encode(plain_plan(plan)), indent=2).decode("utf-8") + "\n"


def read_plan(path: Path) -> Plan:
    """
    Raises:
        RecipeError: no such file, or no plan of this version of irshrink.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: {why_no_file(path)}. Give a plan.json of irshrink.")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path}: is no plan of this version of irshrink: {e}.") from e


__all__ = [
    "PLAN_NAME",
    "Found",
    "Searching",
    "compile_planned",
    "is_open",
    "plain_plan",
    "plan_text",
    "read_plan",
]
