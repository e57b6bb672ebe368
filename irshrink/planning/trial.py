"""A plan as a build for the target: made, perhaps run once, and thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from irshrink.backend import Artifact, Inference, RunResult
from irshrink.errors import BudgetError
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.planning.subject import Subject
from irshrink.ports import encode_inputs
from irshrink.program.lower import lower_for

__all__ = ["Trial", "trial"]


@dataclass(frozen=True)
class Trial:
    """What was built.

    Attributes:
        built: its folder is gone.
        arena_bytes: of the plan; where none fits the target's RAM, of the smallest there is.
        run: one inference; None where none was asked for, or this machine cannot run it.
    """

    built: Artifact
    arena_bytes: int
    run: RunResult | None

    def layers(self) -> Mapping[str, float]:
        """Instructions by the name of the node; empty where none were counted."""
        found: dict[str, float] = {}
        origins = {op.name: op.origin[0] if op.origin else op.name for op in self.built.program.ops}
        for name, count in ({} if self.run is None else self.run.op_instructions).items():
            found[origins[name]] = found.get(origins[name], 0.0) + count
        return found


def trial(subject: Subject, module: Module, *, run: bool) -> Trial:
    """Build a model as a compilation does, whatever limit of flash there is; it is not changed.

    Raises:
        UnsupportedModelError: the target has no kernel for a node.
        ToolError: the compiler or the emulator failed.
    """
    recipe, target = subject.recipe, msgspec.structs.replace(subject.target, flash_bytes=None)
    legal = module.clone()
    Pipeline(subject.backend.legalize(target)).run(legal, target, recipe.seed)
    program = lower_for(legal, target, io=recipe.io, requantize=recipe.requantize)
    inputs = encode_inputs(program, next(subject.fitted.feeds()))
    vectors = [Inference(inputs, [])]  # nothing is compared: the outputs are those of no reference
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        folder, arena = Path(scratch), None
        try:
            built = subject.backend.compile(program, target, folder, vectors, "plan")
        except BudgetError as e:
            if e.ram_over is None or target.ram_bytes is None:
                raise
            arena = target.ram_bytes + e.ram_over
            target = msgspec.structs.replace(target, ram_bytes=None, memory="small")
            built = subject.backend.compile(program, target, folder, vectors, "plan")
        ran = None
        if run and subject.backend.unrunnable(target) is None:
            ran = subject.backend.run(folder, target, built.program, [inputs])
    return Trial(built, built.plan.nbytes if arena is None else arena, ran)
