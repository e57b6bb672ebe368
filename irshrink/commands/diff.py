"""``irshrink diff``: how two models, or two builds, differ in structure and in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json

if TYPE_CHECKING:
    from irshrink.samples import Reading


@click.command("diff", short_help="Compare two models or two builds: structure and numbers.")
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
    """Compare the models A and B: operators, weights, graph text, and outputs in ONNX Runtime.

    Of two folders that `irshrink compile` wrote, recipes, decisions, sizes, accuracy, instructions, layers
    and files are compared as well. A single such folder stands for the model in it.
    """
    from irshrink.declared import parse_declared, reading_of
    from irshrink.diff import diff_models, render
    from irshrink.explain.form import quantized_file
    from irshrink.report.read import is_build
    from irshrink.shapes import parse_one_set

    static = parse_one_set(shapes)
    reading = reading_of(parse_declared({"images": images, "csv": csv, "audio": audio}), "command line")
    if is_build(a) and is_build(b):
        _diff_builds(a, b, data, reading, samples, seed, bool(static), with_text, as_json)
        return
    a, b = quantized_file(a), quantized_file(b)
    result = diff_models(a, b, data=data, reading=reading, samples=samples, seed=seed, shapes=static)
    if as_json:
        print_json(result)
        return
    echo(render(result, with_text=with_text))


def _diff_builds(
    a: Path,
    b: Path,
    data: Path | None,
    reading: Reading | None,
    samples: int,
    seed: int,
    shaped: bool,
    with_text: bool,
    as_json: bool,
) -> None:
    """
    Raises:
        UserError: one is no build, or shapes are given, which builds have of their own.
    """
    from irshrink.diff_builds import diff_builds, render_builds
    from irshrink.errors import UserError

    if shaped:
        raise UserError("--shape is for models: builds have shapes of their own. Leave it out.")
    result = diff_builds(a, b, data=data, reading=reading, samples=samples, seed=seed)
    print_json(result) if as_json else echo(render_builds(result, with_text=with_text))
