"""int8 kernels of 64-bit Arm against the reference, emulated; and the proofs they rest on.

Layers are drawn at random, many to a program. Weights come in three kinds, because what int16 can hold
decides which code runs: any values, -128 among them; large ones; small ones, of which four products share a
lane.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backends.toolchain import zig
from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import candidates_for, kernel_for
from irshrink.backends.tvm.kernels.vector import paired, taps
from irshrink.backends.tvm.kernels.vector.requantize import integer_scale, reachable
from irshrink.backends.tvm.schedules import plain
from irshrink.program import ops
from irshrink.program.ops import Addition, Requantization, Window
from irshrink.target import load_target, with_threads
from irshrink.testing.kernels import KernelBench
from irshrink.tuning.database import Schedules

TARGETS = ("cortex-a72", "neoverse-n1", "aarch64-linux-i8mm")
Weights = Literal["any", "large", "small"]

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None,
    reason="QEMU is not installed: apt-get install qemu-user",
)


class Layers(KernelBench):
    """Random layers whose results spread over int8."""

    def conv(
        self, x: tuple[int, int, int], channels: int, window: Window, groups: int = 1,
        weights: Weights = "any", residual: bool = False,
    ) -> None:  # fmt: skip
        height, width, ci = x
        shape = (1, *window.output(height, width), channels)
        inputs, addition = [self.extreme(1, *x)], None
        if residual:
            inputs.append(self.int8(*shape))
            addition = self._addition()
        weight = self._weight(weights, channels, *window.kernel, ci // groups)
        self.add(
            ops.ConvInt8, *inputs, shape=shape, weight=weight, bias=self._bias(channels), window=window,
            groups=groups, input_zero_point=int(self.rng.integers(-128, 128)),
            requantization=self._requantization(channels, weight), residual=addition,
        )  # fmt: skip

    def dense(self, rows: int, depth: int, channels: int, weights: Weights = "any") -> None:
        weight = self._weight(weights, channels, depth)
        self.add(
            ops.DenseInt8, self.extreme(rows, depth), shape=(rows, channels), weight=weight,
            bias=self._bias(channels), requantization=self._requantization(channels, weight),
        )  # fmt: skip

    def extreme(self, *shape: int) -> Any:
        """Random values, or -128 everywhere: the largest sums there are."""
        return np.full(shape, -128, np.int8) if self.rng.random() < 0.3 else self.int8(*shape)

    def _weight(self, kind: Weights, *shape: int) -> Any:
        if kind == "any":
            return self.int8(*shape)
        size = self.rng.integers(*((100, 128) if kind == "large" else (0, 64)), shape)
        # one sign a channel: sums reach what the proofs allow
        return (size * self.rng.choice([-1, 1], (shape[0], *(1 for _ in shape[1:])))).astype(np.int8)

    def _bias(self, channels: int) -> Any:
        return self.rng.integers(-5000, 5000, channels).astype(np.int32)

    def _addition(self) -> Addition:
        shift, ties = int(self.rng.choice([8, 16, 20, 22])), self.rng.random() < 0.5
        ma, mb = (int(m) for m in self.rng.integers(1 << (shift - 2), 1 << shift, 2))
        return Addition(
            multipliers=(1 << (shift - 1), -(1 << (shift - 1))) if ties else (ma, mb), shift=shift,
            zero_points=(3, -9), zero_point=int(self.rng.integers(-20, 20)),
            low=int(self.rng.choice([-128, -60])),
        )  # fmt: skip

    def _requantization(self, channels: int, weight: Any) -> Requantization:
        spread = np.abs(weight.astype(float)).mean() * 74 * weight[0].size ** 0.5
        multiplier = self.rng.uniform(0.3, 3, channels) * 40 / (spread + 1)
        kind = self.rng.random()
        if kind < 0.1:
            multiplier = np.full(channels, 2.0**-7)  # ties
        elif kind < 0.2:
            multiplier *= 1000  # results far beyond 16 bits
        elif kind < 0.5:
            multiplier[:] = multiplier[0]  # more often one of integers
        low, high = self.rng.choice([(-128, 127), (-128, 127), (-100, 90)])
        return Requantization(
            multiplier=multiplier.astype(np.float32), zero_point=int(self.rng.choice([-128, -3, 0, 7, 10])),
            low=int(low), high=int(high),
        )  # fmt: skip


def chosen() -> Layers:
    """The forms that have code of their own."""
    bench, same = Layers(5), (1, 1, 1, 1)
    kinds: tuple[Weights, ...] = ("any", "large", "small")
    for kind in kinds:
        bench.conv((5, 5, 64), 64, Window(kernel=(1, 1)), weights=kind)
        bench.conv((3, 3, 40), 20, Window(kernel=(1, 1)), weights=kind, residual=True)
        bench.conv((7, 6, 8), 12, Window(kernel=(1, 1), strides=(2, 2)), weights=kind)
        bench.conv((7, 9, 16), 16, Window(kernel=(3, 3), pads=same), weights=kind)
        bench.conv((8, 7, 3), 8, Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)), weights=kind)
        bench.conv((9, 7, 20), 20, Window(kernel=(3, 3), pads=same), groups=20, weights=kind)
        bench.conv((9, 8, 8), 8, Window(kernel=(3, 3), strides=(2, 2)), groups=8, weights=kind)
        bench.conv((8, 9, 17), 17, Window(kernel=(5, 5), pads=(2, 2, 2, 2)), groups=17, weights=kind)
        bench.dense(1, 640, 36, weights=kind)
        bench.dense(1, 33, 10, weights=kind)
    bench.conv((12, 9, 1), 64, Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)))
    bench.conv((9, 9, 6), 8, Window(kernel=(3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)))
    bench.conv((9, 9, 8), 12, Window(kernel=(3, 3), strides=(2, 2), pads=same), groups=2)
    bench.conv((6, 6, 130), 8, Window(kernel=(2, 2)))
    bench.conv((1, 30, 4), 5, Window(kernel=(1, 7), pads=(0, 3, 0, 3), strides=(1, 2)))
    bench.conv((1, 1, 32), 32, Window(kernel=(3, 3), pads=same), groups=32, residual=True)
    bench.conv((5, 1, 16), 24, Window(kernel=(3, 3), pads=same))
    bench.dense(3, 16, 5)
    return bench


def drawn(seed: int, count: int = 12) -> Layers:
    """Layers nobody thought of."""
    bench = Layers(seed)
    rng = np.random.default_rng([seed, 1])
    while len(bench.program.ops) < count:
        kernel, strides, dilations = ((int(a), int(b)) for a, b in rng.integers(1, [[5], [4], [3]], (3, 2)))
        top, left, bottom, right = (int(p) for p in rng.integers(0, 4, 4))
        window = Window(kernel=kernel, strides=strides, pads=(top, left, bottom, right), dilations=dilations)
        height, width = (int(n) for n in rng.integers(1, 12, 2))
        if min(window.output(height, width)) < 1:
            continue
        depthwise = rng.random() < 0.4
        groups = int(rng.integers(8, 40)) if depthwise else int(rng.choice([1, 1, 1, 2, 3]))
        ci = groups if depthwise else groups * int(rng.integers(1, 24))
        co = groups if depthwise else groups * int(rng.integers(1, 40))
        kind: Weights = rng.choice(["any", "large", "small"])
        bench.conv((height, width, ci), co, window, groups, kind, residual=rng.random() < 0.3)
    return bench


@needs_qemu
@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS[:2])
def test_every_form(target: str, tmp_path: Path) -> None:
    chosen().check(TvmBackend(), load_target(target), tmp_path)


@needs_qemu
@pytest.mark.long
@pytest.mark.parametrize(("target", "seed"), [("cortex-a72", 1), ("neoverse-n1", 2), (TARGETS[2], 3)])
def test_random_layers_on_any_number_of_threads(
    target: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_LEAST", 0.001)  # split however small
    bench = drawn(seed)
    bench.check(TvmBackend(), with_threads(load_target(target), 3), tmp_path, threads=(1, 3))
    flags = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    zig.compile_objects([tmp_path / "src" / "model.c"], load_target(target), tmp_path, flags=flags)


@needs_qemu
@pytest.mark.long
def test_matrix_products_in_tiles_of_any_size(tmp_path: Path) -> None:
    """Odd numbers of pixels, rests of up to 8 and more bytes, windows in place and copied, groups."""
    target, same, bench = load_target("aarch64-linux-i8mm"), (1, 1, 1, 1), Layers(7)
    layers: list[tuple[tuple[int, int, int], int, Window, int]] = [
        ((3, 13, 40), 27, Window(kernel=(1, 1), strides=(1, 1)), 1),
        ((4, 15, 3), 12, Window(kernel=(3, 3), pads=same), 1),
        ((2, 9, 26), 16, Window(kernel=(3, 2), pads=same), 1),
        ((3, 14, 44), 24, Window(kernel=(2, 2), strides=(1, 1)), 2),
        ((1, 3, 96), 10, Window(kernel=(1, 1)), 1),
    ]
    chosen: dict[str, Any] = {}
    for x, channels, window, groups in layers:
        bench.conv(x, channels, window, groups)
        op = bench.program.ops[-1]
        tiles = [t for t in candidates_for(op, bench.program, target) if t.products == "matrix"]
        picked = [tiles[i] for i in bench.rng.permutation(len(tiles))[:6]]
        assert {tile.pixels % 2 for tile in picked} == {0, 1}
        for tile in picked:
            bench.conv(x, channels, window, groups)
            chosen[bench.program.ops[-1].name] = plain(tile)
    backend = TvmBackend().with_schedules(Schedules(chosen), measuring=True)
    bench.check(backend, target, tmp_path)


def test_matrix_products_are_chosen_where_they_pay() -> None:
    bench, target = Layers(8), load_target("aarch64-linux-i8mm")
    bench.conv((8, 8, 64), 64, Window(kernel=(1, 1)))
    bench.conv((8, 8, 16), 16, Window(kernel=(3, 3), pads=(1, 1, 1, 1)))
    bench.dense(1, 640, 128)
    chosen: list[Any] = [kernel_for(op, bench.program, target).schedule for op in bench.program.ops]
    assert [tile.products for tile in chosen] == ["matrix", "matrix", None]


@pytest.mark.parametrize("target", TARGETS)
def test_layers_get_vectors_and_every_schedule_has_a_kernel(target: str) -> None:
    bench = chosen()
    for op in bench.program.ops:
        call = kernel_for(op, bench.program, load_target(target))
        assert call.specialized
        assert call.schedule is not None
        schedules = candidates_for(op, bench.program, load_target(target))
        assert call.schedule in schedules
        for schedule in schedules[:: max(1, len(schedules) // 3)]:
            assert kernel_for(op, bench.program, load_target(target), schedule).schedule == schedule


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_the_integer_form_is_the_float_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (3, int(rng.integers(1, 300)))).astype(np.int8)
    bias = rng.integers(-9000, 9000, 3).astype(np.int32)
    multiplier = (10.0 ** rng.uniform(-4, -0.5, 3)).astype(np.float32)
    form = Requantization(multiplier=multiplier, zero_point=int(rng.integers(-128, 128)))
    low, high = reachable(weight, bias)
    scale = integer_scale(form, low, high)
    if scale is None:
        return
    for c in range(3):
        # every accumulator in reach, or those around all steps and many more
        acc = np.arange(low[c], high[c] + 1)[: 1 << 19]
        wanted = np.rint(acc.astype(np.float32) * multiplier[c]) + form.zero_point
        shifted = (acc * int(scale.multiplier[c])) >> 31
        got = ((shifted + (1 << (scale.shift - 1))) >> scale.shift) + form.zero_point
        np.testing.assert_array_equal(np.clip(got, -128, 127), np.clip(wanted, -128, 127))


def test_some_layers_have_an_integer_form_and_ties_have_none() -> None:
    weight, bias = np.full((1, 20), 50, np.int8), np.zeros(1, np.int32)
    bounds = reachable(weight, bias)
    found = [
        integer_scale(Requantization(multiplier=np.array([m], np.float32), zero_point=0), *bounds)
        for m in np.linspace(0.0021, 0.0049, 40)
    ]
    assert sum(scale is not None for scale in found) > 20
    dyadic = Requantization(multiplier=np.array([2.0**-7], np.float32), zero_point=0)
    assert integer_scale(dyadic, *bounds) is None


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 127))
def test_groups_of_taps_fit_int16(seed: int, count: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-largest, largest + 1, (16, count)).astype(np.int8)
    groups = taps.groups_of(weight)
    assert sorted(tap for group in groups for tap in group) == list(range(count))
    for group in groups:
        w = weight[:, list(group)].astype(np.int64)
        assert np.maximum(-128 * w, 127 * w).sum(1).max() <= 32767
        assert np.minimum(-128 * w, 127 * w).sum(1).min() >= -32768


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 127))
def test_pairs_of_chunks_fit_int16(seed: int, chunks: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    block = rng.integers(-largest, largest + 1, (4, 1, 16 * chunks)).astype(np.int8)
    pairs, singles = paired._matching(block, chunks)
    assert sorted([c for pair in pairs for c in pair] + singles) == list(range(chunks))
    lanes = np.abs(block.reshape(4, chunks, 2, 8).astype(np.int64)).sum(2)
    for a, b in pairs:
        assert (lanes[:, a] + lanes[:, b]).max() <= 255
