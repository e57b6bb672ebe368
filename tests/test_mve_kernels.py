"""Helium kernels on an emulated Cortex-M55, and their plain C on the host, against the NumPy reference.

Layers are drawn at random, many to a program: booting the emulator costs more than running them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program.ops import (
    AddInt8,
    Addition,
    AveragePoolInt8,
    ConvInt8,
    DenseInt8,
    FixedPoint,
    MaxPool,
    MulInt8,
    Requantization,
    TableInt8,
    Window,
)
from irshrink.target import Target, load_target
from irshrink.testing.kernels import Array, KernelBench

M55 = load_target("cortex-m55")


HOST = load_target("host")
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None,
    reason="QEMU is not installed: apt-get install qemu-system-arm",
)
#: The emulated core, and this machine with the kernels of that core.
everywhere = pytest.mark.parametrize(
    "target",
    [
        pytest.param(M55, id="cortex-m55", marks=needs_qemu),
        pytest.param(msgspec.structs.replace(HOST, features=HOST.features | M55.features), id="host"),
    ],
)


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


def fixed_point(bench: KernelBench, channels: int, depth: int, low: int = -128) -> FixedPoint:
    """The same in TensorFlow Lite Micro's arithmetic."""
    mantissa, exponent = np.frexp(requantization(bench, channels, depth).multiplier)
    return FixedPoint(
        multiplier=(mantissa.astype(np.float64) * 2**31).astype(np.int32), shift=exponent.astype(np.int32),
        zero_point=int(bench.rng.integers(-128, 128)), low=low,
    )  # fmt: skip


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
    fixed = bench.rng.random() < 0.2
    y = (images, *window.output(height, width), channels)
    depth = inputs // groups
    weight = bench.rng.integers(-128, 128, (channels, *window.kernel, depth)).astype(np.int8)
    weight[0], weight[-1] = -128, 127
    bench.add(
        ConvInt8, bench.int8(*shape), *([bench.int8(*y)] if residual else []), shape=y, weight=weight,
        bias=bench.rng.integers(-5000, 5000, channels).astype(np.int32), window=window, groups=groups,
        input_zero_point=int(bench.rng.integers(-128, 128)),
        requantization=(fixed_point if fixed else requantization)(bench, channels, weight[0].size, low),
        residual=residual,
    )  # fmt: skip


def add_pools(bench: KernelBench, x: Array, window: Window, low: int) -> None:
    """An average pool and a max pool over ``x``."""
    y = (x.shape[0], *window.output(*x.shape[1:3]), x.shape[3])
    count = window.kernel[0] * window.kernel[1]
    bench.add(
        AveragePoolInt8, x, shape=y, window=window, input_zero_point=-7, low=low, zero_point=11,
        count_padding=False, multipliers={n: 1.1 / n for n in range(1, count + 1)},
    )  # fmt: skip
    bench.add(MaxPool, x, shape=y, window=window)


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


@everywhere
def test_convolutions_of_any_shape_are_exact(target: Target, tmp_path: Path) -> None:
    bench = KernelBench(1)
    random_convolutions(bench, 16 if target is M55 else 6)
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


@everywhere
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


#: Sums where a conversion to float32 rounds, saturates or stands between two integers.
SUMS = (
    0,
    1,
    -1,
    3,
    -3,
    255,
    2**24 - 1,
    2**24 + 1,
    -(2**24) - 3,
    2**25 + 2,
    2**31 - 1,
    -(2**31),
    8388607,
    65537,
)
#: Multipliers with ties, the ends of what is normal, subnormal ones, and those whose products are infinite.
MULTIPLIERS = (
    0.5,
    1.5,
    0.25,
    2.0**-23,
    2.0**-24,
    2.0**-25,
    1e-3,
    127.0 / 255,
    3e38,
    2.0**127,
    2.0**-126,
    1e-40,
    1e-45,
)


@everywhere
def test_requantization_is_exact_at_the_ends_of_every_range(target: Target, tmp_path: Path) -> None:
    bench = KernelBench(3)
    more = bench.rng.integers(-(2**31), 2**31, 200)  # any sums, with multipliers that give small results
    more = np.concatenate([more, more // 2**12])
    small = np.abs(bench.rng.uniform(-200, 200, more.size)) / np.maximum(np.abs(more), 1) + 1e-12
    sums = np.concatenate([np.repeat(SUMS, len(MULTIPLIERS)), more]).astype(np.int32)
    multipliers = np.concatenate([np.tile(MULTIPLIERS, len(SUMS)), small]).astype(np.float32)
    for low, zero_point in ((-128, 7), (-100, -128)):
        bench.add(
            DenseInt8, bench.int8(1, 16), shape=(1, sums.size), bias=sums,
            weight=np.zeros((sums.size, 16), np.int8),
            requantization=Requantization(multiplier=multipliers, zero_point=zero_point, low=low),
        )  # fmt: skip
        bench.add(
            ConvInt8, bench.int8(1, 3, 3, sums.size), shape=(1, 1, 1, sums.size), bias=sums, groups=sums.size,
            weight=np.zeros((sums.size, 3, 3, 1), np.int8), window=Window(kernel=(3, 3)), input_zero_point=0,
            requantization=Requantization(multiplier=multipliers, zero_point=zero_point, low=low),
        )  # fmt: skip
    for highest in (0, 30):  # TensorFlow Lite Micro's arithmetic: shifts to the right only, and both ways
        shift = bench.rng.integers(-31, highest + 1, sums.size).astype(np.int32)
        shift[:100] = -np.arange(100) % 12  # ties
        mantissa = bench.rng.integers(2**30, 2**31, sums.size).astype(np.int32)
        mantissa[: sums.size // 2] = 2**30
        bench.add(
            DenseInt8, bench.int8(1, 16), shape=(1, sums.size), weight=np.zeros((sums.size, 16), np.int8),
            bias=np.where(np.arange(sums.size) % 3, sums, sums // 2**18).astype(np.int32),
            requantization=FixedPoint(multiplier=mantissa, shift=shift, zero_point=-3, low=-120),
        )  # fmt: skip
    bench.check(TvmBackend(), target, tmp_path)


@everywhere
def test_elementwise_operators_and_pools_are_exact(target: Target, tmp_path: Path) -> None:
    bench = KernelBench(4)
    shapes = [
        ((2, 3, 37), (2, 3, 37)),
        ((4, 8), (1, 8)),
        ((1, 5, 9), (1, 5, 1)),
        ((3, 5), (1, 1)),
        ((2, 3), (2, 3)),
    ]
    for number, (a, b) in enumerate(shapes):
        y = tuple(np.broadcast_shapes(a, b))
        constants = (1,) if number == 1 else ()
        for ties in (False, True):
            sums = addition(bench, ties, low=-128 + 40 * (number % 2))
            bench.add(AddInt8, bench.int8(*a), bench.int8(*b), shape=y, constants=constants, addition=sums)
        q = Requantization(
            multiplier=np.array(0.0071, np.float32), zero_point=-9, low=-128 + 40 * (number % 2)
        )
        bench.add(MulInt8, bench.int8(*a), bench.int8(*b), shape=y, zero_points=(-5, 100), requantization=q)
    for n in (1, 16, 53):
        bench.add(TableInt8, bench.int8(n), shape=(n,), table=bench.int8(256))
    for channels, window, low in (
        (8, Window(kernel=(5, 4)), -128),
        (21, Window(kernel=(3, 3), strides=(2, 1), pads=(1, 1, 1, 1)), -50),
        (40, Window(kernel=(2, 3), dilations=(2, 1), pads=(0, 2, 0, 1)), -128),
        (3, Window(kernel=(2, 2)), -128),
    ):
        add_pools(bench, bench.int8(2, 5, 6, channels), window, low)
    full = Window(kernel=(16, 16))  # the most positions that int16 holds, all of them -128
    add_pools(bench, np.full((1, 16, 16, 16), -128, np.int8), full, -128)
    bench.check(TvmBackend(), target, tmp_path)
