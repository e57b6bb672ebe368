"""How the weights of a float32 layer are stored in fewer bits, output channels first.

The weights are exactly what the stored form stands for: which form it is changes what lies in flash and how a
kernel loads it, and no result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class WeightCodes:
    """Integers and scales: ``float32(float32(integers - zero_point) * scale)``.

    Attributes:
        integers: the shape of the weights, in two's complement of ``bits``.
        scale: one number per output channel; with blocks [Co, ..., blocks], the weights' shape but for the
            last axis.
        zero_point: the shape of ``scale``, None where all are 0; from what range integers are.
        bits: that an integer is stored in: 8, 4 or 2.
        block: neighbours along the last axis that share a scale; 0 for one a channel. The last block may
            be shorter.
    """

    integers: Int8
    scale: Float32
    zero_point: Int8 | None = None
    bits: int = 8
    block: int = 0

    def real(self) -> Float32:
        """The weights."""
        zero = np.zeros(self.scale.shape, np.int8) if self.zero_point is None else self.zero_point
        scale, zeros = (self._spread(parameter) for parameter in (self.scale, zero))
        centred = (self.integers.astype(np.int32) - zeros).astype(np.float32)
        return np.asarray(centred * scale, np.float32)

    def _spread(self, parameter: NDArray[Any]) -> NDArray[Any]:
        if not self.block:
            return parameter.reshape(-1, *(1,) * (self.integers.ndim - 1))
        return np.repeat(parameter, self.block, -1)[..., : self.integers.shape[-1]]


@dataclass(frozen=True, kw_only=True)
class WeightLevels:
    """Indices into a table: ``levels[index]``, or ``levels[channel][index]``.

    Attributes:
        indices: uint8, the shape of the weights.
        levels: [2^bits], or [Co, 2^bits].
        bits: that an index is stored in: 8, 4 or 2.
    """

    indices: NDArray[np.uint8]
    levels: Float32
    bits: int

    def real(self) -> Float32:
        """The weights."""
        if self.levels.ndim == 1:
            return np.asarray(self.levels[self.indices])
        rows = self.indices.reshape(len(self.indices), -1)
        return np.take_along_axis(self.levels, rows.astype(np.int64), 1).reshape(self.indices.shape)


@dataclass(frozen=True, kw_only=True)
class WeightHalves:
    """Numbers of 16 bits, finite.

    Attributes:
        halves: the bits, uint16, the shape of the weights.
        element: what they mean.
    """

    halves: NDArray[np.uint16]
    element: Literal["float16", "bfloat16"]

    def real(self) -> Float32:
        """The weights."""
        if self.element == "float16":
            return self.halves.view(np.float16).astype(np.float32)
        return (self.halves.astype(np.uint32) << 16).view(np.float32)


StoredWeights = WeightCodes | WeightLevels | WeightHalves
