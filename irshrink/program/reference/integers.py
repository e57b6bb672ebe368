"""Integers, truth values, comparisons, choices and conversions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irshrink.program.ops import BinaryInteger, Cast, Compare, Comparison, IntegerKind, Where
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op


def wrapped(x: Array, low: int = -(2**31), high: int = 2**31 - 1) -> Array:
    """Whole numbers (int64) by their low bits, in [low, high]."""
    result: Array = ((x - low) % (high - low + 1)) + low
    return result


def _divided(a: Array, b: Array) -> Array:
    quotient = np.abs(a) // np.where(b == 0, 1, np.abs(b))
    return np.where(b == 0, 0, np.where((a < 0) != (b < 0), -quotient, quotient))


def _remainder(a: Array, b: Array) -> Array:
    """Of the division that truncates: it has the sign of a."""
    return np.where(b == 0, 0, a - b * _divided(a, b))


def _modulus(a: Array, b: Array) -> Array:
    return np.where(b == 0, 0, a % np.where(b == 0, 1, b))


def _shifted_left(a: Array, b: Array) -> Array:
    inside = (b >= 0) & (b < 32)
    return np.where(inside, (a & 0xFFFFFFFF) << np.where(inside, b, 0), 0)


def _shifted_right(a: Array, b: Array) -> Array:
    """Arithmetic, as if by one place after the other; no number of places is below 0."""
    return a >> np.where((b >= 0) & (b < 32), b, 31)


_INTEGER: dict[IntegerKind, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divided, "mod": _modulus,
    "fmod": _remainder, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "shl": _shifted_left, "shr": _shifted_right,
}  # fmt: skip
_COMPARISONS: dict[Comparison, Callable[[Array, Array], Array]] = {
    "equal": np.equal, "notequal": np.not_equal, "less": np.less, "lessorequal": np.less_equal,
    "greater": np.greater, "greaterorequal": np.greater_equal,
}  # fmt: skip


@evaluate_op.register
def _(op: BinaryInteger, arrays: list[Array], program: Program) -> Array:
    a, b = (x.astype(np.int64) for x in arrays)
    exact = _INTEGER[op.kind](a, b)
    return wrapped(exact).astype(arrays[0].dtype)


@evaluate_op.register
def _(op: Compare, arrays: list[Array], program: Program) -> Array:
    return _COMPARISONS[op.kind](*arrays).astype(np.uint8)


@evaluate_op.register
def _(op: Where, arrays: list[Array], program: Program) -> Array:
    condition, a, b = arrays
    chosen: Array = np.where(condition != 0, a, b)
    return chosen


@evaluate_op.register
def _(op: Cast, arrays: list[Array], program: Program) -> Array:
    x, wanted = arrays[0], program.tensors[op.output].dtype
    if x.dtype != np.float32:
        x = x.astype(np.int64) - op.input_zero_point
    if wanted == "float32":
        real: Array = x.astype(np.float32)
        return real
    if wanted == "uint8":
        return np.asarray(x != 0, np.uint8)
    if x.dtype == np.float32:
        cut = np.trunc(np.where(np.isnan(x), np.float32(0), x)).astype(np.float64)
        whole = np.clip(cut, op.low, op.high).astype(np.int64)
    else:
        whole = wrapped(x, op.low, op.high)
    stored: Array = (whole + op.output_zero_point).astype(wanted)
    return stored
