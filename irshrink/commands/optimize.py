"""``irshrink optimize``: ONNX in, cleaned-up and perhaps quantized ONNX out."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json, progress


@click.command("optimize", short_help="Clean up a model, run passes, and write it as ONNX.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option(
    "--pass",
    "passes",
    multiple=True,
    metavar="'NAME [KEY=VALUE...]'",
    help="Run this pass after cleanup; see `irshrink passes`. Repeatable.",
)
@click.option("--no-cleanup", is_flag=True, help="Run the given passes only.")
@click.option(
    "-c", "--calibration", metavar="DATA", help="Samples for passes that look at data, as for compile."
)
@data_options
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Static shape of an input. Repeatable."
)
@click.option(
    "--verify", is_flag=True, help="Run the model after every pass that must not change its outputs."
)
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Of everything random.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def optimize_command(
    *,
    model: Path,
    out: Path,
    passes: tuple[str, ...],
    no_cleanup: bool,
    calibration: str | None,
    images: tuple[str, ...],
    csv: tuple[str, ...],
    audio: tuple[str, ...],
    shapes: tuple[str, ...],
    verify: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Clean up MODEL, run passes on it, and write ONNX that any runtime takes. Nothing is compiled.

    \b
    irshrink optimize large.onnx --pass quantize-weights-int8 -o small.onnx
    """
    from irshrink.declared import parse_declared, reading_of
    from irshrink.optimize import optimize_model, parse_pass, render
    from irshrink.registry import make_pass
    from irshrink.shapes import parse_one_set

    steps = [make_pass(*parse_pass(text)) for text in passes]
    declared = parse_declared({"images": images, "csv": csv, "audio": audio})
    with progress("optimize") as step:
        facts = optimize_model(
            model,
            out,
            steps,
            cleanup=not no_cleanup,
            shapes=parse_one_set(shapes),
            calibration=calibration,
            reading=reading_of(declared, "command line"),
            verify=verify,
            seed=seed,
            progress=step,
        )
    if as_json:
        print_json(facts)
        return
    echo(render(facts))
