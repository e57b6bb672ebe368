"""``irshrink compile``: a model in, a checked C library out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irshrink.commands.recipe import arguments_of, search_options
from irshrink.console import echo, print_json, progress, warn

if TYPE_CHECKING:
    from irshrink.lock import Lock


@click.command("compile", short_help="Compile a model into a checked C library.")
@search_options("report")
@click.option(
    "--timings",
    is_flag=True,
    help="Write the seconds of every pass into report.json (no longer reproducible).",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what was promised as a JUnit report, whether it was kept or not.",
)
def compile_command(
    *,
    model: Path,
    out: Path,
    timings: bool,
    junit: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile MODEL into a C library and check it on the target or its emulator.

    MODEL is ONNX, or a model of another framework by its suffix: Keras, SavedModel, PyTorch .pt2, Caffe and
    more (docs/frontends.md).
    """
    arguments = arguments_of(options)
    lock = _lock_in(arguments["recipe"])
    from irshrink import api

    with progress("compile") as step, _told(junit, model) as tell:
        report = api.compile(model, out, force=force, timings=timings, progress=step, **arguments)
        tell(report)
    if lock is not None:
        _warn_of_differences(lock, out)
    if as_json:
        print_json(report)
        return
    from irshrink.report.summary import summary

    echo(summary(report, out))


@contextmanager
def _told(junit: Path | None, model: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write the JUnit report of a build, or of the reason that there is none."""
    from irshrink.errors import IrshrinkError
    from irshrink.files import write_text
    from irshrink.report.junit import junit_of_error, junit_of_report

    texts: list[str] = []
    try:
        yield lambda report: texts.append(junit_of_report(report, model.stem))
    except IrshrinkError as e:
        texts.append(junit_of_error(e, model.stem))
        raise
    finally:
        if junit is not None and texts:
            write_text(junit, texts[0])


def _lock_in(file: Path | None) -> Lock | None:
    """The lock that a recipe file is, if it is one; ``out`` may be where it lies."""
    from irshrink.lock import read_lock

    return None if file is None else read_lock(file)


def _warn_of_differences(lock: Lock, out: Path) -> None:
    from irshrink.lock import LOCK_NAME, differences, read_lock

    new = read_lock(out / LOCK_NAME)
    for sentence in differences(lock, new) if new is not None else ():
        warn(f"{sentence}; the bytes may differ.")
