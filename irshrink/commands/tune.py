"""``irshrink tune``: a model in, a database of measured schedules out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json, progress

if TYPE_CHECKING:
    from irshrink.tuning.costs import CostSource


@click.command("tune", short_help="Measure kernel schedules for a model's layers.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", metavar="NAME", help="Target, board, or a TOML file; see `irshrink targets`.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Database to write (.toml)."
)
@click.option(
    "-c", "--calibration", metavar="DATA", help="Samples to choose int8 scales with, as for compile."
)
@click.option(
    "-r",
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path),
    help="Recipe or recipe.lock of the build.",
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Static shape of an input. Repeatable."
)
@data_options
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Builds per workload; in the emulator each measures up to 24 schedules.",
)
@click.option(
    "--time-limit", metavar="TIME", help="Stop after 90s, 20m or 2h. Default: when all trials are done."
)
@click.option(
    "--cost",
    type=click.Choice(["instructions", "cycles", "llvm-mca", "seconds"]),
    help="What to measure: instructions in the emulator (default where there is one), those weighted by the "
    "core's manual or by LLVM's model of its pipeline (estimated cycles), or seconds on this machine "
    "(default there).",
)
@click.option(
    "--runner",
    metavar="COMMAND",
    help="Measure by a command: it gets the folder of a C package and prints its cost as the last number.",
)
@click.option(
    "--slack",
    metavar="PERCENT",
    help="How much more a layer may cost than its best, to save code. Default: 1% on microcontrollers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tune_command(
    *,
    model: Path,
    target: str | None,
    out: Path,
    calibration: str | None,
    recipe_file: Path | None,
    shapes: tuple[str, ...],
    images: tuple[str, ...],
    csv: tuple[str, ...],
    audio: tuple[str, ...],
    trials: int,
    time_limit: str | None,
    cost: str | None,
    runner: str | None,
    slack: str | None,
    as_json: bool,
) -> None:
    """Measure how each layer of MODEL is computed best, and write a database for `irshrink compile`.

    Stopped at any time, it goes on where it was: what was measured is in OUT.journal.

    \b
    irshrink tune model.onnx --target cortex-m4 -c samples.npz -o schedules.toml
    irshrink compile model.onnx --target cortex-m4 -c samples.npz --schedules schedules.toml -o build/
    """
    from irshrink.commands.recipe import read_recipe
    from irshrink.tune import render, tune_model
    from irshrink.tuning.session import Limits, parse_duration, parse_slack

    declared = {"images": images, "csv": csv, "audio": audio}
    given = {"target": target, "calibration": calibration, "shapes": shapes, **declared}
    recipe = read_recipe(recipe_file, {**given, "frontend": (), "keep_float": ()})
    limits = Limits(trials, None if time_limit is None else parse_duration(time_limit))
    source = _source(cost, runner, recipe.target)
    with progress("tune") as step:
        saved = None if slack is None else parse_slack(slack)
        facts = tune_model(model, recipe, out, source, limits, slack=saved, progress=step)
    if as_json:
        print_json(facts)
        return
    echo(render(facts))


def _source(cost: str | None, runner: str | None, target: str) -> CostSource:
    from irshrink.errors import RecipeError
    from irshrink.target import load_target
    from irshrink.tuning.costs import Command, Cycles, Instructions, Seconds
    from irshrink.tuning.mca import LlvmMca

    if runner is not None and cost is not None:
        raise RecipeError("--runner measures by itself. Leave --cost out.")
    if runner is not None:
        return Command(runner)
    if cost is None:
        return Instructions() if load_target(target).emulation is not None else Seconds()
    sources: dict[str, type[CostSource]] = {
        "instructions": Instructions,
        "cycles": Cycles,
        "llvm-mca": LlvmMca,
        "seconds": Seconds,
    }
    return sources[cost]()
