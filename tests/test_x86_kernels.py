"""int8 kernels of the host against the reference: layers drawn at random, several to a program."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink import target as targets
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.program import ops
from irshrink.program.ops import Addition, Requantization, Window
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench

needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine is no x86-64")

VNNI = targets.HERE / "hosts" / "x86_64-vnni.toml"
AVX2 = targets.HERE / "targets" / "host.toml"
#: What this machine may run: what there is of AVX-512, and AVX2 alone.
HOSTS = ["host", pytest.param(str(AVX2), marks=needs_x86, id="avx2")]


class Layers(KernelBench):
    """Random layers; what a channel sums up to spans more than what fits a byte."""

    def conv(self, x: tuple[int, int, int], channels: int, window: Window, groups: int = 1) -> None:
        height, width, ci = x
        shape = (1, *window.output(height, width), channels)
        inputs, addition = [self.int8(1, *x)], None
        if self.rng.random() < 0.3:
            inputs.append(self.int8(*shape))
            addition = self._addition()
        weight = self.int8(channels, *window.kernel, ci // groups)
        self.add(
            ops.ConvInt8, *inputs, shape=shape, weight=weight, bias=self._bias(channels), window=window,
            groups=groups, input_zero_point=int(self.rng.integers(-128, 128)),
            requantization=self._requantization(channels, weight[0].size), residual=addition,
        )  # fmt: skip

    def dense(self, rows: int, depth: int, channels: int) -> None:
        self.add(
            ops.DenseInt8, self.int8(rows, depth), shape=(rows, channels),
            weight=self.int8(channels, depth), bias=self._bias(channels),
            requantization=self._requantization(channels, depth),
        )  # fmt: skip

    def window(self, largest: int = 5) -> Window:
        kernel, strides, dilations = (self._pair(1, most) for most in (largest, 3, 2))
        (top, left), (bottom, right) = self._pair(0, 2), self._pair(0, 2)
        kh, kw = (size - 1 for size in kernel)
        pads = (min(top, kh), min(left, kw), min(bottom, kh), min(right, kw))
        return Window(kernel=kernel, strides=strides, dilations=dilations, pads=pads)

    def sizes(self, window: Window, most: int) -> tuple[int, int]:
        """An image no smaller than the window."""
        height, width = (int(e + self.rng.integers(0, most)) for e in window.extent())
        return height, width

    def _pair(self, least: int, most: int) -> tuple[int, int]:
        a, b = self.rng.integers(least, most + 1, 2)
        return int(a), int(b)

    def _bias(self, channels: int) -> Any:
        return self.rng.integers(-5000, 5000, channels).astype(np.int32)

    def _addition(self) -> Addition:
        ma, mb = (int(m) for m in self.rng.integers(1 << 18, 1 << 21, 2))
        ties = self.rng.random() < 0.5
        return Addition(
            multipliers=(1 << 19, -(1 << 19)) if ties else (ma, mb), shift=20, zero_points=(3, -9),
            zero_point=int(self.rng.integers(-20, 20)), low=int(self.rng.choice([-128, -60])),
        )  # fmt: skip

    def _requantization(self, channels: int, depth: int) -> Requantization:
        multiplier = self.rng.uniform(0.3, 3, channels) * 40 / (74 * 74 * depth**0.5)
        if self.rng.random() < 0.2:
            multiplier = np.full(channels, 2.0**-7)
        low, high = self.rng.choice([-128, -100]), self.rng.choice([127, 90])
        return Requantization(
            multiplier=multiplier.astype(np.float32), zero_point=int(self.rng.integers(-128, 128)),
            low=int(low), high=int(high),
        )  # fmt: skip


def depthwise_layers(seed: int, count: int) -> Layers:
    layers = Layers(seed)
    for _ in range(count):
        window = layers.window(7)
        channels = int(layers.rng.choice([8, 11, 16, 24, 33]))
        layers.conv((*layers.sizes(window, 12), channels), channels, window, groups=channels)
    return layers


def dense_layers(seed: int, count: int) -> Layers:
    layers = Layers(seed)
    for _ in range(count):
        window, groups = layers.window(3), int(layers.rng.choice([1, 1, 1, 2, 3]))
        ci, co = (groups * int(layers.rng.integers(*limits)) for limits in ((2, 20), (8, 70)))
        layers.conv((*layers.sizes(window, 9), ci), co, window, groups)
        layers.dense(int(layers.rng.integers(1, 4)), int(layers.rng.integers(1, 200)), co)
    return layers


@pytest.mark.parametrize("host", HOSTS)
def test_layers_equal_the_reference(host: str, tmp_path: Path) -> None:
    for seed, layers in enumerate((depthwise_layers(1, 24), dense_layers(2, 14))):
        layers.check(TvmBackend(), load_target(host), tmp_path / str(seed))


@pytest.mark.parametrize(("host", "name"), [(VNNI, "vnni"), (AVX2, "avx2")])
def test_what_the_vectors_cover(host: Path, name: str) -> None:
    for layers in (depthwise_layers(1, 24), dense_layers(2, 14)):
        steps = choose_kernels(layers.program, load_target(str(host)))
        assert all(name in step.call.function.name for step in steps)
