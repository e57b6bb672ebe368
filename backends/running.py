"""What runs builds: what it is asked for, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from irshrink.backend import Counter
from irshrink.errors import OutputError
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.target import Target


@dataclass(frozen=True)
class Call:
    """What is asked for.

    Attributes:
        inputs: the bytes of every input of at least one inference.
        output_bytes: sizes of the outputs.
        variant: which of those in ``names``.
        threads: how many an inference runs on; 1 unless the build was made for more.
        alignment: whether to run once more for the alignment of all accesses, where an emulator has to look.
    """

    inputs: Sequence[Sequence[bytes]]
    output_bytes: Sequence[int]
    names: Names = DEFAULT_NAMES
    variant: int = 0
    threads: int = 1
    alignment: bool = True

    @property
    def symbol(self) -> str:
        """What the functions that are called begin with."""
        return self.names.symbols[self.variant]


@dataclass(frozen=True)
class Run:
    """Several inferences.

    Attributes:
        outputs: bytes of every output of every inference, in port order.
        instructions: of the first inference, exact; None when not counted.
        stack_bytes: high-water mark of all of them; None when not measured.
        calls: ``(function, instructions)`` of every call that the model's function made in the first
            inference, in order, callees included; empty when not counted.
        cycles: an estimate for every one of ``calls``, where there is a table of cycles for the target.
        code: for every one of ``calls`` the machine code of its basic blocks, and how often each ran.
    """

    outputs: list[list[bytes]]
    instructions: int | None = None
    stack_bytes: int | None = None
    calls: tuple[tuple[str, int], ...] = ()
    cycles: tuple[int, ...] = ()
    code: tuple[Mapping[bytes, int], ...] = ()

    def calls_by_cycles(self) -> list[tuple[str, int]]:
        """``calls`` with their cycles."""
        return [(name, cycles) for (name, _), cycles in zip(self.calls, self.cycles, strict=True)]


def require_built(path: Path) -> Path:
    """A file of a package that running it needs.

    Raises:
        OutputError: it is gone.
    """
    if not path.is_file():
        raise OutputError(f"{path}: is missing from the build. Compile again.")
    return path


class Runner(Protocol):
    """Makes of a library what can be run, and runs it: on this machine itself if ``native``."""

    native: ClassVar[bool]

    def missing(self, target: Target) -> str | None:
        """None, or why builds for the target cannot run here and how to change that."""

    def build(
        self,
        folder: Path,
        target: Target,
        objects: Sequence[Path],
        optimize: str,
        names: Names = DEFAULT_NAMES,
    ) -> None:
        """Write what is run into the package in ``folder``; also where it cannot run here.

        Args:
            objects: the model's own.

        Raises:
            BudgetError: flash or RAM of the target are too small.
            ToolError: it does not compile or link.
        """

    def run(self, folder: Path, target: Target, call: Call, progress: Counter) -> Run:
        """Run what :meth:`build` wrote.

        Raises:
            ToolError: it crashed, overran its memory, or did not end.
        """
