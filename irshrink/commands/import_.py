"""``irshrink import``: a model of another framework as ONNX, and nothing else done to it."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.console import echo, plural, print_json, progress


@click.command("import", short_help="Turn a model of another framework into ONNX.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option(
    "--frontend",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the format that it comes in. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_command(*, model: Path, out: Path, frontend: tuple[str, ...], as_json: bool) -> None:
    """Write MODEL (Keras, SavedModel, PyTorch .pt2, Caffe and more: docs/frontends.md) as ONNX."""
    from irshrink.frontends.options import parse_option
    from irshrink.frontends.read import read_model

    options = dict(parse_option(text) for text in frontend)
    with progress("import") as step:
        module, imported = read_model(model, options, step)
        module.save(out)
    if as_json:
        facts = {"out": str(out), "format": imported.frontend.title, "nodes": len(module.graph)}
        print_json({**facts, "converter": dict(sorted(imported.versions.items()))})
        return
    made = ", ".join(f"{name} {version}" for name, version in imported.versions.items())
    echo(f"{imported.frontend.title}: {plural(len(module.graph), 'node')} written to {out}")
    if made:
        echo(f"converted with {made}")
