"""Convolutions with long rows of weights by transforms along the row."""

from __future__ import annotations

import numpy as np

from irshrink.program.fourier import Segments, spectrum, twiddles
from irshrink.program.ops import ConvF32, Float32
from irshrink.program.reference.dispatch import Array
from irshrink.program.reference.fused import FusedSums, fma


def fourier(op: ConvF32, x: Array) -> Array:
    """The results [1, Ho, Wo, Co] before the clip."""
    _, height, width, _ = x.shape
    out_h, out_w = op.window.output(height, width)
    segments = Segments.of(op.fourier, op.window.kernel[1], out_w)
    seen = transformed(_pairs(op, x, segments), segments.length)
    sums = _products(op, seen, out_h, segments)
    y = np.empty((1, out_h, 2 * segments.pairs * segments.step, len(op.bias)), np.float32)
    back = transformed_back(sums, segments.length)
    for part in range(2):
        valid = back[:, :, : segments.step, part] + op.bias
        for pair in range(segments.pairs):
            start = (2 * pair + part) * segments.step
            y[0, :, start : start + segments.step] = valid[:, pair] + np.float32(0.0)
    return y[:, :, :out_w]


def _pairs(op: ConvF32, x: Array, segments: Segments) -> Array:
    """[padded row, pair, length, real and imaginary, Ci]: two segments one signal."""
    top, left, bottom, _ = op.window.pads
    right = max(segments.reach - left - x.shape[2], 0)
    rows = np.pad(x[0], ((top, bottom), (left, right), (0, 0)))
    signals = [
        np.stack([rows[:, s : s + segments.length] for s in (start, start + segments.step)], axis=2)
        for start in range(0, 2 * segments.pairs * segments.step, 2 * segments.step)
    ]
    return np.stack(signals, axis=1)


def transformed(z: Array, length: int) -> Array:
    """Along axis -3, by decimation in frequency: a + b, and (a - b) times a twiddle."""
    table, half = twiddles(length), length // 2
    while half:
        a, b = _halves(z, half)
        difference = a - b
        if half > 1:
            difference = _times(difference, table[:: length // (2 * half)])
        z = _joined(a + b, difference, z.shape)
        half //= 2
    return z


def transformed_back(z: Array, length: int) -> Array:
    """The inverse without its division, by decimation in time: b times a twiddle, then a + b and a - b."""
    table, half = twiddles(length) * np.array([1, -1], np.float32), 1
    while half < length:
        a, b = _halves(z, half)
        if half > 1:
            b = _times(b, table[:: length // (2 * half)])
        z = _joined(a + b, a - b, z.shape)
        half *= 2
    return z


def _halves(z: Array, half: int) -> tuple[Array, Array]:
    """[..., group, j, part, channel] of both halves of every group."""
    *outer, length, parts, channels = z.shape
    grouped = z.reshape(*outer, length // (2 * half), 2, half, parts, channels)
    return grouped[..., 0, :, :, :], grouped[..., 1, :, :, :]


def _joined(a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    return np.stack([a, b], axis=-4).reshape(shape)


def _times(d: Array, w: Float32) -> Array:
    """Complex products with the twiddles of j: two roundings a part, the second of a fused addition."""
    re, im = d[..., 0, :], d[..., 1, :]
    wr, wi = w[:, 0, None], w[:, 1, None]
    return np.stack([fma(-im, wi, re * wr), fma(im, wr, re * wi)], axis=-2)


def _products(op: ConvF32, seen: Array, out_h: int, segments: Segments) -> Array:
    """Sums over ky and ci, [output row, pair, length, part, Co]."""
    h = spectrum(op.weight, segments.length).astype(np.float64)
    _, pairs, length, _, ci = seen.shape
    sums = FusedSums(np.zeros((out_h, pairs, length, 2, len(op.bias)), np.float32))
    # the real and the imaginary part of a factor times the spectrum
    turned = np.stack([h, np.stack([-h[..., 1], h[..., 0]], axis=-1)])
    for ky in range(op.window.kernel[0]):
        first = ky * op.window.dilations[0]
        rows = seen[first : first + (out_h - 1) * op.window.strides[0] + 1 : op.window.strides[0]]
        values = rows.astype(np.float64)
        for part in range(2):
            for c in range(ci):
                factor = turned[part, :, ky, c].transpose(0, 2, 1)  # [length, part, Co]
                sums.add(values[:, :, :, part, None, c, None], factor)
    return sums.rounded
