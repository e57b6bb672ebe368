"""What a schedule costs: instructions in the emulator, time on this machine, or what a user's command prints.

A source is given finished builds, each of which computes one workload with one or several schedules side by
side, and returns a number for every schedule.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, Protocol

from irshrink.backend import OpCost, RunResult
from irshrink.errors import RecipeError, ToolError
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.cycles import cycle_table
from irshrink.tuning.tunable import Tunable


@dataclass(frozen=True)
class Built:
    """Schedules side by side, built, run once and found right.

    Attributes:
        inputs: bytes of every input.
        run: what the run of the check counted.
        kernels: the kernel of every operator.
    """

    folder: Path
    target: Target
    program: Program
    inputs: Sequence[bytes]
    run: RunResult
    kernels: Sequence[OpCost]


class CostSource(Protocol):
    """Where numbers come from.

    Attributes:
        measured: what databases and journals call the numbers.
        side_by_side: schedules that one build may hold.
        at_once: schedules of one trial, in as many builds as that takes.
        exact: measuring again gives the same number.
    """

    measured: ClassVar[str]
    side_by_side: ClassVar[int]
    at_once: ClassVar[int]
    exact: ClassVar[bool]

    def missing(self, backend: Tunable, target: Target) -> str | None:
        """None, or why it cannot measure here and what to do."""

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        """One number a schedule, build by build.

        Raises:
            ToolError: it could not be measured.
        """

    def whole(self, backend: Tunable, build: Built) -> float:
        """Of one inference of a whole model."""

    def layers(self, build: Built) -> Mapping[str, float]:
        """Of its operators, by name; empty where only the whole is measured."""


@dataclass
class Instructions:
    """Instructions that the emulator executed; exact."""

    measured: ClassVar[str] = "instructions"
    side_by_side: ClassVar[int] = 24
    at_once: ClassVar[int] = 24
    exact: ClassVar[bool] = True

    def missing(self, backend: Tunable, target: Target) -> str | None:
        if target.emulation is None:
            return f"no emulator counts the instructions of {target.name}. Use --cost seconds."
        return backend.unrunnable(target)

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        return [
            [self._counted(build.run.op_instructions.get(op.name), build) for op in build.program.ops]
            for build in builds
        ]

    def whole(self, backend: Tunable, build: Built) -> float:
        return self._counted(build.run.instructions, build)

    def layers(self, build: Built) -> Mapping[str, float]:
        return build.run.op_instructions

    def _counted(self, number: float | None, build: Built) -> float:
        if number is None:
            raise ToolError(
                f"the emulator of {build.target.name} counts no instructions here. Is its counting plugin "
                "supported by the QEMU that is installed?"
            )
        return number


@dataclass
class Cycles(Instructions):
    """Instructions weighted by what the core's manual says of them: an estimate of cycles, no latency."""

    measured: ClassVar[str] = "estimated cycles"

    def missing(self, backend: Tunable, target: Target) -> str | None:
        if cycle_table(target.name) is None:
            return f"there is no table of cycles for {target.name}. Use --cost instructions."
        return super().missing(backend, target)

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        return [
            [self._counted(build.run.op_cycles.get(op.name), build) for op in build.program.ops]
            for build in builds
        ]

    def whole(self, backend: Tunable, build: Built) -> float:
        return self._counted(sum(build.run.op_cycles.values()) or None, build)

    def layers(self, build: Built) -> Mapping[str, float]:
        return build.run.op_cycles


@dataclass
class Seconds:
    """Wall time on this machine: builds take turns, and the median of the turns counts.

    Attributes:
        turns: how often each build's turn comes.
        seconds: about how long one turn takes.
    """

    turns: int = 9
    seconds: float = 0.01
    measured: ClassVar[str] = "seconds"
    side_by_side: ClassVar[int] = 1
    at_once: ClassVar[int] = 8
    exact: ClassVar[bool] = False

    def missing(self, backend: Tunable, target: Target) -> str | None:
        if target.emulation is not None:
            return f"builds for {target.name} do not run on this machine itself. Use --cost instructions."
        return None

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        clocks = [backend.clock(b.folder, b.target, b.inputs) for b in builds]
        once = max(min(clock(1) for _ in range(3)) for clock in clocks)
        repeats = max(1, int(self.seconds / max(once, 1e-7)))
        times: list[list[float]] = [[] for _ in builds]
        for _ in range(self.turns):
            for clock, taken in zip(clocks, times, strict=True):
                taken.append(clock(repeats) / repeats)
        return [[median(taken)] for taken in times]

    def whole(self, backend: Tunable, build: Built) -> float:
        return self.costs(backend, [build])[0][0]

    def layers(self, build: Built) -> Mapping[str, float]:
        return {}


@dataclass
class Command:
    """The last number that a user's command prints, given the folder of a C package.

    The command flashes a board, say, and prints the cycles of one inference. It gets one schedule at a time.

    Attributes:
        command: with its arguments; the folder is added as the last one.
        seconds: how long it may take.
    """

    command: str
    seconds: float = 300.0
    measured: ClassVar[str] = "command"
    side_by_side: ClassVar[int] = 1
    at_once: ClassVar[int] = 1
    exact: ClassVar[bool] = False

    def missing(self, backend: Tunable, target: Target) -> str | None:
        return None

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        return [[self._run(build.folder)] for build in builds]

    def whole(self, backend: Tunable, build: Built) -> float:
        return self._run(build.folder)

    def layers(self, build: Built) -> Mapping[str, float]:
        return {}

    def _run(self, folder: Path) -> float:
        try:
            arguments = [*shlex.split(self.command), str(folder)]
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise ToolError(f"--runner: '{self.command}' did not end within {self.seconds:g} seconds.") from e
        except (OSError, ValueError) as e:
            raise RecipeError(f"--runner: '{self.command}' cannot be run: {e}.") from e
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise ToolError(f"--runner: '{self.command}' ended with status {done.returncode}: {last}")
        numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", done.stdout)
        if not numbers:
            raise ToolError(f"--runner: '{self.command}' printed no number. Its last number is the cost.")
        return float(numbers[-1])
