"""Operators that move, choose or convert elements without arithmetic of their own."""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.program.ops.base import Int8, Op, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool(Op):
    """Largest value of a window of [N,H,W,C], int8 or float32; padding never wins."""

    window: Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Transpose(Op):
    """Copy with permuted axes, any element type: output axis i is input axis ``permutation[i]``."""

    permutation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Op):
    """Copy with a constant border: ``pads[axis] = (before, after)``."""

    pads: tuple[tuple[int, int], ...]
    value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Op):
    """Concatenation along ``axis``; an int8 input with a table goes through it (change of scale)."""

    axis: int
    tables: tuple[Int8 | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Op):
    """Copy of the indices ``range(starts[i], ends[i], steps[i])`` per axis; steps may be negative."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Expand(Op):
    """Copy with axes of size 1 repeated to the output's sizes (NumPy broadcasting); ranks are equal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Take(Op):
    """Copy of any indices per axis: ``y[i, j, ...] = x[indices[0][i], indices[1][j], ...]``.

    None stands for all indices of an axis in order.
    """

    indices: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Op):
    """The same bytes under another shape; costs nothing, the output shares the input's memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Op):
    """float32 to int8: ``clip(rint(x / scale) + zero_point, -128, 127)``, NaN gives zero_point.

    With ``half_away`` halves round away from zero, as TensorFlow Lite Micro has it.
    """

    scale: float
    zero_point: int
    half_away: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Dequantize(Op):
    """int8 to float32: ``float32(x - zero_point) * scale``."""

    scale: float
    zero_point: int
