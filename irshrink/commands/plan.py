"""``irshrink plan``: budgets in, a recipe out that keeps them. Nothing is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from irshrink.commands.recipe import arguments_of, search_options
from irshrink.console import echo, print_json, progress


@click.command("plan", short_help="Search the recipe that keeps budgets.")
@search_options("plan")
def plan_command(*, model: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Search how to compress MODEL within budgets, and write OUT/recipe.toml and OUT/plan.json.

    Where no plan keeps the budgets, the nearest one is written, and the exit code is 2. Stopped at any time,
    the search goes on where it was.

    \b
    irshrink plan model.onnx --target cortex-m4 -c samples.npz --max-drop 1% --objective smallest -o plan/
    irshrink compile model.onnx --recipe plan/recipe.toml -o build/
    """
    arguments = arguments_of(options)
    from irshrink import api
    from irshrink.planning.compiling import plain_plan
    from irshrink.planning.folder import RECIPE_NAME, require_room, write_plan
    from irshrink.report.plan_summary import plan_summary

    require_room(out, force)
    with progress("plan") as step:
        found = api.plan(model, progress=step, **arguments)
    write_plan(found, out, model.stem, force=force)
    told = plain_plan(found.plan)
    if as_json:
        print_json(told)
    else:
        echo(plan_summary(told))
        echo(f"\nwritten to {out}; irshrink compile {model} --recipe {out / RECIPE_NAME} -o build")
    found.require_met()
