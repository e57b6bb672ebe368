"""Constants that a file stores in fewer bits, element by element, so that they move as the constant does.

Scales per channel are :class:`~irshrink.program.lower.constants.Codes`, which integer layers need; here are
the forms that only float layers read: blocks that share a scale, tables of levels, and numbers of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32, StoredWeights, WeightCodes, WeightHalves, WeightLevels

Array = NDArray[Any]
Move = Callable[[Array], Array]


@dataclass(frozen=True)
class Blocks:
    """Runs of ``size`` integers share a scale.

    Attributes:
        integers: in two's complement of ``bits``, the shape of the constant.
        scale, zero_point: the same shape, each number at its place.
    """

    integers: Array
    scale: Array
    zero_point: Array
    size: int
    bits: int

    def moved(self, move: Move) -> Blocks:
        parts = [np.asarray(move(part)) for part in (self.integers, self.scale, self.zero_point)]
        return Blocks(parts[0], parts[1], parts[2], self.size, self.bits)

    def form(self, weight: Float32) -> StoredWeights | None:
        """How ``weight`` is stored; None when the blocks do not lie along its last axis."""
        scale, zero = self.scale[..., :: self.size], self.zero_point[..., :: self.size]
        made = WeightCodes(
            integers=np.ascontiguousarray(self.integers, np.int8),
            scale=np.ascontiguousarray(scale, np.float32),
            zero_point=np.ascontiguousarray(zero, np.int8) if zero.any() else None,
            bits=self.bits,
            block=self.size,
        )
        return made if np.array_equal(made.real(), weight) else None


@dataclass(frozen=True)
class Indexed:
    """Numbers of a table.

    Attributes:
        indices: uint8, the shape of the constant.
        bits: that the file spends on each: 8, 4 or 2.
    """

    indices: Array
    bits: int

    def moved(self, move: Move) -> Indexed:
        return Indexed(np.asarray(move(self.indices)), self.bits)

    def form(self, weight: Float32) -> StoredWeights | None:
        """One table if that does, else one for each output channel; None when neither does."""
        indices = np.ascontiguousarray(self.indices)
        one = np.zeros(1 << self.bits, np.float32)
        one[indices.reshape(-1)] = weight.reshape(-1)
        rows = (len(weight), -1)
        each = np.zeros((len(weight), 1 << self.bits), np.float32)
        np.put_along_axis(each, indices.reshape(rows).astype(np.int64), weight.reshape(rows), 1)
        for levels in (one, each):
            made = WeightLevels(indices=indices, levels=levels, bits=self.bits)
            if np.array_equal(made.real(), weight):
                return made
        return None


@dataclass(frozen=True)
class Halves:
    """Numbers that the file stores in 16 bits."""

    element: Literal["float16", "bfloat16"]

    def moved(self, move: Move) -> Halves:
        return self

    def form(self, weight: Float32) -> StoredWeights | None:
        """None where it has other numbers, as after a multiplication."""
        with np.errstate(over="ignore"):
            halves = (
                weight.astype(np.float16).view(np.uint16)
                if self.element == "float16"
                else (weight.view(np.uint32) >> 16).astype(np.uint16)
            )
        made = WeightHalves(halves=np.ascontiguousarray(halves), element=self.element)
        return made if np.array_equal(made.real(), weight) else None


@dataclass(frozen=True)
class Scattered:
    """Without the numbers that are 0."""

    def moved(self, move: Move) -> Scattered:
        return self

    def form(self, weight: Float32) -> StoredWeights | None:
        """None: what is left of them has 32 bits."""
        return None


Stored = Blocks | Indexed | Halves | Scattered
