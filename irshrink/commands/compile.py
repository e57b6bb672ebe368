"""``irshrink compile``: a model in, a checked C library out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from irshrink.commands.data import DATA_OPTIONS
from irshrink.console import echo, print_json, progress, warn
from irshrink.shorthands import SHORTHANDS

if TYPE_CHECKING:
    from irshrink.lock import Lock
    from irshrink.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.option(
        "-t", "--target", metavar="NAME", help="Target, board, or a TOML file; see `irshrink targets`."
    ),
    click.option(
        "-c",
        "--calibration",
        metavar="DATA",
        help="Samples to choose int8 scales with: .npz or .csv, or a folder of images or recordings (with "
        "--image or --audio); docs/data.md.",
    ),
    click.option(
        "-e",
        "--eval",
        "eval_",
        metavar="DATA",
        help="Samples to measure accuracy with; array `y` holds class labels, if there are any.",
    ),
    click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Output folder."),
    click.option(
        "-r",
        "--recipe",
        "recipe_file",
        type=click.Path(path_type=Path),
        help="Recipe or recipe.lock; options given here win.",
    ),
    click.option(
        "-q",
        "--quantize",
        type=click.Choice(list(SHORTHANDS)),
        help="How weights and activations are stored: docs/quantization.md. Default: int8 with calibration "
        "data, none without.",
    ),
    click.option(
        "--prune",
        metavar="SHARE",
        help="Share of the multiplications that go, with whole channels; the rest makes up for them, without "
        "training: 30% or 0.3 (docs/pruning.md).",
    ),
    click.option(
        "--low-rank",
        metavar="ERROR",
        help="Layers become products of smaller ones while the outputs stay within this relative error: "
        "auto, 5% or 0.05 (docs/low-rank.md).",
    ),
    click.option(
        "--sparsity",
        metavar="SHARE",
        help="Share of the weights that become 0 and are left out of the file: 70% or 0.7 (docs/pruning.md).",
    ),
    click.option(
        "--keep-float",
        multiple=True,
        metavar="PATTERN",
        help="Keep nodes in float32: a name, a pattern ('/head/*'), or an operator. Repeatable.",
    ),
    click.option(
        "--max-drop",
        metavar="DROP",
        help="Largest accepted loss of accuracy: 1% or 0.01, or '1% relative'. Exit code 2 when missed.",
    ),
    click.option(
        "--metric",
        metavar="NAME",
        help="What accuracy is: top-1, top-5, auc, f1, mae, kl, cosine, agreement, or file.py:function "
        "(docs/metrics.md). Default: what fits the labels and the model.",
    ),
    click.option(
        "--max-size",
        metavar="SIZE",
        help="Largest accepted ONNX model: 3M, 500K. Exit code 2 when missed.",
    ),
    click.option("--flash", metavar="SIZE", help="Flash limit: 256K, 1M. Exit code 2 when missed."),
    click.option("--ram", metavar="SIZE", help="RAM limit: 64K. Exit code 2 when missed."),
    click.option(
        "--memory",
        type=click.Choice(["fast", "small"]),
        help="small: the smallest arena, for some instructions. fast: as small as --ram asks for.",
    ),
    click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=DIMS",
        help="Static shape of an input: input=1,3,224,224. Repeatable; an input named again begins another "
        "variant of the model in the same library (docs/package.md).",
    ),
    click.option(
        "--frontend",
        "frontend",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of the format that the model comes in: weights=net.caffemodel, python=venv/bin/python, "
        "seconds=600; see docs/frontends.md. Repeatable.",
    ),
    *DATA_OPTIONS,
    click.option(
        "--io",
        type=click.Choice(["quantized", "float"]),
        help="Element type of the C function's inputs and outputs. Default: quantized.",
    ),
    click.option(
        "--requantize",
        type=click.Choice(["float32", "tflm"]),
        help="Arithmetic of int8 operators: irshrink's, or that of TensorFlow Lite Micro. Default: float32.",
    ),
    click.option(
        "--prefix",
        metavar="NAME",
        help="What C files, functions and macros begin with: NAME.h, NAME_run(). Default: model.",
    ),
    click.option("--schedules", metavar="FILE", help="Database of `irshrink tune` to choose kernels by."),
    click.option(
        "--threads",
        type=int,
        metavar="N",
        help="Threads that an inference can use at most, for Linux. Default: 1, a build without any.",
    ),
    click.option("--test-inputs", type=int, metavar="N", help="Samples in the test vector. Default: 4."),
    click.option("--seed", type=int, metavar="N", help="Seed of everything random. Default: 0."),
    click.option(
        "--verify",
        is_flag=True,
        default=None,
        help="Run the model after every pass that must not change its outputs, and compare.",
    ),
    click.option(
        "--timings",
        is_flag=True,
        help="Write the seconds of every pass into report.json (no longer reproducible).",
    ),
    click.option(
        "--junit",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write what was promised as a JUnit report, whether it was kept or not.",
    ),
    click.option("--force", is_flag=True, help="Replace the content of the output folder, whatever it is."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON and nothing else."),
]


def _with_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command("compile", short_help="Compile a model into a checked C library.")
@click.argument("model", type=click.Path(path_type=Path))
@_with_options
def compile_command(
    *,
    model: Path,
    out: Path,
    recipe_file: Path | None,
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
    from irshrink.output import require_replaceable

    require_replaceable(out, force)
    recipe = read_recipe(recipe_file, options)
    lock = _lock_to_replay(recipe_file, model, recipe.frontend)
    from irshrink.compiler import compile_model

    with progress("compile") as step, _told(junit, model) as tell:
        report = compile_model(model, recipe, out, force=force, timings=timings, progress=step)
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


def read_recipe(file: Path | None, options: dict[str, Any]) -> Recipe:
    """The recipe file, if any, under the options that were given.

    Raises:
        RecipeError, TargetError: see :func:`irshrink.recipe.make_recipe`.
    """
    from irshrink.declared import TABLES, parse_declared
    from irshrink.frontends.options import parse_option
    from irshrink.recipe import load_recipe, make_recipe
    from irshrink.shapes import parse_shapes

    given = dict(options)
    shapes, variants = parse_shapes(given.pop("shapes"))
    declared = parse_declared({table: given.pop(table, ()) for table in TABLES})
    frontend = dict(parse_option(text) for text in given.pop("frontend"))
    keep_float = given.pop("keep_float")
    overrides = {key.rstrip("_"): value for key, value in given.items() if value is not None}
    overrides |= {"shapes": shapes, "variants": variants} if shapes or variants else {}
    overrides |= declared
    overrides |= {"frontend": frontend} if frontend else {}
    overrides |= {"keep_float": keep_float} if keep_float else {}
    if file is None:
        return make_recipe(overrides, "command line")
    return load_recipe(file, overrides)


def _lock_to_replay(file: Path | None, model: Path, options: dict[str, str]) -> Lock | None:
    if file is None or not model.exists():
        return None
    from irshrink.frontends.convert import digest, model_files
    from irshrink.lock import read_lock, require_model

    lock = read_lock(file)
    if lock is not None:
        require_model(lock, file, digest(model, model_files(model, options)))
    return lock


def _warn_of_differences(lock: Lock, out: Path) -> None:
    from irshrink.lock import LOCK_NAME, differences, read_lock

    new = read_lock(out / LOCK_NAME)
    for sentence in differences(lock, new) if new is not None else ():
        warn(f"{sentence}; the bytes may differ.")
