"""``irshrink replay``: build again from a lock, and check that the bytes are the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from irshrink.console import echo, print_json, progress, warn


@click.command("replay", short_help="Build again from a lock and compare every byte.")
@click.argument("build", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-c", "--calibration", metavar="DATA", help="The calibration data of the build.")
@click.option("-e", "--eval", "eval_", metavar="DATA", help="The evaluation data of the build.")
@click.option("--metric", metavar="FILE:FUNCTION", help="The metric of the build, if it was a file.")
@click.option("--schedules", metavar="FILE", help="The database of schedules of the build.")
@click.option("--check", is_flag=True, help="End with exit code 4 when a byte differs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay_command(
    *,
    build: Path,
    model: Path,
    calibration: str | None,
    eval_: str | None,
    metric: str | None,
    schedules: str | None,
    check: bool,
    as_json: bool,
) -> None:
    """Compile MODEL again by the recipe.lock of the folder BUILD, and compare all files with those there.

    Nothing in BUILD is touched. The lock keeps digests of data, not the data: give it again.
    """
    from irshrink.errors import ReplayError
    from irshrink.replay import replay_build

    data = {"calibration": calibration, "eval": eval_, "metric": metric, "schedules": schedules}
    given = {key: value for key, value in data.items() if value is not None}
    with progress("replay") as step:
        found = replay_build(build, model, given, progress=step)
    if as_json:
        print_json({**dataclasses.asdict(found), "identical": found.identical})
    elif found.identical:
        echo(f"{found.files} files, every byte the same.")
    if found.identical:
        return
    for cause in found.causes:
        warn(f"{cause}.")
    sentence = found.sentence()
    if check:
        raise ReplayError(sentence)
    warn(sentence)
