"""What a plan takes on the target.

For a microcontroller every plan is built, which takes a second: flash and RAM are those of a build. Models of
a size that the emulator is quick with are run once, so that instructions and stack are counted, too. Larger
ones have their instructions predicted (docs/cost.md), and the stack of one build of the model in plain int8.

For other targets constants and the arena are planned, instructions predicted, and what builds have besides is
what that one build has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from irshrink.analyses.cost import graph_macs
from irshrink.artifact import MODEL_NAME
from irshrink.console import Progress
from irshrink.costs.planned import plan_only
from irshrink.errors import UserError
from irshrink.external import files_of
from irshrink.layer_cost import Footprint
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.planning.journal import Journal, key_of
from irshrink.planning.plan import Figures
from irshrink.planning.subject import Subject
from irshrink.planning.trial import trial
from irshrink.registry import make_pass

__all__ = ["footprint"]

#: Multiply-accumulates of models that are run in the emulator for every plan: a second or two.
_QUICK_MACS = 30_000_000
#: Samples that the ranges of plain int8 are found on.
_FEW = 8
#: Parts of what an inference costs, by the name of the node.
Parts = Mapping[str, float]


class Besides(msgspec.Struct, frozen=True):
    """What the baseline takes that is not found for every plan, bytes.

    Attributes:
        flash: code and tables beside kernels and constants.
        ram: data beside the arena.
        stack: of an inference.
    """

    flash: int
    ram: int
    stack: int


def footprint(
    subject: Subject, journal: Journal, module: Module, progress: Progress = lambda _: None
) -> tuple[Figures, Parts]:
    """What a model takes as it would be compiled, and parts of the cost by node; it is not changed.

    Raises:
        UnsupportedModelError: the target has no kernel for a node.
        ToolError: the compiler or the emulator failed.
    """
    if not _is_microcontroller(subject):
        return _planned(subject, module, _besides(subject, journal, progress))
    quick = subject.costs is not None and subject.macs <= _QUICK_MACS
    progress("building the plan" + (" and running it once" if quick else ""))
    found = trial(subject, module, run=quick)
    built, run = found.built, found.run
    macs = _macs(module)
    if run is not None and run.instructions is not None:
        stack, cost, layers = run.stack_bytes or 0, float(run.instructions), found.layers()
    else:
        stack, (cost, layers) = _besides(subject, journal, progress).stack, _cost(subject, module, macs)
    figures = Figures(
        file_bytes=_file_bytes(module),
        weights_bytes=built.weights_bytes,
        flash_bytes=built.flash_bytes,
        arena_bytes=found.arena_bytes,
        ram_bytes=found.arena_bytes + built.ram_bytes - built.plan.nbytes + stack,
        cost=cost,
        macs=int(sum(macs.values())),
    )
    return figures, layers


def _planned(subject: Subject, module: Module, more: Besides) -> tuple[Figures, Parts]:
    found, macs = _predicted(subject, module), _macs(module)
    cost, layers = _amounts(found, macs)
    figures = Figures(
        file_bytes=_file_bytes(module),
        weights_bytes=found.weights_bytes,
        flash_bytes=found.weights_bytes + (found.code_bytes or 0) + more.flash,
        arena_bytes=found.arena_bytes,
        ram_bytes=found.arena_bytes + more.ram + more.stack,
        cost=cost,
        macs=int(sum(macs.values())),
    )
    return figures, layers


def _is_microcontroller(subject: Subject) -> bool:
    """Whether a target has flash and RAM that a build is linked for."""
    emulation = subject.target.emulation
    return emulation is not None and emulation.flash_base is not None


def _predicted(subject: Subject, module: Module) -> Footprint:
    if subject.costs is not None:
        return subject.costs.of_module(module)
    return plan_only(module, subject.target)


def _cost(subject: Subject, module: Module, macs: Parts) -> tuple[float, Parts]:
    if subject.costs is None:
        return sum(macs.values()), macs
    return _amounts(subject.costs.of_module(module), macs)


def _amounts(found: Footprint, macs: Parts) -> tuple[float, Parts]:
    """Cost, and parts of it by node; multiply-accumulates where nothing was measured."""
    if found.cost is None:
        return sum(macs.values()), macs
    return found.cost.amount, {name: cost.amount for name, cost in found.layers.items()}


def _file_bytes(module: Module) -> int:
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        path = Path(scratch, MODEL_NAME)
        module.save(path)
        return sum(file.stat().st_size for file in files_of(path))


def _macs(module: Module) -> dict[str, float]:
    return {str(node.name): float(count or 0) for node, count in graph_macs(module.graph).items()}


def _besides(subject: Subject, journal: Journal, progress: Progress) -> Besides:
    """From the journal, or from one build."""
    key = key_of(subject.digest, "besides")
    known = journal.get("besides", key)
    if known is not None:
        return msgspec.convert(known, Besides)
    progress("building the model in plain int8, to see what builds take")
    module = _baseline(subject)
    predicted, found = _predicted(subject, module), trial(subject, module, run=True)
    built = found.built
    more = Besides(
        flash=built.flash_bytes - predicted.weights_bytes - (predicted.code_bytes or 0),
        ram=built.ram_bytes - built.plan.nbytes,
        stack=0 if found.run is None else found.run.stack_bytes or 0,
    )
    journal.put("besides", key, msgspec.to_builtins(more))
    journal.say("besides", key)
    return more


def _baseline(subject: Subject) -> Module:
    """Plain int8; where that cannot be, float as it is."""
    plain, seed = subject.module.clone(), subject.recipe.seed
    plain.calibration = subject.fitted.spread(_FEW)
    options: dict[str, Any] = {"method": "minmax", "keep_float": list(subject.recipe.keep_float)}
    try:
        return Pipeline([make_pass("quantize-int8", options)]).run(plain, subject.target, seed)
    except UserError:
        return subject.module.clone()
