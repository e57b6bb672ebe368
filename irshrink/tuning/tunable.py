"""What a backend does beyond :class:`irshrink.backend.Backend` when its kernels can be tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from irshrink.backend import Backend
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.database import Schedule, Schedules

#: Seconds that a number of inferences take, one after the other.
Clock = Callable[[int], float]


@runtime_checkable
class Tunable(Backend, Protocol):
    """A backend that chooses kernels by schedules, and can list them."""

    def with_schedules(self, schedules: Schedules, *, measuring: bool = False) -> Tunable:
        """The same backend, going by these schedules.

        Args:
            measuring: operators are built side by side to be measured: each kernel as it is in a model where
                several layers share it.
        """

    def candidates(self, op: Op, program: Program, target: Target) -> list[Schedule]:
        """Every schedule of an operator, the rule's first; empty where there is nothing to choose."""

    def kernels_digest(self) -> str:
        """Equal where measurements are comparable."""

    def clock(
        self,
        folder: Path,
        target: Target,
        inputs: Sequence[bytes],
        *,
        names: Names = DEFAULT_NAMES,
        variant: int = 0,
        threads: int = 1,
    ) -> Clock:
        """A build that this machine runs, loaded, and its inputs set.

        Args:
            names, variant: what it was compiled with, and which of those.
            threads: how many an inference runs on; at most those of the target.

        Raises:
            ToolError: it cannot be loaded, or this machine cannot run it.
        """
