"""Scales and zero points of weights, found in two readings of a weight in runs of rows.

Numbers that share a scale are a group: an output channel, or ``block_size`` neighbours along the axis that an
output sums over. With n bits and the extremes of a group:

    symmetric     s = max|w| / (2^(n-1) - 1)            w ~ s q          |q| <= 2^(n-1) - 1
    asymmetric    s = (max(w, 0) - min(w, 0)) / (2^n - 1)   w ~ s (q - z)    z = rint(-min / s), 0 <= q < 2^n

A range that clips the largest weights can have the smaller error (Banner et al., NeurIPS 2019,
arXiv:1810.05723): ``mse`` tries fractions of the full range and keeps what gives each group the smallest sum
of squared errors. A power of two as scale (Zhou et al., ICLR 2017, arXiv:1702.03044) makes the product a
shift: the one next above, which clips nothing, or by ``mse`` the best of those around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Array
from irshrink.passes.quantize.stored.weight_only import Place, chunks

WeightRange = Literal["max", "mse"]

#: Fractions of the full range that ``mse`` tries, the full one first.
_FRACTIONS = tuple(1.0 - 0.02 * i for i in range(36))
#: Powers of two that ``mse`` tries, from the one that clips nothing.
_HALVINGS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Groups:
    """Which numbers of a weight share a scale.

    Attributes:
        shape: of the weight.
        axis: that is counted by scales, or divided into blocks.
        block_size: neighbours along ``axis`` that share a scale; 0 for one scale an index of ``axis``.
    """

    shape: tuple[int, ...]
    axis: int
    block_size: int = 0

    @staticmethod
    def of(shape: Sequence[int], place: Place, block_size: int) -> Groups:
        """Blocks where an output sums over more than one of them, else output channels."""
        inner = place.inner
        if block_size and inner is not None and shape[inner] > block_size:
            return Groups(tuple(shape), inner, block_size)
        return Groups(tuple(shape), place.axis)

    @property
    def parameters(self) -> tuple[int, ...]:
        """Shape of the scales."""
        if not self.block_size:
            return (self.shape[self.axis],)
        return tuple(-(-n // self.block_size) if i == self.axis else n for i, n in enumerate(self.shape))

    @property
    def rows(self) -> int:
        """Rows of axis 0 that must not be parted."""
        return self.block_size if self.block_size and self.axis == 0 else 1

    def reduce(self, ufunc: np.ufunc, chunk: Array) -> Array:
        """``ufunc`` over the numbers of a chunk that share a scale."""
        if not self.block_size:
            others = tuple(i for i in range(chunk.ndim) if i != self.axis)
            return np.asarray(ufunc.reduce(chunk, axis=others))
        starts = np.arange(0, chunk.shape[self.axis], self.block_size)
        return np.asarray(ufunc.reduceat(chunk, starts, axis=self.axis))

    def part(self, parameters: Array, at: slice) -> Array:
        """The parameters of the rows ``at`` of axis 0; a view."""
        if not self.block_size:
            return parameters[at] if self.axis == 0 else parameters
        if self.axis != 0:
            return parameters[at]
        return parameters[at.start // self.block_size : -(-at.stop // self.block_size)]

    def spread(self, parameters: Array, chunk: Array) -> Array:
        """Parameters of a chunk in a shape that broadcasts against it."""
        if not self.block_size:
            return parameters.reshape([-1 if i == self.axis else 1 for i in range(chunk.ndim)])
        return np.repeat(parameters, self.block_size, self.axis)[
            tuple(slice(0, n) if i == self.axis else slice(None) for i, n in enumerate(chunk.shape))
        ]


@dataclass(frozen=True)
class Linear:
    """Integers that stand for ``scale * (q - zero_point)``.

    Attributes:
        bits: 8, 4 or 2.
        symmetric: signed without zero points, else unsigned with.
        weight_range: full, or by the smallest squared error.
        power_of_two: scales are powers of two.
        step: the scale of all, given; 0 to take it from the weights.
    """

    bits: int
    symmetric: bool = True
    weight_range: WeightRange = "max"
    power_of_two: bool = False
    step: float = 0.0

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        half = (1 << (self.bits - 1)) - 1
        return (-half, half) if self.symmetric else (0, 2 * half + 1)

    def parameters(self, tensor: ir.TensorProtocol, groups: Groups) -> tuple[Array, Array]:
        """Scales, in the weights' own type, and zero points (of symmetric ones 0)."""
        low, high = _extremes(tensor, groups)
        if self.step:
            high = np.full(low.shape, self.step * self.limits[1], np.float32)
        if self.symmetric:
            high = np.maximum(high, -low)
            low = -high
        best = self._scaled(low, high, 1.0, tensor)
        if self.weight_range == "max" or self.step:
            return best
        fractions = _HALVINGS if self.power_of_two else _FRACTIONS
        tried = [self._scaled(low, high, fraction, tensor) for fraction in fractions]
        chosen = np.argmin(self._errors(tensor, groups, tried), axis=0)
        at = (chosen, *np.indices(chosen.shape))
        return np.stack([scale for scale, _ in tried])[at], np.stack([zero for _, zero in tried])[at]

    def integers(self, chunk: Array, scale: Array, zero: Array) -> Array:
        """The nearest integers; ``scale`` and ``zero`` broadcast against ``chunk``."""
        return np.asarray(np.clip(np.rint(chunk / scale.astype(np.float32)) + zero, *self.limits))

    def _scaled(
        self, low: Array, high: Array, fraction: float, tensor: ir.TensorProtocol
    ) -> tuple[Array, Array]:
        bottom, top = self.limits
        scale = high / np.float32(top) if self.symmetric else (high - low) / np.float32(top)
        if self.power_of_two:
            scale = np.where(scale > 0, np.exp2(np.ceil(np.log2(np.where(scale > 0, scale, 1)))), 0)
        scale = (scale * np.float32(fraction)).astype(tensor.dtype.numpy())
        scale[scale == 0] = 1
        zero = np.zeros(scale.shape, np.float32)
        if not self.symmetric:
            zero = np.clip(np.rint(-low * np.float32(fraction) / scale.astype(np.float32)), bottom, top)
        return scale, zero

    def _errors(
        self, tensor: ir.TensorProtocol, groups: Groups, tried: Sequence[tuple[Array, Array]]
    ) -> Array:
        """Squared errors of each group, one row a candidate."""
        errors = np.zeros((len(tried), *groups.parameters), np.float64)
        for at, chunk in chunks(tensor, groups.rows):
            for index, candidate in enumerate(tried):
                scale, zero = (groups.spread(groups.part(p, at), chunk) for p in candidate)
                real = (self.integers(chunk, scale, zero) - zero) * scale.astype(np.float32)
                part = groups.part(errors[index], at)
                part += groups.reduce(np.add, (real - chunk) ** 2)
        return errors


def _extremes(tensor: ir.TensorProtocol, groups: Groups) -> tuple[Array, Array]:
    """Smallest and largest number of each group, 0 included."""
    low, high = (np.zeros(groups.parameters, np.float32) for _ in range(2))
    for at, chunk in chunks(tensor, groups.rows):
        for extreme, ufunc in ((low, np.minimum), (high, np.maximum)):
            part = groups.part(extreme, at)
            ufunc(part, groups.reduce(ufunc, chunk), out=part)
    return low, high
