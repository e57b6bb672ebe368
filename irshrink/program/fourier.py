"""Convolutions with long rows of weights by Fourier transforms along the row: what all share.

A row of a window with ``kw`` weights slides over segments of ``length`` inputs, each of which gives
``length - kw + 1`` outputs (overlap-save, Stockham 1966). Two segments are one complex signal, because the
weights are real. Transforms are radix-2 (Cooley and Tukey 1965): decimation in frequency on the way there, in
time on the way back, so that spectra are in bit-reversed order and nothing is reordered.

docs/integer-semantics.md says in which order everything is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Float32

#: Lengths of transforms to choose from.
LENGTHS = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Segments:
    """How a row of outputs is cut: ``pairs`` of segments of ``length`` inputs, ``step`` outputs each."""

    length: int
    step: int
    pairs: int

    @staticmethod
    def of(length: int, taps: int, outputs: int) -> Segments:
        step = length - taps + 1
        return Segments(length, step, -(-outputs // (2 * step)))

    @property
    def reach(self) -> int:
        """Inputs that the segments of a row cover, from the left padding on."""
        return self.length + (2 * self.pairs - 1) * self.step

    @property
    def stages(self) -> int:
        return self.length.bit_length() - 1


def twiddles(length: int) -> Float32:
    """``exp(-2 pi i j / length)`` for j < length / 2, [j, real and imaginary], from float64."""
    angle = -2 * np.pi * np.arange(length // 2) / length
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)


def spectrum(weight: Float32, length: int) -> Float32:
    """Weights [Co, kh, kw, Ci] to [length, kh, Ci, Co, real and imaginary], in bit-reversed order.

    ``sum(w[k] exp(2 pi i j k / length)) / length`` in float64, in the order of k, rounded once.
    """
    places = bit_reversed(length)
    total = np.zeros((length, *weight.shape[:2], weight.shape[3]), np.complex128)
    taps = weight.astype(np.float64)
    for k in range(weight.shape[2]):
        angle = 2 * np.pi * (places * k % length) / length
        turn = np.cos(angle) + 1j * np.sin(angle)
        total += turn[:, None, None, None] * taps[None, :, :, k]
    parts = np.stack([total.real, total.imag], axis=-1) / length
    found: Float32 = parts.transpose(0, 2, 3, 1, 4).astype(np.float32)
    return found


def bit_reversed(length: int) -> NDArray[np.int64]:
    """The frequency at each place of a transform by decimation in frequency."""
    places = np.zeros(1, np.int64)
    while len(places) < length:
        places = np.concatenate([2 * places, 2 * places + 1])
    return places
