"""``irshrink explain``: what a build decided; with data, where a model loses, why, and what would help."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.commands.data import data_options
from irshrink.console import echo, print_json, progress


@click.command("explain", short_help="Say what a build decided, or where a quantized model loses, and why.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--input",
    "data",
    metavar="DATA",
    type=click.Path(path_type=Path),
    help="Samples like those that it was calibrated on, as for compile: a file, or a folder of images or "
    "recordings. Without them the decisions of a build are explained.",
)
@click.option(
    "-f",
    "--float",
    "floats",
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="The model that was quantized. Without it what the rounding of weights lost cannot be told.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a page with all layers, as HTML.",
)
@click.option(
    "--samples",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Use at most N samples, at even distances.",
)
@click.option(
    "--layers",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Layers in the table.",
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Static shape of an input. Repeatable."
)
@data_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(
    *,
    model: Path,
    data: Path | None,
    floats: Path | None,
    out: Path | None,
    samples: int,
    layers: int,
    shapes: tuple[str, ...],
    images: tuple[str, ...],
    csv: tuple[str, ...],
    audio: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what the build MODEL decided and why; with --input, where a quantized MODEL loses and why.

    Without --input: each decision and what its alternatives would do, and what was done to each layer. With
    it every layer of MODEL, a build or a file made by any quantizer, is measured: signal-to-noise ratios are
    of each layer alone and of the model up to there; causes are ranked by what their remedy buys.
    """
    if data is None:
        _explain_decisions(model, floats, out, layers, as_json)
        return
    from irshrink.declared import parse_declared, reading_of
    from irshrink.explain.explain import explain_model
    from irshrink.explain.page import write_page
    from irshrink.explain.text import render
    from irshrink.shapes import parse_one_set

    declared = parse_declared({"images": images, "csv": csv, "audio": audio})
    with progress("explain") as step:
        result = explain_model(
            model,
            data,
            floats=floats,
            shapes=parse_one_set(shapes),
            **reading_of(declared, "command line"),
            most=samples,
            progress=step,
        )
    if out is not None:
        write_page(result, out)
    print_json(result) if as_json else echo(render(result, layers))
    if out is not None and not as_json:
        echo(f"written to {out}")


def _explain_decisions(
    build: Path, floats: Path | None, out: Path | None, layers: int, as_json: bool
) -> None:
    """
    Raises:
        UserError: it is no build, or an option needs data.
    """
    from irshrink.errors import UserError
    from irshrink.explain.decisions import explain_build
    from irshrink.explain.decisions_text import render_decisions
    from irshrink.report.read import is_build, read_report

    if not (is_build(build) or build.suffix == ".json"):
        raise UserError(
            f"{build}: not a folder that `irshrink compile` wrote. To measure a model give samples with "
            "--input."
        )
    if floats is not None:
        raise UserError("--float needs samples: give them with --input.")
    if out is not None:
        raise UserError(
            "--out needs samples: give them with --input. The page of a build is written by `irshrink report "
            "BUILD --out page.html`."
        )
    report = read_report(build)
    result = explain_build(report)
    print_json(result) if as_json else echo(render_decisions(result, report["plan"], layers))
