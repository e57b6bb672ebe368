"""Convolutions over [N, H, W, C]."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irshrink.program.ops import ConvF32, ConvInt8, Window
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32
from irshrink.program.reference.fourier import fourier
from irshrink.program.reference.fused import FusedSums, blocks
from irshrink.program.reference.mathematics import clip
from irshrink.program.reference.requantize import add, exact_int32, requantize
from irshrink.program.reference.winograd import fused_products, winograd


def taps(x: Array, window: Window, padding: float) -> Iterator[tuple[int, int, Array]]:
    """``(ky, kx, values)`` in row-major order: what every output pixel sees there, [N, Ho, Wo, C]."""
    top, left, bottom, right = window.pads
    (sh, sw), (dh, dw) = window.strides, window.dilations
    height, width = window.output(x.shape[1], x.shape[2])
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=padding)
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y0, x0 = ky * dh, kx * dw
            rows = slice(y0, y0 + (height - 1) * sh + 1, sh)
            columns = slice(x0, x0 + (width - 1) * sw + 1, sw)
            yield ky, kx, padded[:, rows, columns, :]


def by_group(x: Array, groups: int) -> Array:
    """[..., C] as [..., groups, C / groups]."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


@evaluate_op.register
def _(op: ConvInt8, arrays: list[Array], program: Program) -> Array:
    # float64 holds every partial sum of int8 products exactly, and its matrix product is fast
    channels = op.weight.shape[0]
    weight = op.weight.astype(np.float64).reshape(op.groups, channels // op.groups, *op.weight.shape[1:])
    acc: Array = np.array(0.0)
    for ky, kx, values in taps(arrays[0], op.window, op.input_zero_point):
        x = by_group(values.astype(np.float64), op.groups)
        w = weight[:, :, ky, kx, :]  # [groups, Co / groups, Ci / groups]
        if x.shape[-1] == 1:
            acc = acc + x * w[:, :, 0]
        else:
            acc = acc + (x[..., None, :] @ w.transpose(0, 2, 1))[..., 0, :]
    acc = acc.reshape(*acc.shape[:3], channels) + op.bias
    y = requantize(exact_int32(acc), op.requantization)
    return y if op.residual is None else add(y, arrays[1], op.residual)


@evaluate_op.register
def _(op: ConvF32, arrays: list[Array], program: Program) -> Array:
    if op.winograd:
        return clip(winograd(op, arrays[0], fused_products), float32(op.low), float32(op.high))
    if op.fourier:
        return clip(fourier(op, arrays[0]), float32(op.low), float32(op.high))
    channels, _, _, per_group = op.weight.shape
    weight = op.weight.reshape(op.groups, channels // op.groups, *op.weight.shape[1:])
    acc: Array = op.bias.reshape(op.groups, channels // op.groups)
    if op.fused:
        acc = _fused(op, arrays[0], acc, weight)
        return clip(acc.reshape(*acc.shape[:3], channels), float32(op.low), float32(op.high))
    for ky, kx, values in taps(arrays[0], op.window, 0.0):
        x = by_group(values, op.groups)
        for ci in range(per_group):
            acc = acc + x[..., ci, None] * weight[:, :, ky, kx, ci]
    acc = acc.reshape(*acc.shape[:3], channels)
    return clip(acc, float32(op.low), float32(op.high))


def _fused(op: ConvF32, x: Array, bias: Array, weight: Array) -> Array:
    """The sums of a fused convolution [N, Ho, Wo, groups, Co / groups], some rows at a time."""
    places = list(taps(x, op.window, 0.0))
    images, height, width, _ = places[0][2].shape
    real = weight.astype(np.float64)
    acc = np.empty((images, height, width, *bias.shape), np.float32)
    for rows in blocks(height, images * width * bias.size):
        sums = FusedSums(np.broadcast_to(bias, acc[:, rows].shape))
        for ky, kx, values in places:
            seen = by_group(values[:, rows].astype(np.float64), op.groups)
            for ci in range(real.shape[-1]):
                sums.add(seen[..., ci, None], real[:, :, ky, kx, ci])
        acc[:, rows] = sums.finished()
    return acc
