"""Kernels between int16 activations, against the NumPy reference, with and without an FPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program import ops
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

Array = np.ndarray[Any, np.dtype[Any]]


def result(b: KernelBench, channels: int, low: int = -(2**15), high: int = 2**15 - 1) -> ops.ToInt16:
    """Multipliers that leave some sums inside the range and saturate others."""
    multiplier = (2.0 ** b.rng.uniform(-14, -4, channels)).astype(np.float32)
    return ops.ToInt16(multiplier=multiplier, low=low, high=high)


def convolutions(b: KernelBench) -> None:
    cases: list[tuple[tuple[int, int, int, int], int, int, dict[str, Any]]] = [
        ((1, 5, 6, 3), 5, 1, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
        ((2, 4, 4, 8), 16, 1, {"kernel": (1, 1)}),
        ((1, 1, 1, 7), 3, 1, {"kernel": (1, 1)}),
        ((1, 6, 5, 6), 6, 6, {"kernel": (3, 3), "pads": (1, 1, 0, 1), "strides": (2, 2)}),
        ((1, 6, 5, 21), 21, 21, {"kernel": (3, 2), "pads": (0, 1, 0, 1), "dilations": (2, 1)}),
        ((1, 5, 5, 6), 9, 3, {"kernel": (2, 2), "pads": (0, 0, 1, 1)}),
    ]
    for shape, channels, groups, window in cases:
        frame = ops.Window(**window)
        weight = b.int8(channels, *frame.kernel, shape[3] // groups)
        bias = b.rng.integers(-(2**20), 2**20, channels).astype(np.int32)
        height, width = frame.output(shape[1], shape[2])
        bounds = (-100, 20_000) if groups == 1 else (-(2**15), 2**15 - 1)
        b.add(
            ops.ConvInt16, b.int16(*shape), shape=(shape[0], height, width, channels), dtype="int16",
            weight=weight, bias=bias, window=frame, groups=groups, result=result(b, channels, *bounds),
        )  # fmt: skip


def layers(b: KernelBench) -> None:
    for rows, features, channels in ((1, 33, 10), (5, 8, 4), (3, 17, 18)):
        b.add(
            ops.DenseInt16, b.int16(rows, features), shape=(rows, channels), dtype="int16",
            weight=b.int8(channels, features), bias=np.arange(channels, dtype=np.int32) * 1000,
            result=result(b, channels),
        )  # fmt: skip
    for other in ((2, 3, 19), (19,), (1,)):
        x, y = b.int16(2, 3, 19), b.int16(*other)
        b.add(ops.AddInt16, x, y, shape=x.shape, dtype="int16", multipliers=(0.7, -1.3))
    b.add(
        ops.AddInt16,
        b.int16(9),
        b.int16(9),
        shape=(9,),
        dtype="int16",
        multipliers=(1.0, 1.0),
        low=0,
        high=99,
    )


def pools(b: KernelBench) -> None:
    frame = ops.Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    x = b.int16(1, 5, 6, 18)
    shape = (1, *frame.output(5, 6), 18)
    b.add(ops.MaxPool, x, shape=shape, dtype="int16", window=frame)
    multipliers = {n: float(np.float32(1.25 / n)) for n in range(1, 10)}
    for padding in (False, True):
        b.add(
            ops.AveragePoolInt16, x, shape=shape, dtype="int16", window=frame, count_padding=padding,
            multipliers=multipliers, low=-20_000,
        )  # fmt: skip


def borders(b: KernelBench) -> None:
    halves = np.arange(-20, 20, dtype=np.float32) / 2
    for x in (np.concatenate([EXTREMES, halves]), b.f32(3, 7)):
        b.add(ops.QuantizeInt16, x, shape=x.shape, dtype="int16", scale=1.0)
        b.add(ops.QuantizeInt16, x, shape=x.shape, dtype="int16", scale=0.0007)
    b.add(ops.DequantizeInt16, b.int16(40), shape=(40,), dtype="float32", scale=0.1)
    moved = b.int16(2, 3, 4)
    b.add(ops.Transpose, moved, shape=(4, 2, 3), dtype="int16", permutation=(2, 0, 1))


@pytest.mark.parametrize("target", ["host", "cortex-m0", "cortex-m4"])
def test_every_byte_is_the_reference_s(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in (convolutions, layers, pools, borders):
        family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)
