"""How the generated ``model_run()`` calls a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.tir import TirFunction
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target


@dataclass(frozen=True)
class Input:
    """The address of the operator's ``index``-th input, ``offset`` bytes in."""

    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Output:
    """The address of the operator's output, ``offset`` bytes in."""

    offset: int = 0


@dataclass(frozen=True)
class Workspace:
    """The address of the call's workspace in the arena, ``offset`` bytes in."""

    offset: int = 0


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that goes to flash; ``role`` is part of its C name (weights, bias, multipliers, table).

    ``bits``: what it spends on a weight, where it holds weights.
    """

    role: str
    array: NDArray[np.generic]
    bits: int = 8


#: What a family may choose: a frozen dataclass of numbers, strings and booleans (backends/tvm/schedules.py).
Schedule = Any

#: Python numbers become literals: int to int32_t, float to float.
Argument = Input | Output | Workspace | Constant | int | float


@dataclass(frozen=True)
class RowCall:
    """How a call is made for some rows of its output: which parameters then have other values.

    The output begins at those rows. A kernel that takes ``pad_top`` sees the input from the first row that is
    in memory, as its first input; others and further inputs begin at the first row that is needed.

    Attributes:
        reaches: of every input.
        pixels, elements, out_rows: names of what counts the output's pixels, its elements, its rows.
        in_rows, pad_top: names of the input's rows and of the rows of padding above it.
        ring: whether the workspace is a ring, which has to last from call to call.
        tile: how many pixels are computed at once, counted through all rows of a call.
        singles: whether pixels left over are computed as tiles of one; else the last tile overlaps.
    """

    reaches: tuple[Reach, ...]
    pixels: str | None = None
    elements: str | None = None
    out_rows: str | None = None
    in_rows: str | None = None
    pad_top: str | None = None
    ring: bool = False
    tile: int = 1
    singles: bool = False

    @property
    def names(self) -> frozenset[str]:
        named = (self.pixels, self.elements, self.out_rows, self.in_rows, self.pad_top)
        return frozenset(n for n in named if n is not None) | (
            {"ring_row", "remembered"} if self.ring else set()
        )


@dataclass(frozen=True)
class KernelCall:
    """One call of one kernel.

    Attributes:
        function: the kernel; calls with equal function names share it.
        arguments: one for each parameter of the function, in order.
        workspace_bytes: scratch memory in the arena, 4-byte aligned, live during this call only.
        overread_bytes: how far past the end of an input the kernel may read (never write).
        steady: whether what lies there must not change while the kernel runs: nothing else may be there.
        in_place: inputs whose address the output may share.
        distances: ``(index, bytes)`` of inputs that the output may overlap when it begins at least so many
            bytes before them (negative: after them).
        rows: how to call it for some rows of its output only; None if that cannot be done.
        specialized: whether the sizes are constants of a C function that only equal calls share: fewer
            instructions for more code.
        by_rows: whether it is called for some rows at a time.
        assembly: whether its inner loops are in assembly on a microcontroller, so that the compiler may go
            for size around them.
        schedule: the frozen dataclass of choices that it was made from, where its family has any; of equal
            fields, so that a database can hold it.
        computed: how many output channels its loops go over, where others are left out because they give the
            same for every input; None for all.
        strips: how often it begins anew, a few rows each time.
    """

    function: TirFunction
    arguments: tuple[Argument, ...]
    workspace_bytes: int = 0
    overread_bytes: int = 0
    steady: bool = False
    in_place: tuple[int, ...] = ()
    distances: tuple[tuple[int, int], ...] = ()
    rows: RowCall | None = None
    specialized: bool = False
    schedule: Schedule | None = None
    by_rows: bool = False
    assembly: bool = False
    computed: int | None = None
    strips: int = 1

    @property
    def varying(self) -> frozenset[str]:
        """Parameters that have no one value, because the call is made for some rows at a time."""
        return self.rows.names if self.by_rows and self.rows is not None else frozenset()

    def constants(self) -> list[Constant]:
        return [a for a in self.arguments if isinstance(a, Constant)]


#: ``selector(op, program, target)`` chooses by rule; those that have candidates take a schedule as well.
Selector = Callable[..., KernelCall]
#: The schedules there are for an operator, in a fixed order; every one gives the same bytes.
Candidates = Callable[[Any, Program, Target], Sequence[Schedule]]
