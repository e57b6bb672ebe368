"""``irshrink diff``: how two models differ, in structure and in numbers."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json


@click.command("diff", short_help="Compare two models: structure and numbers.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "data",
    metavar="DATA",
    type=click.Path(path_type=Path),
    help="Samples to run both on, as for compile. Default: random ones, in the range that a model quantizes "
    "to.",
)
@data_options
@click.option(
    "--samples", default=8, show_default=True, type=click.IntRange(min=1), metavar="N", help="How many."
)
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Of the random values.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Static shape of an input. Repeatable."
)
@click.option("--text", "with_text", is_flag=True, help="Print the line-by-line difference of the graphs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff_command(
    *,
    a: Path,
    b: Path,
    data: Path | None,
    images: tuple[str, ...],
    csv: tuple[str, ...],
    audio: tuple[str, ...],
    samples: int,
    seed: int,
    shapes: tuple[str, ...],
    with_text: bool,
    as_json: bool,
) -> None:
    """Compare the models A and B: operators, weights, graph text, and outputs in ONNX Runtime."""
    from irshrink.declared import parse_declared, reading_of
    from irshrink.diff import diff_models, render
    from irshrink.shapes import parse_one_set

    static = parse_one_set(shapes)
    reading = reading_of(parse_declared({"images": images, "csv": csv, "audio": audio}), "command line")
    result = diff_models(a, b, data=data, reading=reading, samples=samples, seed=seed, shapes=static)
    if as_json:
        print_json(result)
        return
    echo(render(result, with_text=with_text))
