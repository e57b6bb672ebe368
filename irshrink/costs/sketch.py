"""What a backend does so that layers have costs: kernels and memory of a program that nobody compiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from irshrink.backend import MemoryPlan
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.tunable import Tunable


@dataclass(frozen=True)
class Kernel:
    """How one operator is computed, and what beside its sizes decides what that costs.

    Attributes:
        op: its name.
        function: the C function, as in :class:`irshrink.backend.OpCost`.
        kind: what functions have in common that differ in the length of their loops alone.
        specialized: whether the function knows its sizes, so that no other layer shares it.
        weights_bytes, workspace_bytes: as in :class:`irshrink.backend.OpCost`.
        outputs: how many output channels are computed, where others are left out because they give the same
            for every input; None for all.
        strips: how often it begins anew, a few rows each time.
        sizes: numbers that its C function is called with.
        constants: digests of its constants, for what several operators share.
    """

    op: str
    function: str
    kind: str
    specialized: bool = False
    weights_bytes: int = 0
    workspace_bytes: int = 0
    outputs: int | None = None
    strips: int = 1
    sizes: tuple[int | float, ...] = ()
    constants: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Sketch:
    """A program with its kernels and its arena.

    Attributes:
        program: in the order of the generated code.
        kernels: of all operators that compute something, in that order.
        optimize: what the C compiler is told, ``-O2`` or the like.
        striped: names of operators that are called for some rows at a time, because memory is short.
    """

    program: Program
    plan: MemoryPlan
    kernels: tuple[Kernel, ...]
    optimize: str
    striped: frozenset[str] = frozenset()


@runtime_checkable
class Sketching(Tunable, Protocol):
    """A backend whose layers can be predicted."""

    def sketch(self, program: Program, target: Target) -> Sketch:
        """Kernels and places in memory; nothing is compiled.

        Raises:
            BudgetError: no plan fits the target's RAM.
        """

    def kernel(self, op: Op, program: Program, target: Target) -> Kernel:
        """How an operator is computed, wherever its tensors lie."""

    def optimized(self, optimize: str) -> Sketching:
        """The same backend, telling the C compiler this rather than what it would."""
