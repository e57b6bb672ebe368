"""What is searched: a model that was read and cleaned up, samples to fit to and samples to judge with.

Every process that tries plans opens the subject for itself; :attr:`Subject.digest` says that they all have
the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from math import ceil, prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from irshrink import proof
from irshrink.analyses.cost import graph_macs
from irshrink.backend import Backend
from irshrink.blas import one_thread
from irshrink.console import Progress
from irshrink.costs.planned import costs_if_any
from irshrink.costs.service import TargetCosts
from irshrink.errors import RecipeError
from irshrink.files import sha256
from irshrink.frontends.options import reproducible_options
from irshrink.frontends.read import read_model
from irshrink.lock import installed_versions
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.planning.judging import Judge
from irshrink.program.lower import lower
from irshrink.recipe import Recipe
from irshrink.registry import backend_table, pass_table
from irshrink.samples import Samples
from irshrink.speed import require_measurable
from irshrink.target import Target, with_memory
from irshrink.tuning.database import Schedules, schedules_for
from irshrink.usable import backend_going_by
from irshrink.variants import shaped_variants
from irshrink.verify import verify_structure

__all__ = ["Subject", "most_judges"]

#: Passes fit to two thirds of the samples, and to no more than this: the more, the less a model computes.
#: What is fitted to few samples fits these too closely.
_FITTING_MACS, _FEWEST_FITTED, _MOST_FITTED = 2e9, 256, 2048
#: Judging takes about so many multiply-accumulates: a minute or so of one processor.
_JUDGING_MACS = 2e11
_FEWEST_JUDGES, _MOST_JUDGES = 64, 40_000
#: Bytes of all outputs on the samples that judge: those of the original are held in memory.
_MOST_OUTPUT_BYTES = 2**28
#: What the recipe says that decides what a step makes of a model, or what is measured of it.
_DECISIVE = ("shapes", "images", "csv", "audio", "keep_float", "io", "requantize", "relative_drop", "seed")
#: Folders and files of irshrink that decide no figure of a plan, and those of planning that do not.
_FOR_PEOPLE = frozenset(
    {"api.py", "cli.py", "cmake", "commands", "console.py", "explain", "report", "testing"}
)
_TRIES = frozenset(
    {"advice", "answer", "cluster", "compiling", "folder", "goal", "knobs_of", "parallel", "predict"}
    | {"memory", "processes", "propose", "remote", "search", "timing", "workers"}
)


@dataclass
class Subject:
    """A model ready to try plans on.

    Attributes:
        path: of the model as it was given.
        recipe: what was asked for.
        module: cleaned up and in float; its calibration samples are those that passes fit to. Never changed.
        original: the model as it was given.
        held: samples that nothing is fitted to: they judge.
        target, schedules, backend: what is compiled for, what kernels are chosen by, and what compiles.
        digest: SHA-256 of everything that decides what a plan's figures are, budgets and objective not.
        macs: multiply-accumulates of one inference of ``module``.
        costs: measures and predicts layers on the target, the same each time; None where nothing can.
    """

    path: Path
    recipe: Recipe
    module: Module
    original: Module
    held: Samples
    target: Target
    schedules: Schedules
    backend: Backend
    digest: str
    macs: int
    costs: TargetCosts | None

    @classmethod
    @one_thread()
    def open(cls, model: Path | str, recipe: Recipe, progress: Progress = lambda _: None) -> Subject:
        """Read the model and the data, and clean the model up as a compilation does.

        Raises:
            RecipeError: several variants of shapes, no calibration data, or too little of it to judge with.
            UserError, ToolError: as :func:`irshrink.compiler.compile_model`.
        """
        path, recipe = Path(model), Recipe.checked(recipe)
        _require_searchable(recipe)
        target = recipe.resolved_target()
        schedules = schedules_for(target, recipe.schedules)
        backend = backend_going_by(schedules, target, recipe)
        require_measurable(recipe, backend, target)
        progress("reading the model and the data")
        module, imported = read_model(path, recipe.frontend, progress)
        # every sample: which of them are fitted to is decided below
        (variant,) = shaped_variants(module, msgspec.structs.replace(recipe, fit=None))
        progress("cleaning up")
        Pipeline(cleanup_steps(), (), verify_structure, progress).run(module, target, recipe.seed)
        lower(module)
        samples = module.calibration
        assert samples is not None, "the recipe names calibration data"
        proof.require_scorable(variant.original, proof.Data(samples, None), recipe.metric)
        macs = sum(count or 0 for count in graph_macs(module.graph).values())
        module.calibration, held = _split(
            samples, recipe.fit or _usual(len(samples), macs), most_judges(module, macs)
        )
        costs = costs_if_any(target, (), schedules)
        digest = _digest(
            _what_counts(recipe, target),
            model=imported.sha256,
            weights=sha256(*module.external),
            data=samples.digest(),
            fitted=str(len(module.calibration)),
            schedules=str(schedules.digest()),
            versions=json.dumps({**installed_versions(), **imported.versions}, sort_keys=True),
            sources=_sources_digest(),
        )
        return cls(
            path, recipe, module, variant.original, held, target, schedules, backend, digest, macs,
            costs if costs is not None and costs.exact else None,
        )  # fmt: skip

    @cached_property
    def judge(self) -> Judge:
        """What says how much a model loses; runs the original on :attr:`held` when it is first asked for."""
        recipe = self.recipe
        return Judge(self.original, self.held, recipe.metric, recipe.max_drop, recipe.relative_drop)

    @property
    def fitted(self) -> Samples:
        """What passes fit to."""
        assert self.module.calibration is not None
        return self.module.calibration

    @property
    def cost_unit(self) -> str:
        """What :attr:`irshrink.planning.plan.Figures.cost` counts."""
        return "multiply-accumulates" if self.costs is None else self.costs.unit


def _require_searchable(recipe: Recipe) -> None:
    if recipe.variants:
        raise RecipeError(
            "plans are for one set of input shapes, and the recipe has variants. Search a plan for one of "
            "them, and write its steps into the recipe with variants."
        )
    if recipe.calibration is None:
        raise RecipeError(
            "a plan needs samples to fit to and to judge with. Give --calibration samples.npz: typical "
            "inputs, and labels 'y' where there are any."
        )


def _usual(count: int, macs: int) -> int:
    """How many of so many samples passes fit to, where nobody says."""
    most = min(_MOST_FITTED, max(_FEWEST_FITTED, int(_FITTING_MACS / max(1, macs))))
    return min(most, ceil(2 * count / 3))


def _split(samples: Samples, count: int, most_judges: int) -> tuple[Samples, Samples]:
    """Samples to fit to, at even distances, and of all others some to judge with.

    Raises:
        RecipeError: none would be left.
    """
    if count >= len(samples):
        raise RecipeError(
            f"{samples.path}: {len(samples)} samples are too few: passes fit to {count} of them, and plans "
            "are judged on others. Give more, or fit to fewer with fit = N in the recipe."
        )
    fitted = samples.spread(count)
    left = np.setdiff1d(samples.select, fitted.select)
    return fitted, replace(samples, select=left).spread(most_judges)


def most_judges(module: Module, macs: int) -> int:
    """How many samples judge at most, for a model with so many multiply-accumulates."""
    nbytes = sum(4 * prod(value.shape.numpy()) for value in module.graph.outputs if value.shape is not None)
    few = min(_MOST_JUDGES, _JUDGING_MACS / max(1, macs), _MOST_OUTPUT_BYTES / max(1, nbytes))
    return max(_FEWEST_JUDGES, int(few))


def _what_counts(recipe: Recipe, target: Target) -> dict[str, Any]:
    """Of recipe and target what decides figures. Flash is compared with a limit, RAM is planned for one."""
    kept = {key: getattr(recipe, key) for key in _DECISIVE}
    kept["frontend"] = reproducible_options(recipe.frontend)
    kept["target"] = with_memory(msgspec.structs.replace(target, flash_bytes=None), None, target.ram_bytes)
    kept["metric"] = recipe.metric
    if recipe.metric is not None and ":" in recipe.metric:
        file, _, function = recipe.metric.rpartition(":")
        kept["metric"] = f"{sha256(Path(file))}:{function}"
    return kept


def _digest(settings: Mapping[str, Any], **parts: str) -> str:
    text = msgspec.json.encode({**settings, **parts}, order="deterministic", enc_hook=str)
    return hashlib.sha256(text).hexdigest()


@cache
def _sources_digest() -> str:
    """Of irshrink's own files and of what is plugged in: whoever changes a pass gets new figures.

    What talks to people, and what decides what to try next, is no part of it.
    """
    plugged = {path.partition(":")[0] for path in (*pass_table().values(), *backend_table().values())}
    packages = {"irshrink", *(module.partition(".")[0] for module in plugged)}
    whole = hashlib.sha256()
    for package in sorted(packages):
        for name, file in _files_of(package):
            whole.update(f"{package}/{name}\0{sha256(file)}\n".encode())
    return whole.hexdigest()


def _files_of(package: str) -> list[tuple[str, Path]]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    if not spec.submodule_search_locations:
        return [("", Path(spec.origin))]
    found = []
    for place in map(Path, spec.submodule_search_locations):
        # irshrink's passes and backends may be links, which rglob of old Pythons follows and of new ones not
        roots = [place, *(link for link in place.iterdir() if link.is_symlink() and link.is_dir())]
        files = {file for root in roots for file in root.rglob("*") if file.is_file()}
        found += [(file.relative_to(place).as_posix(), file) for file in files]
    return sorted((name, file) for name, file in found if _decides(package, name))


def _decides(package: str, name: str) -> bool:
    if name.endswith((".pyc", ".pyo")):
        return False
    folder, _, rest = name.partition("/")
    talk = folder in _FOR_PEOPLE or (folder == "planning" and rest.removesuffix(".py") in _TRIES)
    return package != "irshrink" or not talk
