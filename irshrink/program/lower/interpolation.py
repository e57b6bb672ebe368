"""Where the outputs of a Resize lie in its input, and with what weights they read it.

Coordinates are float32, as ONNX Runtime computes them: which of two neighbours is nearer depends on it. The
formulas are those of the ONNX operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32, Int32

F = np.float32

#: coordinate_transformation_mode and nearest_mode.
MODES = (
    "align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
    "tf_crop_and_resize",
)  # fmt: skip
ROUNDINGS = ("ceil", "floor", "round_prefer_ceil", "round_prefer_floor")


@dataclass(frozen=True)
class Axis:
    """One resized axis.

    Attributes:
        size, length: of the input and of the output.
        scale: output per input.
        mode: coordinate_transformation_mode, one of :data:`MODES`.
        start, end: of the region of interest, for tf_crop_and_resize.
    """

    size: int
    length: int
    scale: float
    mode: str
    start: float = 0.0
    end: float = 1.0

    def coordinates(self) -> Float32:
        """The place of every output in the input, float32 [length]."""
        return np.asarray(self._coordinates(), F)

    def _coordinates(self) -> Any:
        x = np.arange(self.length, dtype=F)
        scale, size, length = F(self.scale), F(self.size), F(self.length)
        if self.mode == "tf_crop_and_resize":
            start, end = F(self.start), F(self.end)
            if self.length == 1:
                return np.full(1, F(0.5) * (start + end) * (size - F(1)), F)
            return start * (size - F(1)) + x * (end - start) * (size - F(1)) / (length - F(1))
        if self.mode == "align_corners":
            return np.zeros(1, F) if self.length == 1 else x * (size - F(1)) / (length - F(1))
        if self.mode == "pytorch_half_pixel" and self.length == 1:
            return np.zeros(1, F)
        if self.mode == "half_pixel_symmetric":
            adjusted = F(self.length) / (scale * size)
            offset = size / F(2) * (F(1) - adjusted)
            return offset + (x + F(0.5)) / scale - F(0.5)
        forms: dict[str, Callable[[], Any]] = {
            "asymmetric": lambda: x / scale,
            "half_pixel": lambda: (x + F(0.5)) / scale - F(0.5),
            "pytorch_half_pixel": lambda: (x + F(0.5)) / scale - F(0.5),
        }
        return forms[self.mode]()


def nearest(coordinates: Float32, mode: str, size: int) -> tuple[int, ...]:
    """The index of the nearest input of each coordinate, by ``nearest_mode``, one of :data:`ROUNDINGS`."""
    roundings: dict[str, Callable[[Float32], Any]] = {
        "ceil": np.ceil,
        "floor": np.floor,
        "round_prefer_ceil": lambda x: np.floor(x + F(0.5)),
        "round_prefer_floor": lambda x: np.ceil(x - F(0.5)),
    }
    rounded = roundings[mode](coordinates)
    return tuple(int(i) for i in np.clip(rounded, 0, size - 1))


@dataclass(frozen=True)
class Kernel:
    """How far around a coordinate inputs count, and how much.

    Attributes:
        radius: 1 for linear, 2 for cubic interpolation.
        a: the cubic coefficient.
        antialias: widen the kernel where the axis shrinks.
        exclude_outside: weights outside the input are 0 and the others grow, instead of repeating the edge.
    """

    radius: int
    a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def __call__(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        d, a = np.abs(distance), self.a
        if self.radius == 1:
            return np.asarray(np.clip(1 - d, 0, 1))
        inner = ((a + 2) * d - (a + 3)) * d * d + 1
        outer = a * (((d - 5) * d + 8) * d - 4)
        return np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def taps(axis: Axis, kernel: Kernel) -> tuple[Int32, NDArray[np.float64]]:
    """Indices and weights [length, taps] of every output; what lies outside counts as the edge.

    Weights of outputs outside the region that tf_crop_and_resize may read are 0.
    """
    place = axis.coordinates().astype(np.float64)
    base = np.ceil(place) - 1
    shrink = min(axis.scale, 1.0) if kernel.antialias else 1.0
    start = floor(-kernel.radius / shrink) + 1
    offsets = np.arange(start, 2 - start)
    weights = kernel((base[:, None] + offsets - place[:, None]) * shrink)
    indices = base[:, None].astype(np.int64) + offsets
    if kernel.exclude_outside:
        weights = np.where((indices < 0) | (indices >= axis.size), 0.0, weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    weights[outside(axis, place)] = 0.0
    return _merged(np.clip(indices, 0, axis.size - 1), weights)


def outside(axis: Axis, place: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which outputs are the extrapolation value."""
    if axis.mode != "tf_crop_and_resize":
        return np.zeros(place.shape, np.bool_)
    return (place < 0) | (place > axis.size - 1)


def _merged(indices: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[Int32, NDArray[np.float64]]:
    """Taps that are 0 for every output leave."""
    used = np.any(weights != 0, axis=0)
    used[0] |= not used.any()
    return indices[:, used].astype(np.int32), weights[:, used]


def fixed_point(weights: NDArray[np.float64], bits: int) -> Int32:
    """Weights in steps of ``2**-bits``; those of one output sum to what the exact ones sum to, rounded."""
    scaled = weights * 2.0**bits
    rounded = np.rint(scaled)
    missing = np.rint(scaled.sum(axis=1)) - rounded.sum(axis=1)
    largest = np.argmax(np.abs(scaled), axis=1)
    rounded[np.arange(len(rounded)), largest] += missing
    return rounded.astype(np.int32)
