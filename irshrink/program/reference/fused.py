"""Fused multiply-add in float32: IEEE 754's fusedMultiplyAdd, which NumPy does not have.

The product of two float32 is exact in float64. Its sum with a third is rounded to float64, then to float32,
which differs from a single rounding only where the first one fell on a midpoint of the second; there the
error of the first decides, which is known exactly (Knuth, The Art of Computer Programming 2, 4.2.2,
theorem B).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32

Float64 = NDArray[np.float64]

#: Sums that are worked on together.
_TOGETHER = 1 << 15

#: Bits of a float64 that float32 has no room for, and what they are half way between two float32.
_LOST, _HALF = np.int64((1 << 29) - 1), np.int64(1 << 28)

#: Where float32 becomes subnormal, and what makes odd whole numbers of the midpoints between those.
_SMALLEST_NORMAL, _MIDPOINTS = np.float64(2.0**-126), np.float64(2.0**150)


def fma(a: Float32, b: Float32, c: Float32) -> Float32:
    """``a * b + c`` with a single rounding, half to even; shapes broadcast."""
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    sums = FusedSums(np.broadcast_to(c, shape))
    sums.add(a.astype(np.float64), b.astype(np.float64))
    return sums.rounded


def blocks(rows: int, row: int) -> Iterator[slice]:
    """All rows in slices whose sums stay in the cache; ``row`` sums belong to each."""
    step = max(1, _TOGETHER // max(row, 1))
    for start in range(0, rows, step):
        yield slice(start, start + step)


class FusedSums:
    """Sums that take one product after the other, each with one rounding.

    Attributes:
        rounded: the sums so far, float32.
    """

    def __init__(self, start: Float32) -> None:
        self.rounded: Float32 = np.array(start, np.float32)
        self._sums: Float64 = self.rounded.astype(np.float64)
        self._product = np.empty_like(self._sums)
        self._total = np.empty_like(self._sums)
        self._bits = np.empty(self._sums.shape, np.int64)

    def add(self, a: Float64, b: Float64) -> None:
        """``sums = fma(a, b, sums)``; ``a`` and ``b`` hold float32 values and broadcast to the sums."""
        np.multiply(a, b, out=self._product)
        np.add(self._product, self._sums, out=self._total)
        np.bitwise_and(self._total.view(np.int64), _LOST, out=self._bits)
        if (self._bits == _HALF).any() or self._subnormal().any():
            self._total = _off_midpoints(self._product, self._sums, self._total)
        self.rounded[...] = self._total
        self._sums[...] = self.rounded

    def finished(self) -> Float32:
        """The sums, without -0: to lose it or not is up to whoever skips products with 0."""
        result: Float32 = self.rounded + np.float32(0.0)
        return result

    def _subnormal(self) -> NDArray[np.bool_]:
        magnitude = np.abs(self._total)
        inside: NDArray[np.bool_] = (magnitude < _SMALLEST_NORMAL) & (magnitude > 0)
        return inside


def _off_midpoints(product: Float64, addend: Float64, total: Float64) -> Float64:
    """Sums that lie on a midpoint of float32, moved to the side on which the exact sum lies."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinities and NaN stay what they are
        part = total - product
        error = (product - (total - part)) + (addend - part)
        normal = np.abs(total) >= _SMALLEST_NORMAL
        midpoint = np.where(normal, (total.view(np.int64) & _LOST) == _HALF, total * _MIDPOINTS % 2 == 1)
        moved = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    result: Float64 = np.where(midpoint & np.isfinite(error) & (error != 0), moved, total)
    return result
