"""Helium kernels on an emulated Cortex-M55, and their plain C on the host, against the NumPy reference.

Layers are drawn at random, many to a program: booting the emulator costs more than running them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program.ops import Addition, ConvInt8, DenseInt8, Requantization, Window
from irshrink.target import Target, load_target
from irshrink.testing.kernels import KernelBench

M55 = load_target("cortex-m55")


def everywhere() -> list[Target]:
    """The emulated core, and this machine with the kernels of that core."""
    host = load_target("host")
    return [M55, msgspec.structs.replace(host, features=host.features | M55.features)]


def requantization(
    bench: KernelBench, channels: int, depth: int, low: int = -128, high: int = 127
) -> Requantization:
    """Multipliers for sums of ``depth`` products, from a tenth to ten times as large as would be right."""
    multiplier = 10.0 ** bench.rng.uniform(-1, 1, channels) / (90.0 * depth**0.5)
    return Requantization(
        multiplier=multiplier.astype(np.float32),
        zero_point=int(bench.rng.integers(-128, 128)),
        low=low,
        high=high,
    )


def addition(bench: KernelBench, ties: bool, low: int = -128) -> Addition:
    """Multipliers of a sum; powers of two where it shall be halfway between integers often."""
    ma, mb = (1 << 19, -(1 << 18)) if ties else (int(m) for m in bench.rng.integers(1 << 18, 1 << 20, 2))
    return Addition(multipliers=(ma, mb), shift=20, zero_points=(3, -9), zero_point=-5, low=low, high=100)


def add_convolution(
    bench: KernelBench, shape: tuple[int, ...], channels: int, window: Window, groups: int = 1,
    low: int = -128, residual: Addition | None = None,
) -> None:  # fmt: skip
    """A convolution of random constants, the ends of the range of weights among them."""
    images, height, width, inputs = shape
    y = (images, *window.output(height, width), channels)
    depth = inputs // groups
    weight = bench.rng.integers(-128, 128, (channels, *window.kernel, depth)).astype(np.int8)
    weight[0], weight[-1] = -128, 127
    bench.add(
        ConvInt8, bench.int8(*shape), *([bench.int8(*y)] if residual else []), shape=y, weight=weight,
        bias=bench.rng.integers(-5000, 5000, channels).astype(np.int32), window=window, groups=groups,
        input_zero_point=int(bench.rng.integers(-128, 128)),
        requantization=requantization(bench, channels, weight[0].size, low), residual=residual,
    )  # fmt: skip


def random_window(bench: KernelBench, height: int, width: int) -> Window:
    """A window that fits into the image, with any stride, padding and dilation."""
    rng = bench.rng
    while True:
        window = Window(
            kernel=(int(rng.integers(1, 6)), int(rng.integers(1, 6))),
            strides=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
            pads=tuple(int(p) for p in rng.integers(0, 4, 4)),  # type: ignore[arg-type]
            dilations=(int(rng.choice([1, 1, 1, 2])), int(rng.choice([1, 1, 1, 2, 3]))),
        )
        if min(window.output(height, width)) > 0:
            return window


def random_convolutions(bench: KernelBench, count: int) -> None:
    """Convolutions with one group or several, some with clamps and residuals."""
    rng = bench.rng
    for number in range(count):
        groups = int(rng.choice([1, 1, 2, 3]))
        inputs, outputs = groups * int(rng.integers(2, 24)), groups * int(rng.integers(1, 20))
        height, width = (int(v) for v in rng.integers(1, 9, 2))
        residual = (
            addition(bench, ties=number % 2 == 0, low=-128 + 60 * (number % 4)) if number % 3 == 0 else None
        )
        images = 2 if number % 7 == 0 else 1
        add_convolution(
            bench, (images, height, width, inputs), outputs, random_window(bench, height, width), groups,
            low=int(rng.choice([-128, -90])), residual=residual,
        )  # fmt: skip


@pytest.mark.parametrize("target", everywhere(), ids=lambda t: t.name)
def test_convolutions_of_any_shape_are_exact(target: Target, tmp_path: Path) -> None:
    bench = KernelBench(1)
    random_convolutions(bench, 16)
    for depth in (1, 16, 33, 80, 144):
        add_convolution(bench, (1, 3, 3, depth), 9, Window(kernel=(1, 1)))
        add_convolution(bench, (1, 5, 4, depth), 8, Window(kernel=(1, 1), strides=(2, 3)))
    for rows, depth, channels in ((1, 5, 1), (1, 640, 13), (3, 100, 8), (2, 16, 24)):
        weight = bench.rng.integers(-128, 128, (channels, depth)).astype(np.int8)
        bench.add(
            DenseInt8, bench.int8(rows, depth), shape=(rows, channels), weight=weight,
            bias=bench.rng.integers(-5000, 5000, channels).astype(np.int32),
            requantization=requantization(bench, channels, depth),
        )  # fmt: skip
    bench.check(TvmBackend(), target, tmp_path)


@pytest.mark.parametrize("target", everywhere(), ids=lambda t: t.name)
def test_depthwise_layers_of_any_shape_are_exact(target: Target, tmp_path: Path) -> None:
    bench = KernelBench(2)
    for number in range(16):
        channels, images = int(bench.rng.integers(2, 40)), 2 if number % 7 == 0 else 1
        height, width = (int(v) for v in bench.rng.integers(1, 12, 2))
        add_convolution(
            bench, (images, height, width, channels), channels, random_window(bench, height, width), channels,
            low=int(bench.rng.choice([-128, -90])),
            residual=addition(bench, ties=number % 2 == 0) if number % 3 == 0 else None,
        )  # fmt: skip
    for channels, width in ((8, 20), (16, 3), (64, 5)):  # rows longer than they are deep, and the other way
        add_convolution(
            bench, (1, 6, width, channels), channels, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), channels
        )
    add_convolution(bench, (1, 9, 9, 5), 5, Window(kernel=(9, 8), pads=(4, 4, 4, 4)), 5)  # more than 64 bytes
    add_convolution(bench, (1, 5, 5, 6), 12, Window(kernel=(3, 3)), 6)  # two outputs a channel
    bench.check(TvmBackend(), target, tmp_path)
