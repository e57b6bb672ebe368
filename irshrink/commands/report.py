"""``irshrink report``: what a build or a plan says of itself, on the terminal or as a page."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.console import echo, print_json


@click.command("report", short_help="Show what a build or a plan says of itself.")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the page again, as HTML, instead of printing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (irshrink/report/schema.json).")
def report_command(*, build: Path, out: Path | None, as_json: bool) -> None:
    """Print the summary of BUILD: a folder that `irshrink compile` wrote, its report.json, or a plan.json.

    The page is made from the file alone: no network, no script, the same bytes each time.
    """
    from irshrink.files import write_text
    from irshrink.report.read import read_either

    found = read_either(build)
    plan = "evaluations" in found
    if out is not None:
        from irshrink.report.page import render_page, render_plan_page

        write_text(out, render_plan_page(found, build.stem) if plan else render_page(found))
    if as_json:
        print_json(found)
    elif out is not None:
        echo(f"written to {out}")
    else:
        from irshrink.report.plan_summary import plan_summary
        from irshrink.report.summary import summary

        echo(plan_summary(found) if plan else summary(found, None))
