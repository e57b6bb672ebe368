"""What an instruction set brings: the micro-kernel protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.vector.results import Int8Results
from irshrink.backends.tvm.tir import Buffer, Expr, Function

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]

#: Where a tile reads: rows of the (padded) input as they lie, or a copy of its windows, byte after byte.
Source = Literal["rows", "patch"]


@dataclass(frozen=True)
class VectorTile:
    """``pixels`` x ``channels`` sums in registers, and where their bytes come from: a schedule.

    ``products``: by which of a core's instructions, where a target leaves that to the layer.
    """

    pixels: int
    channels: int
    source: Source = "rows"
    products: Literal["matrix"] | None = None

    @property
    def suffix(self) -> str:
        return f"{self.pixels}x{self.channels}{'_patch' if self.source == 'patch' else ''}"


class Sums(Protocol):
    """The accumulators of one tile while the kernel is written."""

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        """Before the first run; ``fed_first`` promises that the next call of ``run`` says ``first``."""

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        """Feed ``nbytes`` contiguous bytes: pixel p reads from ``x[at[p]]``, weights start at ``weight[w]``.

        May read up to the next multiple of 16 bytes of x; what lies beyond ``nbytes`` meets zero weights.
        """

    def values(self, pixel: int) -> list[Expr]:
        """The finished sums of one pixel, vectors of ``TileKernel.lanes`` channels."""


@runtime_checkable
class SumsInPieces(Protocol):
    """Sums that are cut after rows of the window."""

    def end_row(self) -> None:
        """After the last run of a row."""


def end_row(sums: Sums) -> None:
    """Tell sums of an end of a row, if they want to know."""
    if isinstance(sums, SumsInPieces):
        sums.end_row()


class TileKernel(Protocol):
    """How one instruction set sums the products of a tile; a frozen dataclass, an argument of generators.

    Attributes:
        name: part of the names of kernels.
        lanes: channels of one vector of sums; tiles have a multiple of it.
        copies_short_runs: whether windows may be copied to spare vectors that are mostly empty.
        element: what it multiplies, ``s8``, ``f16`` or ``f32``.
        header: prefix of the C functions that geometry calls: ``pad_row``, ``move4``, 8, 16.
    """

    @property
    def name(self) -> str: ...

    @property
    def lanes(self) -> int: ...

    @property
    def copies_short_runs(self) -> bool: ...

    @property
    def header(self) -> str: ...

    @property
    def element(self) -> str: ...

    def stored(self, run: int) -> int:
        """Bytes that the packed weights of ``run`` contiguous bytes of one channel take."""

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        """Sizes whose sums stay in registers, none larger than the layer."""

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        """An estimate for one tile over ``runs`` runs of ``run`` bytes, without results and loops."""

    def sums(self, f: Function, tile: VectorTile) -> Sums:
        """Accumulators in a function that is being written."""


class MicroKernel(TileKernel, Protocol):
    """A tile kernel for int8, with what comes before and after the sums."""

    def pack(self, weight: Int8) -> Int8:
        """Weights [block, channel, run, byte] in the order of the inner loop, flat."""

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        """What sums start from (or are ended with); ``weight`` [channel, ...]."""

    def results(self) -> type[Int8Results]:
        """How sums become bytes."""


def blocks_of(starts: Sequence[int], weight: Any, width: int) -> Any:
    """Weights [channel, ...] as [block, channel of the block, ...]; blocks may overlap."""
    return np.stack([weight[s : s + width] for s in starts])
