"""``irshrink run``: a finished build on some inputs, every byte checked."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json, progress


@click.command("run", short_help="Run a build and check every output byte.")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "data",
    required=True,
    metavar="DATA",
    type=click.Path(path_type=Path),
    help="Inputs: .npz, arrays named like the model's inputs, first axis the samples; or .csv, or a folder "
    "of images or recordings, read as the build's recipe declares.",
)
@data_options
@click.option(
    "--stored", is_flag=True, help="The inputs are quantized already: int8 as the build stores them."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the outputs as .npz, as the build stores them.",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Threads of an inference, of those it was compiled for. Default: 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_command(
    *,
    build: Path,
    data: Path,
    images: tuple[str, ...],
    csv: tuple[str, ...],
    audio: tuple[str, ...],
    stored: bool,
    output: Path | None,
    samples: int | None,
    threads: int,
    as_json: bool,
) -> None:
    """Run the build in folder BUILD and compare every output byte with the NumPy reference.

    A build for another machine runs in an emulator, which counts instructions and stack; Linux on Arm and
    RISC-V, and Cortex-M55, need QEMU for that. A build for this kind of machine runs natively.
    """
    from irshrink.declared import parse_declared
    from irshrink.execute import execute, render

    declared = parse_declared({"images": images, "csv": csv, "audio": audio})
    with progress("run") as step:
        result = execute(
            build,
            data,
            output=output,
            samples=samples,
            stored=stored,
            threads=threads,
            declared=declared,
            progress=step,
        )
    print_json(result) if as_json else echo(render(result))
