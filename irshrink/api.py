"""What programs call, and the command line itself: ``irshrink.compile`` and ``irshrink.plan``.

Every key of a recipe (:class:`irshrink.recipe.Recipe`) is an argument, with the amounts that the command line
takes, ``flash="256K"``::

    samples = {"input": x, "y": labels}
    budgets = {"target": "cortex-m4", "max_drop": "1%", "objective": "smallest"}
    report = irshrink.compile("kws.onnx", "build", calibration=samples, **budgets)
    print(report["size"]["flash_bytes"])

A search and a build one after the other, with a look at the plan between them::

    found = irshrink.plan("kws.onnx", calibration=samples, **budgets)
    if found.plan.met:
        irshrink.compile("kws.onnx", "build", recipe=found.recipe, plan=found.plan, calibration=samples)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irshrink.compiler import compile_model
from irshrink.console import Progress
from irshrink.errors import RecipeError
from irshrink.files import sha256
from irshrink.frontends.convert import digest, model_files
from irshrink.lock import read_lock, require_model
from irshrink.output import require_replaceable
from irshrink.planning.compiling import PLAN_NAME, Searching, read_plan
from irshrink.planning.plan import Plan
from irshrink.planning.search import Found, search_plan
from irshrink.recipe import Recipe, load_recipe, make_recipe

Arrays = Mapping[str, Any]

#: Keys that may be given as arrays by name, ``y`` the labels: they are read as an .npz file of them is.
_DATA = ("calibration", "eval")


def compile(
    model: Path | str,
    out: Path | str,
    *,
    recipe: Recipe | Path | str | None = None,
    plan: Plan | None = None,
    processes: int = 1,
    cluster: str | None = None,
    journal: Path | str | None = None,
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
        plan: how the steps of the recipe were found, for the report. Not given, it is taken from beside the
            recipe where that is of ``irshrink plan``, or of a build.
        processes: how many plans to try at a time; 0 for as many as there are cores. Where that is more than
            one, a script calls this below ``if __name__ == "__main__":``, as each process reads it again.
        cluster: of Dask, in place of processes: a scheduler's address, or ``local:N``.
        journal: folder that remembers what was tried; by default in the user's cache.
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
    require_replaceable(Path(out), force)  # before a search, which may take long
    searching = Searching(processes, cluster, None if journal is None else Path(journal))
    with recipe_of(model, recipe, keys) as settled:
        return compile_model(
            model,
            settled,
            out,
            force=force,
            timings=timings,
            searching=searching,
            plan=plan or _evidence(recipe, settled),
            progress=progress,
        )


def plan(
    model: Path | str,
    *,
    recipe: Recipe | Path | str | None = None,
    processes: int = 1,
    cluster: str | None = None,
    journal: Path | str | None = None,
    progress: Progress = lambda _: None,
    **keys: Any,
) -> Found:
    """Search the plan that keeps the budgets and does best by the objective; nothing is compiled.

    Args:
        model, recipe, keys: as for :func:`compile`.
        processes, cluster, journal: as for :func:`compile`; what is found does not depend on them.
        progress: called with what is being done.

    Returns:
        ``plan``, everything that was tried and what was chosen; ``plan.met`` says whether it keeps the
        budgets. ``recipe`` compiles it; where calibration data was given as arrays, give them again.

    Raises:
        UserError: the model, the data or the recipe.
        ToolError: the compiler, the emulator or the cluster.
    """
    with recipe_of(model, recipe, keys) as settled:
        found = search_plan(
            Path(model),
            settled,
            processes=processes,
            cluster=cluster,
            folder=None if journal is None else Path(journal),
            progress=progress,
        )
        lost = {key: None for key in _DATA if isinstance(keys.get(key), Mapping)}
        return replace(found, recipe=msgspec.structs.replace(found.recipe, **lost))


def _evidence(recipe: Recipe | Path | str | None, settled: Recipe) -> Plan | None:
    """The plan beside a recipe file or lock, where what is compiled is what was found."""
    if settled.steps is None or not isinstance(recipe, Path | str):
        return None
    path = Path(recipe)
    file = path.parent / PLAN_NAME
    if not file.is_file():
        return None
    lock = read_lock(path)
    if lock is not None:  # passes that search have put what they settled on in place of their steps
        ours = lock.data.get("plan") == sha256(file)
        return read_plan(file) if ours and _same(lock.recipe.get("steps"), settled.steps) else None
    found = read_plan(file)
    return found if _same(found.evaluations[found.chosen].steps, settled.steps) else None


def _same(one: object, other: object) -> bool:
    """Whether steps are equal, lists and tuples alike."""
    first, second = (msgspec.json.decode(msgspec.json.encode(steps)) for steps in (one, other))
    return bool(first == second)


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
