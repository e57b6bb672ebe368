"""What a plan takes on the target: predicted, and what every build has besides measured once.

A footprint (:mod:`irshrink.layer_cost`) knows constants, kernels and the arena. A build has more: calls of
kernels, functions of the header, the compiler's own library in flash; the stack and other data in RAM. These
hardly depend on the plan. They are what one build of the model, plain int8, has more than its prediction.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from irshrink import proof
from irshrink.analyses.cost import graph_macs
from irshrink.console import Progress
from irshrink.costs.planned import plan_only
from irshrink.errors import UserError
from irshrink.layer_cost import Footprint
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.planning.journal import Journal, key_of
from irshrink.planning.subject import Subject
from irshrink.program.lower import lower_for
from irshrink.registry import make_pass

__all__ = ["Besides", "besides", "footprint"]

#: Samples that the baseline's ranges are found on.
_FEW = 8


class Besides(msgspec.Struct, frozen=True):
    """What builds take that no footprint tells, bytes.

    Attributes:
        flash: code and tables beside kernels and constants.
        ram: stack and data beside the arena.
    """

    flash: int
    ram: int


@dataclass(frozen=True)
class Taken:
    """What a model takes on the target; see :class:`irshrink.planning.plan.Figures`."""

    weights_bytes: int
    flash_bytes: int
    arena_bytes: int
    ram_bytes: int
    cost: float
    macs: int
    layers: dict[str, float]


def footprint(subject: Subject, module: Module, more: Besides) -> Taken:
    """
    Raises:
        UnsupportedModelError: the target has no kernel for a node.
        ToolError: the compiler or the emulator failed.
    """
    found = _predicted(subject, module)
    macs = {str(node.name): count or 0 for node, count in graph_macs(module.graph).items()}
    known = {name: cost.amount for name, cost in found.layers.items()}
    return Taken(
        weights_bytes=found.weights_bytes,
        flash_bytes=found.weights_bytes + (found.code_bytes or 0) + more.flash,
        arena_bytes=found.arena_bytes,
        ram_bytes=found.arena_bytes + more.ram,
        cost=float(sum(macs.values())) if found.cost is None else found.cost.amount,
        macs=sum(macs.values()),
        layers=known or {name: float(count) for name, count in macs.items()},
    )


def _predicted(subject: Subject, module: Module) -> Footprint:
    if subject.costs is not None:
        return subject.costs.of_module(module)
    return plan_only(module, subject.target)


def besides(subject: Subject, journal: Journal, progress: Progress = lambda _: None) -> Besides:
    """What builds of this subject take besides, from the journal or from one build.

    Raises:
        ToolError: the compiler or the emulator failed.
    """
    key = key_of(subject.digest, "besides")
    known = journal.get("besides", key)
    if known is not None:
        return msgspec.convert(known, Besides)
    progress("building the model in plain int8, to see what builds take")
    found = _measured(subject, _baseline(subject))
    journal.put("besides", key, msgspec.to_builtins(found))
    journal.say("besides", key)
    return found


def _baseline(subject: Subject) -> Module:
    """Plain int8; where that cannot be, float as it is."""
    plain = subject.module.clone()
    plain.calibration = subject.fitted.spread(_FEW)
    options: dict[str, Any] = {"method": "minmax", "keep_float": list(subject.recipe.keep_float)}
    try:
        return Pipeline([make_pass("quantize-int8", options)]).run(plain, subject.target, subject.recipe.seed)
    except UserError:
        return subject.module.clone()


def _measured(subject: Subject, module: Module) -> Besides:
    recipe, backend = msgspec.structs.replace(subject.recipe, test_inputs=1), subject.backend
    target, found = msgspec.structs.replace(subject.target, flash_bytes=None), _predicted(subject, module)
    if target.ram_bytes is not None and found.arena_bytes > target.ram_bytes:
        target = msgspec.structs.replace(target, ram_bytes=None)
    Pipeline(backend.legalize(target)).run(module, target, recipe.seed)
    program = lower_for(module, target, io=recipe.io, requantize=recipe.requantize)
    tests = proof.test_vector(program, proof.Data(subject.fitted, None), recipe)
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        built = backend.compile(program, target, Path(scratch), tests, "baseline")
        run = None
        if backend.unrunnable(target) is None:
            run = backend.run(Path(scratch), target, built.program, [t.inputs for t in tests])
    stack = 0 if run is None else run.stack_bytes or 0
    return Besides(
        flash=built.flash_bytes - found.weights_bytes - (found.code_bytes or 0),
        ram=built.ram_bytes - built.plan.nbytes + stack,
    )
