"""``irshrink inspect``: what is in a model, and what a target would make of it."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.console import echo, print_json


@click.command("inspect", short_help="Show what is in a model and what a target makes of it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-t", "--target", metavar="NAME", help="Say what would run in integer, in float, or not at all."
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Static shape of an input. Repeatable."
)
@click.option(
    "--frontend",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the format that it comes in. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_command(
    *, model: Path, target: str | None, shapes: tuple[str, ...], frontend: tuple[str, ...], as_json: bool
) -> None:
    """Show operators, parameters, multiply-accumulates and shapes of MODEL."""
    from irshrink.frontends.options import parse_option
    from irshrink.inspect import inspect_model, render
    from irshrink.shapes import parse_one_set

    result = inspect_model(
        model,
        target=target,
        shapes=parse_one_set(shapes),
        frontend=dict(parse_option(text) for text in frontend),
    )
    if as_json:
        print_json(result)
        return
    echo(render(result))
