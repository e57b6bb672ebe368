"""The options that make a recipe, and how they are read: what `compile`, `plan` and `tune` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from irshrink.commands.data import DATA_OPTIONS
from irshrink.shorthands import SHORTHANDS, Objective

if TYPE_CHECKING:
    from irshrink.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
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
    click.option(
        "--objective",
        type=click.Choice(get_args(Objective)),
        help="What to be best at within the budgets: what the recipe leaves open is then found by trying "
        "(docs/planning.md).",
    ),
    click.option(
        "--knob",
        "knobs",
        multiple=True,
        metavar="NAME",
        help="Search nothing but this: prune-channels, low-rank, quantize-mixed, ... Repeatable.",
    ),
    click.option(
        "--evaluations", type=int, metavar="N", help="Plans to try. Default: what suits the model's size."
    ),
    click.option(
        "--fit",
        type=int,
        metavar="N",
        help="Fit to N of the calibration samples; where a plan is searched, the others judge it.",
    ),
    click.option("--flash", metavar="SIZE", help="Flash limit: 256K, 1M. Exit code 2 when missed."),
    click.option("--ram", metavar="SIZE", help="RAM limit: 64K. Exit code 2 when missed."),
    click.option(
        "--instructions",
        metavar="N",
        help="Most instructions of an inference: 3M. Exit code 2 when missed.",
    ),
    click.option(
        "--latency",
        metavar="TIME",
        help="Longest inference on this machine, for target host: 20ms. Exit code 2 when missed.",
    ),
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
)


def keys_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a recipe that options stand for; those that were not given are left out.

    Raises:
        RecipeError: a text that is no shape, table or option of a format.
    """
    from irshrink.declared import TABLES, parse_declared
    from irshrink.frontends.options import parse_option
    from irshrink.shapes import parse_shapes

    given = dict(options)
    shapes, variants = parse_shapes(given.pop("shapes"))
    declared = parse_declared({table: given.pop(table, ()) for table in TABLES})
    frontend = dict(parse_option(text) for text in given.pop("frontend"))
    lists = {key: given.pop(key, ()) for key in ("keep_float", "knobs")}
    keys = {key.rstrip("_"): value for key, value in given.items() if value is not None}
    keys |= {"shapes": shapes, "variants": variants} if shapes or variants else {}
    keys |= declared
    keys |= {"frontend": frontend} if frontend else {}
    keys |= {key: value for key, value in lists.items() if value}
    return keys


def read_recipe(file: Path | None, options: Mapping[str, Any]) -> Recipe:
    """The recipe file, if any, under the options that were given.

    Raises:
        RecipeError, TargetError: see :func:`irshrink.recipe.make_recipe`.
    """
    from irshrink.recipe import load_recipe, make_recipe

    keys = keys_of(options)
    return make_recipe(keys, "command line") if file is None else load_recipe(file, keys)


_SEARCH_OPTIONS = (
    click.option(
        "--processes",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Plans to try at a time. Default: as many as there are cores.",
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Try plans on a Dask cluster: the address of its scheduler, or local:N.",
    ),
    click.option(
        "--journal",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Where is remembered what was tried. Default: in the user's cache.",
    ),
)


def search_options(printed: str) -> Callable[[F], F]:
    """Give a command what ``compile`` and ``plan`` have in common.

    That is ``model``, ``out``, ``force``, ``as_json``, and what :func:`arguments_of` reads.

    Args:
        printed: what ``--json`` prints.
    """
    path = click.Path(path_type=Path)
    both = (
        click.argument("model", type=path),
        *_OPTIONS,
        *_SEARCH_OPTIONS,
        click.option("-o", "--out", type=path, required=True, help="Output folder."),
        click.option(
            "--force", is_flag=True, help="Replace the content of the output folder, whatever it is."
        ),
        click.option(
            "--json", "as_json", is_flag=True, help=f"Print the {printed} as JSON and nothing else."
        ),
    )

    def decorate(function: F) -> F:
        for option in reversed(both):
            function = option(function)
        return function

    return decorate


def arguments_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``irshrink.compile`` and ``irshrink.plan`` are called with: a recipe, its keys, and who searches.

    Raises:
        RecipeError: see :func:`keys_of`.
    """
    searching = {key: options[key] for key in ("processes", "cluster", "journal")}
    keys = {key: value for key, value in options.items() if key not in (*searching, "recipe_file")}
    return {"recipe": options["recipe_file"], **searching, **keys_of(keys)}
