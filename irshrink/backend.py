"""What a backend is, and what it hands back.

A backend turns a program into an artifact for the targets it supports, and runs artifacts: natively or in an
emulator. It is found by name through the registry; the framework imports none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from irshrink.names import DEFAULT_NAMES, Names
from irshrink.pipeline import Pass
from irshrink.program.arena import MemoryPlan, Slot
from irshrink.program.program import Program
from irshrink.target import Target

__all__ = [
    "Artifact",
    "Backend",
    "Choices",
    "Counter",
    "Inference",
    "MemoryPlan",
    "OpCost",
    "RunResult",
    "Slot",
    "Values",
]

#: The value of every input (or output) port of one inference, in port order.
Values = Sequence[NDArray[np.generic]]
#: Called with how many of the inferences are done.
Counter = Callable[[int], None]


@dataclass(frozen=True)
class Inference:
    """One inference by the reference: the value of every input and output port, in order."""

    inputs: Values
    outputs: Values


@dataclass(frozen=True)
class Variant:
    """A program and its tests: the same model on other input shapes.

    Attributes:
        vectors: inputs and the outputs that must come out, for the package's own test.
    """

    program: Program
    vectors: Sequence[Inference]


@dataclass(frozen=True)
class OpCost:
    """One operator in the artifact: which kernel computes it and what it takes, bytes.

    ``code_bytes`` is the machine code of the kernel's own function, 0 where it is not known. Operators of any
    sizes may share the function, unless it is ``specialized``.
    """

    op: str
    kernel: str
    weights_bytes: int
    workspace_bytes: int
    code_bytes: int = 0
    specialized: bool = False


@dataclass(frozen=True)
class Choices:
    """How the kernels of layers that have a choice were chosen: by number of layers.

    Attributes:
        measured: by a database of measured schedules.
        by_rule: by a rule; no database knows the layer.
        outdated: by a rule; what the database says is no schedule of this version's kernels.
    """

    measured: int = 0
    by_rule: int = 0
    outdated: int = 0


@dataclass(frozen=True)
class Artifact:
    """A finished build, or one variant of shapes in it; what is not its own is that of the whole build.

    Attributes:
        program, plan, costs: of the variant.
        folder: what the user gets.
        code_bytes, weights_bytes: machine code and constants of the linked library, compiler run-time
            included; no start-up code, no test.
        names: in its C.
        variant: which of those in ``names``.
        others: the other variants in the same build; only the first has any.
        flash_bytes: everything it takes in flash; ``ram_bytes``: arena and other static data, no stack.
        choices: in the whole build; None where the backend has nothing to choose.
    """

    folder: Path
    target: Target
    program: Program
    plan: MemoryPlan
    costs: tuple[OpCost, ...]
    code_bytes: int
    weights_bytes: int
    flash_bytes: int
    ram_bytes: int
    notes: tuple[str, ...] = ()
    names: Names = DEFAULT_NAMES
    variant: int = 0
    others: tuple[Artifact, ...] = ()
    choices: Choices | None = None


@dataclass(frozen=True)
class RunResult:
    """Outputs of several inferences and, where an emulator ran them, what it counted.

    Attributes:
        outputs: one list of arrays per inference, in port order.
        instructions: executed in one inference, exact; None when not counted, as when run natively.
        stack_bytes: high-water mark below the caller's stack pointer; None when run natively.
        op_cycles: an estimate for every operator, where the target has a table of cycles.
        op_code: for every operator the machine code of its basic blocks, and how often each ran.
        native: this machine ran it, no emulator.
    """

    outputs: list[list[NDArray[np.generic]]]
    instructions: int | None = None
    stack_bytes: int | None = None
    op_instructions: dict[str, int] = field(default_factory=dict)
    op_cycles: dict[str, int] = field(default_factory=dict)
    op_code: dict[str, Mapping[bytes, int]] = field(default_factory=dict)
    native: bool = False


class Backend(Protocol):
    """The contract of a backend."""

    name: ClassVar[str]

    def available(self, target: Target) -> str | None:
        """None, or the reason why this backend cannot work here and what to install."""

    def unrunnable(self, target: Target) -> str | None:
        """None, or the reason why builds for it cannot run on this machine and what to install.

        They can be compiled all the same; the report then says that they were not run.
        """

    def supports(self, target: Target) -> bool:
        """Whether it generates code for this target."""

    def legalize(self, target: Target) -> list[Pass]:
        """Passes that the graph needs before it can be lowered."""

    def compile(
        self,
        program: Program,
        target: Target,
        folder: Path,
        vectors: Sequence[Inference],
        title: str,
        *,
        names: Names = DEFAULT_NAMES,
        others: Sequence[Variant] = (),
    ) -> Artifact:
        """Write the C package into ``folder`` (which exists and is ours) and build it.

        Args:
            vectors: inputs and the outputs that must come out, for the package's own test.
            title: what the model is called in comments.
            names: what its C is called; says how many variants there are.
            others: the variants after the first, which is ``program``. All share one library.

        Raises:
            BudgetError: flash or RAM of the target are too small; the message says by how much.
            ToolError: the compiler failed.
        """

    def run(
        self,
        folder: Path,
        target: Target,
        program: Program,
        inputs: Sequence[Values],
        progress: Counter = lambda done: None,
        *,
        names: Names = DEFAULT_NAMES,
        variant: int = 0,
        threads: int = 1,
    ) -> RunResult:
        """Run a finished build on some inputs.

        Args:
            program: of the variant that is run.
            names: what it was compiled with.
            variant: which of those in ``names``.
            threads: how many an inference runs on; at most those of the target.
            progress: called with how many are done, where each takes a while.

        Raises:
            ToolError: it crashed, overran its memory, or did not end.
        """
