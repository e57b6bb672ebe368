"""What programs call, and the command line itself: ``irshrink.compile``.

Every key of a recipe (:class:`irshrink.recipe.Recipe`) is an argument, with the amounts that the command line
takes, ``flash="256K"``::

    report = irshrink.compile("kws.onnx", "build", target="cortex-m4", calibration={"input": samples})
    print(report["size"]["flash_bytes"])
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.compiler import compile_model
from irshrink.console import Progress
from irshrink.errors import RecipeError
from irshrink.frontends.convert import digest, model_files
from irshrink.lock import read_lock, require_model
from irshrink.recipe import Recipe, load_recipe, make_recipe

Arrays = Mapping[str, Any]

#: Keys that may be given as arrays by name, ``y`` the labels: they are read as an .npz file of them is.
_DATA = ("calibration", "eval")


def compile(
    model: Path | str,
    out: Path | str,
    *,
    recipe: Recipe | Path | str | None = None,
    force: bool = False,
    timings: bool = False,
    progress: Progress = lambda _: None,
    **keys: Any,
) -> dict[str, Any]:
    """Compile a model into the folder ``out`` and prove the build on its target or emulator.

    Args:
        model: ONNX, or any other format of docs/frontends.md.
        out: the output folder; appears complete or not at all.
        recipe: a recipe, or the path of one or of a ``recipe.lock``; ``keys`` win over it.
        force: replace ``out`` even when it is no earlier build.
        timings: write wall-clock seconds into ``report.json``, which makes it differ from run to run.
        progress: called with what is being done.
        keys: of the recipe: ``target="cortex-m4"``, ``max_drop="1%"``, ... ``calibration`` and ``eval`` are
            paths, or arrays by input name with the samples along the first axis.

    Returns:
        The report (``irshrink/report/schema.json``).

    Raises:
        UserError: the model, the data, the recipe or the folder; nothing was written.
        BudgetError: a budget is missed; nothing was written.
        ToolError: the compiler or the emulator.
    """
    with recipe_of(model, recipe, keys) as settled:
        return compile_model(model, settled, out, force=force, timings=timings, progress=progress)


@contextmanager
def recipe_of(
    model: Path | str, recipe: Recipe | Path | str | None, keys: Mapping[str, Any]
) -> Iterator[Recipe]:
    """The recipe under the keys that were given; arrays are files for as long as the block lasts.

    Raises:
        RecipeError: see :func:`irshrink.recipe.make_recipe`; or a lock of another model.
    """
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        given = {key: _plain(key, value, Path(scratch)) for key, value in keys.items() if value is not None}
        yield _settled(Path(model), recipe, given)


def _settled(model: Path, recipe: Recipe | Path | str | None, given: Mapping[str, Any]) -> Recipe:
    if recipe is None:
        return make_recipe(given, "arguments")
    if not isinstance(recipe, Path | str):
        return make_recipe({**Recipe.checked(recipe).to_dict(), **given}, "arguments")
    path = Path(recipe)
    found = load_recipe(path, given)
    lock = read_lock(path) if model.exists() else None
    if lock is not None:
        require_model(lock, path, digest(model, model_files(model, found.frontend)))
    return found


def _plain(key: str, value: Any, scratch: Path) -> Any:
    """A value as a recipe file would have it; arrays go into a file."""
    if isinstance(value, Path):
        return str(value)
    if key not in _DATA or isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise RecipeError(
            f"{key} is a {type(value).__name__}. Give a path, or arrays by input name, the samples along the "
            "first axis."
        )
    file = scratch / f"{key}.npz"
    arrays: dict[str, Any] = {str(name): np.asarray(array) for name, array in value.items()}
    np.savez(file, **arrays)
    return str(file)
