"""Builds for several threads give the bytes of the reference on any number of them."""

from __future__ import annotations

import shutil
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program import ops
from irshrink.program.ops import Addition, Requantization, Window
from irshrink.target import Target, load_target, with_threads
from irshrink.testing.kernels import KernelBench

COUNTS = (1, 2, 3, 5)
SAME = (1, 1, 1, 1)
#: kernel, strides, padding, channels in and out, groups, whether a residual is added
CONVOLUTIONS: list[tuple[tuple[int, int], tuple[int, int], tuple[int, ...], int, int, int, bool]] = [
    ((1, 1), (1, 1), (0, 0, 0, 0), 16, 32, 1, False),
    ((1, 1), (1, 1), (0, 0, 0, 0), 8, 24, 1, True),
    ((1, 1), (2, 2), (0, 0, 0, 0), 8, 7, 1, False),
    ((3, 3), (1, 1), SAME, 3, 16, 1, False),
    ((3, 3), (2, 2), (0, 0, 1, 1), 16, 20, 1, False),
    ((3, 2), (1, 1), (1, 0, 1, 1), 6, 10, 2, True),
    ((3, 3), (1, 1), SAME, 32, 32, 32, False),
    ((3, 3), (2, 2), SAME, 20, 20, 20, False),
    ((5, 5), (1, 1), (2, 2, 2, 2), 5, 5, 5, True),
    ((3, 3), (1, 1), SAME, 3, 6, 3, False),
]


def threaded(name: str) -> Target:
    return with_threads(load_target(name), max(COUNTS))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are split however small they are."""
    monkeypatch.setattr(threads, "_PART", 1)


def add_convolutions(bench: KernelBench, height: int, width: int, fused: bool) -> None:
    for kernel, strides, pads, channels, out, groups, residual in CONVOLUTIONS:
        window = Window(kernel=kernel, strides=strides, pads=(pads[0], pads[1], pads[2], pads[3]))
        shape = (1, *window.output(height, width), out)
        weight = bench.rng.integers(-127, 128, (out, *kernel, channels // groups)).astype(np.int8)
        bias = bench.rng.integers(-5000, 5000, out).astype(np.int32)
        added: dict[str, Any] = {}
        inputs = [bench.int8(1, height, width, channels)]
        if residual:
            inputs.append(bench.int8(*shape))
            added["residual"] = Addition(
                multipliers=(1 << 19, 1 << 20), shift=20, zero_points=(3, -9), zero_point=4
            )
        bench.add(
            ops.ConvInt8, *inputs, shape=shape, weight=weight, bias=bias, window=window, groups=groups,
            input_zero_point=-3, requantization=requantization(bench, out, prod(weight.shape[1:])), **added,
        )  # fmt: skip
        real = bench.f32(*weight.shape), bench.f32(out)
        bench.add(
            ops.ConvF32, bench.f32(1, height, width, channels), shape=shape, dtype="float32",
            weight=real[0], bias=real[1], window=window, groups=groups, low=-1.0, high=inf, fused=fused,
        )  # fmt: skip


def requantization(bench: KernelBench, channels: int, depth: int) -> Requantization:
    spread = bench.rng.uniform(0.3, 3, channels) * 40 / (74 * 74 * depth**0.5)
    return Requantization(multiplier=spread.astype(np.float32), zero_point=5)


def add_others(bench: KernelBench, n: int, fused: bool) -> None:
    """Dense and matrix products, pools, elements, rows."""
    for rows in (1, n):
        weight = bench.rng.integers(-127, 128, (n + 9, 33)).astype(np.int8)
        bench.add(
            ops.DenseInt8, bench.int8(rows, 33), shape=(rows, n + 9), weight=weight,
            bias=bench.rng.integers(-5000, 5000, n + 9).astype(np.int32),
            requantization=requantization(bench, n + 9, 33),
        )  # fmt: skip
        bench.add(
            ops.DenseF32, bench.f32(rows, 33), shape=(rows, n + 9), dtype="float32",
            weight=bench.f32(n + 9, 33), bias=bench.f32(n + 9), low=-inf, high=inf, fused=fused,
        )  # fmt: skip
    window = Window(kernel=(3, 3), strides=(2, 2), pads=SAME)
    shape = (2, *window.output(n, n), 5)
    bench.add(ops.MaxPool, bench.int8(2, n, n, 5), shape=shape, window=window)
    bench.add(ops.MaxPool, bench.f32(2, n, n, 5), shape=shape, dtype="float32", window=window)
    addition = Addition(multipliers=(2586180, 3565001), shift=22, zero_points=(3, -9), zero_point=-128)
    bench.add(ops.AddInt8, bench.int8(n, 7), bench.int8(n, 7), shape=(n, 7), addition=addition)
    bench.add(ops.AddInt8, bench.int8(n, 7), bench.int8(7), shape=(n, 7), addition=addition)
    bench.add(ops.SoftmaxF32, bench.f32(n, 11), shape=(n, 11), dtype="float32")
    bench.add(
        ops.MatMulF32, bench.f32(3, n, 6), bench.f32(3, 6, 9), shape=(3, n, 9), dtype="float32", fused=fused
    )
    bench.add(ops.Transpose, bench.f32(n, 6, 4), shape=(4, n, 6), dtype="float32", permutation=(2, 0, 1))
    gamma, beta = bench.f32(13), bench.f32(13)
    bench.add(
        ops.LayerNormF32, bench.f32(n, 13), shape=(n, 13), dtype="float32", gamma=gamma, beta=beta,
        epsilon=1e-5,
    )  # fmt: skip


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("target", ["host", "aarch64-linux", "armv7-linux"])
def test_bytes_do_not_depend_on_the_number_of_threads(target: str, tmp_path: Path) -> None:
    backend, bench = TvmBackend(), KernelBench(3)
    if backend.unrunnable(load_target(target)) is not None:
        assert shutil.which("qemu-aarch64") is None or shutil.which("qemu-arm") is None
        return
    fused = load_target(target).has("fma")
    add_convolutions(bench, 7, 6, fused)
    add_others(bench, 10, fused)
    bench.check(backend, threaded(target), tmp_path, threads=COUNTS)
    text = (tmp_path / "src" / "model.c").read_text("utf-8")
    assert text.count("share, shares);") > 2 * len(CONVOLUTIONS)
