"""Operators that compute in float16: IEEE 754 binary16, every operation written rounded once to it.

``h(x)`` is x rounded to float16. Sums of products are chains of fused multiply-adds, ``acc = h(x * w +
acc)``; long ones are cut into pieces (:class:`Pieces`). Functions and other sums compute in float32 inside
and round their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops.base import Op, Window
from irshrink.program.ops.float32 import BinaryKind, ReduceKind, UnaryKind

Float16 = NDArray[np.float16]

#: Most products of one chain, where a sum has several.
PIECE = 128


@dataclass(frozen=True)
class Pieces:
    """How the products of one output are cut, in the order ky, kx, ci.

    Sums of at most :data:`PIECE` products are one chain that starts at the bias. Longer ones are pieces: each
    is a chain from 0, the total starts at the bias, and ``total = h(total + piece)`` after each one. A piece
    ends with every row of the window, and inside a run after every :data:`PIECE` of its products.

    Attributes:
        rows: of the window.
        runs: in a row: 1 where its products lie side by side in memory, else one for each column.
        run: products of one.
    """

    rows: int
    runs: int
    run: int

    @staticmethod
    def of(window: Window, groups: int, depth: int) -> Pieces:
        """Those of a convolution with ``depth`` input channels a group."""
        kh, kw = window.kernel
        whole = groups == 1 and (window.dilations[1] == 1 or kw == 1)
        return Pieces(kh, 1, kw * depth) if whole else Pieces(kh, kw, depth)

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return self.run > PIECE or (self.rows * self.runs * self.run > PIECE and self.rows > 1)

    def ends(self) -> Iterator[bool]:
        """For each product in order, whether a piece ends with it."""
        row = self.runs * self.run
        for index in range(self.rows * row):
            within = index % row
            last = within == row - 1
            yield self.several and (
                last or ((within % self.run + 1) % PIECE == 0 and (within + 1) % self.run != 0)
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvF16(Op):
    """2-D convolution of float16 [N,H,W,Ci] by weights [Co,kh,kw,Ci/groups], then ``h(sum + 0)`` and the clip
    to [low, high], which are float16 numbers or infinite. A padded x is 0.

    ``winograd``: 3x3 windows in tiles of 2x2 results (irshrink/program/winograd.py).
    """

    weight: Float16
    bias: Float16
    window: Window
    groups: int
    low: float
    high: float
    winograd: bool = False

    @property
    def pieces(self) -> Pieces:
        return Pieces.of(self.window, self.groups, self.weight.shape[3])


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseF16(Op):
    """float16 [..., K] by weights [N, K], as a pointwise :class:`ConvF16`."""

    weight: Float16
    bias: Float16
    low: float
    high: float

    @property
    def pieces(self) -> Pieces:
        return Pieces(1, 1, self.weight.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMulF16(Op):
    """Product of two float16 tensors [B..., M, K] and [B..., K, N] (batches equal): sums of K products as
    those of :class:`DenseF16`, from 0, then ``h(sum + 0)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryF16(Op):
    """Elementwise on two float16 tensors, NumPy broadcasting; kinds and ``constant`` as in ``BinaryF32``,
    each operation rounded once to float16."""

    kind: BinaryKind
    constant: Float16 | None = None
    constant_first: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class UnaryF16(Op):
    """``h(f(x))`` with f as ``UnaryF32`` computes it in float32."""

    kind: UnaryKind
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolF16(Op):
    """``AveragePoolF32`` on float16, in float32; its result rounded."""

    window: Window
    count_padding: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ReduceF16(Op):
    """``ReduceF32`` on float16, in float32; its result rounded."""

    kind: ReduceKind
    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundF16(Op):
    """float32 to float16: ``h(x)``, beyond 65,504 infinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WidenF16(Op):
    """float16 to float32, exactly."""
