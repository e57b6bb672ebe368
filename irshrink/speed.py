"""Budgets of what an inference takes: instructions in an emulator, or time on this machine.

Instructions are exact, so that a build keeps its budget anywhere. Time is of this machine and of this moment:
it is measured on the finished build, and nothing of it is written into one.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np

from irshrink.backend import Artifact, Backend, RunResult, Values
from irshrink.errors import BudgetError, RecipeError, ToolError
from irshrink.recipe import Recipe
from irshrink.target import Target
from irshrink.tuning.tunable import Tunable

#: How often a build's turn comes, and about how long one takes, in seconds.
_TURNS, _TURN_SECONDS = 9, 0.05


def require_measurable(recipe: Recipe, backend: Backend, target: Target) -> None:
    """Refuse budgets that nothing here could measure, before any work.

    Raises:
        RecipeError: the target counts no instructions, or has no time.
        ToolError: what would count them is not installed.
    """
    native = target.emulation is None
    if recipe.instructions is not None and native:
        raise RecipeError(
            f"--instructions: nothing counts the instructions of target {target.name}, which is this "
            "machine. Give --latency 20ms, which is measured here."
        )
    reason = backend.unrunnable(target) if recipe.instructions is not None else None
    if reason is not None:
        raise ToolError(f"--instructions: {reason}")
    if recipe.latency is not None and not native:
        raise RecipeError(
            f"--latency: {target.name} is emulated, and an emulator tells no latency. Give "
            "--instructions 3M, or measure on the board."
        )
    if recipe.latency is not None and not isinstance(backend, Tunable):
        raise RecipeError(f"--latency: backend '{backend.name}' has no clock. Leave it out.")


def require_instructions(run: RunResult | None, target: Target, limit: int | None) -> None:
    """
    Raises:
        BudgetError: an inference executes more than ``limit``.
        ToolError: they were not counted.
    """
    if limit is None:
        return
    if run is None or run.instructions is None:
        raise ToolError(
            f"--instructions: what runs builds for {target.name} here counts no instructions. Leave it out, "
            "or install a QEMU with its counting plugin."
        )
    over = run.instructions - limit
    if over > 0:
        raise BudgetError(
            f"instructions: an inference executes {run.instructions:,}, {over:,} more than the {limit:,} "
            "allowed. --objective fastest looks for fewer; so would a smaller input, or tuned kernels "
            "(irshrink tune)."
        )


def require_latency(backend: Backend, built: Artifact, inputs: Values, limit: float | None) -> float | None:
    """Seconds of an inference on this machine, with all threads of the build; None without a limit.

    Raises:
        BudgetError: it takes longer than ``limit`` seconds.
        ToolError: the build cannot be loaded.
    """
    if limit is None or not isinstance(backend, Tunable):
        return None
    target, data = built.target, [np.ascontiguousarray(value).tobytes() for value in inputs]
    clock = backend.clock(
        built.folder, target, data, names=built.names, variant=built.variant, threads=target.threads
    )
    seconds = seconds_of(clock)
    if seconds > limit:
        raise BudgetError(
            f"latency: an inference takes {milliseconds(seconds)} on this machine, "
            f"{milliseconds(seconds - limit)} more than the {milliseconds(limit)} allowed. "
            "--objective fastest looks for less work; more --threads, or tuned kernels (irshrink tune), "
            "would help too."
        )
    return seconds


def seconds_of(clock: Callable[[int], float]) -> float:
    """The median of several turns of an inference, each long enough to be timed."""
    once = min(clock(1) for _ in range(3))
    repeats = max(1, int(_TURN_SECONDS / max(once, 1e-7)))
    return median(clock(repeats) / repeats for _ in range(_TURNS))


def milliseconds(seconds: float) -> str:
    """``"1.52 ms"``."""
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:,.2f} s"
