"""Operators on plain integers and truth values, and those that tell or choose by them.

int32 arithmetic is modulo 2**32. Truth values are uint8, 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irshrink.program.ops.base import Op

IntegerKind = Literal[
    "add", "sub", "mul", "div", "mod", "fmod", "min", "max", "and", "or", "xor", "shl", "shr"
]  # fmt: skip
Comparison = Literal["equal", "notequal", "less", "lessorequal", "greater", "greaterorequal"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryInteger(Op):
    """Elementwise on two int32 or two uint8 (truth value) tensors, NumPy broadcasting.

    div truncates towards 0; ``mod`` has the sign of b, ``fmod`` that of a; each of them by 0 gives 0.
    shl fills with 0, shr with the sign; by 32 or more, or less than 0, nothing but the filling is left. and,
    or and xor act on bits.
    """

    kind: IntegerKind


@dataclass(frozen=True, kw_only=True, eq=False)
class Compare(Op):
    """uint8 ``1 if a <kind> b else 0`` of two float32, int32 or uint8 tensors, NumPy broadcasting."""

    kind: Comparison


@dataclass(frozen=True, kw_only=True, eq=False)
class Where(Op):
    """``a if condition else b`` for inputs (condition, a, b), any element type, NumPy broadcasting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cast(Op):
    """Conversion between float32, int32, int8 and uint8 (truth values), by the tensors' types.

    int8 tensors hold integers of an 8-bit type less their zero point: x is ``stored - input_zero_point``.

    - to float32: the nearest, half to even;
    - to uint8: ``x != 0``;
    - float32 to integers: cut towards 0, saturated to [low, high], NaN gives 0;
    - integers to integers: the low bits, so that it lies in [low, high], whose size is a power of two.

    ``output_zero_point`` is added at the end.
    """

    low: int = -(2**31)
    high: int = 2**31 - 1
    input_zero_point: int = 0
    output_zero_point: int = 0
