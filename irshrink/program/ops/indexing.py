"""Operators that go by indices known only at run time, and those that find indices.

An index i into an axis of size n names the place ``clip(i + n if i < 0 else i, 0, n - 1)``: negative ones
count from the end, and what lies outside is moved to the nearest end, so that no index reads or writes memory
of others. Indices are int32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irshrink.program.ops.base import Float32, Op
from irshrink.program.ops.stored import StoredWeights

Reduction = Literal["none", "add", "mul", "min", "max"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gather(Op):
    """``y[b, j] = data[b, places of indices[b, j]]`` for inputs (data, indices), any element type.

    ``data`` is [batch, n1..nk, run], ``indices`` [batch or 1, count, k], the output [batch, count, run].
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class GatherRows(Op):
    """``y[i] = table[place of indices[i]]`` for int32 indices [count]: rows that are stored in fewer bits.

    Attributes:
        table: float32 [rows, run].
        codes: how it is stored, a row for a channel.
    """

    table: Float32
    codes: StoredWeights


@dataclass(frozen=True, kw_only=True, eq=False)
class GatherElements(Op):
    """``y[i, j...] = data[i, place of indices[i, j...], ...]`` for inputs (data, indices) of one rank."""

    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Scatter(Op):
    """``data`` with ``updates`` written at ``indices``, in order, for inputs (data, indices, updates).

    ``data`` is [n1..nk, run], ``indices`` [count, k], ``updates`` [count, run]. With a reduction the update
    is combined with what is there: ``there <reduction> update``.
    """

    reduction: Reduction


@dataclass(frozen=True, kw_only=True, eq=False)
class ScatterElements(Op):
    """``data``, then ``y[i, place of indices[i, j...], ...] = updates[i, j...]`` in row-major order."""

    axis: int
    reduction: Reduction


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgReduce(Op):
    """int32 index of the largest or smallest along ``axis`` (kept as 1): the first one, or the last.

    A later element replaces the best so far where ``x > best`` (``>=`` with ``last``; < and <= for min).
    """

    kind: Literal["max", "min"]
    axis: int
    last: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TopK(Op):
    """int32 indices of the k largest (or smallest) along ``axis``, best first; of equal ones the first.

    NaN is never taken; a place for which there is no number has index 0.
    """

    axis: int
    k: int
    largest: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class ReduceInteger(Op):
    """Sum, product, largest or smallest of int32 over ``axes`` (kept as 1), modulo 2**32."""

    kind: Literal["sum", "prod", "max", "min"]
    axes: tuple[int, ...]
