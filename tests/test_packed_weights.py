"""Weights of 4 and 2 bits: packed in flash, the bytes of the reference on every family of kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program.ops import Addition, ConvInt8, DenseInt8, Requantization, Window
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench

SAME = (1, 1, 1, 1)
Array = NDArray[Any]


def fields(bench: KernelBench, bits: int, *shape: int) -> dict[str, Any]:
    """Weights, in half of the layers none of -8 or -2, which some forms have no room for beside others.

    Some layers have channels without any.
    """
    rng, half, channels = bench.rng, 1 << (bits - 1), shape[0]
    lowest = int(rng.integers(-half, 2 - half))
    w = rng.integers(lowest, half, shape).astype(np.int8)
    w[rng.random(shape) < 0.05] = lowest
    w[rng.random(channels) < rng.choice([0.0, 0.3])] = 0
    scale = rng.uniform(0.3, 3, channels) * 40 / (74 * half / 2 * w[0].size ** 0.5)
    form = Requantization(multiplier=scale.astype(np.float32), zero_point=int(rng.integers(-128, 128)))
    bias = rng.integers(-1000, 1000, channels).astype(np.int32)
    return {"weight": w, "weight_bits": bits, "bias": bias, "requantization": form}


def add(bench: KernelBench, size: tuple[int, int], channels: tuple[int, int], window: Window, groups: int = 1,
        bits: int = 4, residual: bool = False, images: int = 1) -> None:  # fmt: skip
    ci, co = channels
    shape = (images, *window.output(*size), co)
    inputs, more = [bench.int8(images, *size, ci)], fields(bench, bits, co, *window.kernel, ci // groups)
    if residual:
        inputs.append(bench.int8(*shape))
        more["residual"] = Addition(
            multipliers=(1 << 19, -777_777), shift=20, zero_points=(3, -9), zero_point=7
        )
    zero_point = int(bench.rng.integers(-128, 128))
    bench.add(
        ConvInt8, *inputs, shape=shape, window=window, groups=groups, input_zero_point=zero_point, **more
    )


def add_dense(bench: KernelBench, rows: int, depth: int, channels: int, bits: int = 4) -> None:
    more = fields(bench, bits, channels, depth)
    bench.add(DenseInt8, bench.int8(rows, depth), shape=(rows, channels), **more)


def chosen(bits: int) -> KernelBench:
    """What has a path of its own in some family."""
    bench = KernelBench(bits)
    add(bench, (7, 5), (16, 8), Window(kernel=(1, 1)), bits=bits)
    add(bench, (5, 5), (3, 7), Window(kernel=(1, 1)), bits=bits, images=2)
    add(bench, (4, 4), (8, 6), Window(kernel=(1, 1)), bits=bits, residual=True)
    add(bench, (5, 6), (40, 9), Window(kernel=(1, 1)), bits=bits)
    add(bench, (1, 3), (4, 2), Window(kernel=(1, 1)), bits=bits)
    add(bench, (1, 1), (24, 17), Window(kernel=(1, 1)), bits=bits)
    add(bench, (8, 8), (16, 16), Window(kernel=(3, 3), pads=SAME), bits=bits, residual=True)
    add(bench, (6, 5), (64, 32), Window(kernel=(3, 3), pads=SAME), bits=bits)
    add(bench, (9, 7), (12, 5), Window(kernel=(3, 2), pads=(1, 0, 1, 1)), bits=bits, residual=True)
    add(bench, (12, 12), (3, 8), Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)), bits=bits)
    add(bench, (13, 6), (1, 12), Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)), bits=bits)
    add(bench, (9, 9), (8, 12), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), groups=2, bits=bits)
    add(bench, (9, 9), (6, 9), Window(kernel=(3, 3), pads=SAME), groups=3, bits=bits, residual=True)
    add(bench, (9, 9), (6, 1), Window(kernel=(3, 3), pads=SAME), bits=bits)
    for rows, depth, channels in ((1, 64, 12), (1, 33, 10), (3, 16, 5), (2, 7, 4), (1, 9, 3), (1, 8, 31)):
        add_dense(bench, rows, depth, channels, bits=bits)
    for stride, height, width in ((1, 5, 4), (1, 7, 9), (2, 1, 2), (2, 9, 8)):
        window = Window(kernel=(3, 3), strides=(stride, stride), pads=SAME)
        add(bench, (height, width), (8, 8), window, groups=8, bits=bits)
        add(bench, (height, width), (32, 32), window, groups=32, bits=bits)
    add(bench, (7, 7), (6, 6), Window(kernel=(5, 5), pads=(2, 2, 2, 2)), groups=6, bits=bits)
    add(bench, (6, 6), (5, 10), Window(kernel=(3, 3), pads=SAME), groups=5, bits=bits)
    return bench


TARGETS = ["cortex-m4", "cortex-m3", "cortex-m0", "cortex-m55", "armv7-linux", "rv32imc-linux"]
TARGETS += ["cortex-a72", "neoverse-n1", "host"]


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_every_family(target: str, bits: int, tmp_path: Path) -> None:
    chosen(bits).check(TvmBackend(), load_target(target), tmp_path)
