"""Convolutions of float32 by Fourier transforms: what they compute, how exactly, where they run."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backend import Inference
from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import candidates_for
from irshrink.backends.tvm.schedules import plain
from irshrink.program.fourier import Segments, bit_reversed, twiddles
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvF32, Window
from irshrink.program.reference.convolution import taps
from irshrink.program.reference.fourier import fourier, transformed, transformed_back
from irshrink.target import load_target, with_threads
from irshrink.testing.kernels import KernelBench
from irshrink.tuning.database import Schedules

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="QEMU is not installed: apt-get install qemu-user"
)
TARGETS = ["host", pytest.param("cortex-a72", marks=needs_qemu)]


def add(bench: KernelBench, shape: tuple[int, ...], window: Window, length: int, **given: Any) -> None:
    height, width, ci, co = shape
    fields = {"low": -inf, "high": inf, "groups": 1, "fused": True, **given}
    bench.add(
        ConvF32, bench.f32(1, height, width, ci), shape=(1, *window.output(height, width), co),
        dtype="float32", weight=bench.f32(co, *window.kernel, ci), bias=bench.f32(co), window=window,
        fourier=length, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_every_bit_of_the_reference(target: str, tmp_path: Path) -> None:
    """Odd and even numbers of stages, rows apart, several pairs of segments, outputs that end in one."""
    bench = KernelBench(1)
    add(bench, (5, 50, 8, 8), Window(kernel=(2, 9), pads=(1, 4, 0, 4)), 32, low=0.0)
    add(bench, (6, 30, 8, 16), Window(kernel=(3, 17), pads=(1, 8, 1, 8)), 64)
    window = Window(kernel=(3, 20), strides=(2, 1), dilations=(2, 1))
    add(bench, (7, 200, 16, 32), window, 128, high=6.0)
    add(bench, (1, 300, 24, 8), Window(kernel=(1, 33), pads=(0, 5, 0, 0)), 64, low=-1.0)
    bench.check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_every_schedule_gives_the_same(target: str, tmp_path: Path) -> None:
    bench, chosen = KernelBench(2), {}
    shape, window = (5, 130, 8, 16), Window(kernel=(2, 9), pads=(0, 4, 1, 4))
    add(bench, shape, window, 32)
    schedules = candidates_for(bench.program.ops[-1], bench.program, load_target(target))
    for i in bench.rng.permutation(len(schedules))[:5]:
        add(bench, shape, window, 32)
        chosen[bench.program.ops[-1].name] = plain(schedules[i])
    backend = TvmBackend().with_schedules(Schedules(chosen), measuring=True)
    bench.check(backend, load_target(target), tmp_path)


def test_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LEAST", 0.001)  # split however small
    bench = KernelBench(3)
    add(bench, (9, 40, 8, 8), Window(kernel=(3, 11), pads=(1, 5, 1, 5)), 32)
    bench.check(TvmBackend(), with_threads(load_target("host"), 3), tmp_path, threads=(1, 2, 3))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_transforms_are_those_of_fourier(stages: int, seed: int) -> None:
    length, rng = 1 << stages, np.random.default_rng(seed)
    z = rng.standard_normal((3, length, 2, 2)).astype(np.float32)
    there = transformed(z, length)
    exact = np.fft.fft(z[:, :, 0] + 1j * z[:, :, 1].astype(np.float64), axis=1)[:, bit_reversed(length)]
    bound = 5 * stages * 2.0**-24 * np.linalg.norm(exact)
    assert np.linalg.norm(there[:, :, 0] + 1j * there[:, :, 1] - exact) <= bound
    back = transformed_back(there, length) / np.float32(length)
    np.testing.assert_allclose(back, z, atol=1e-5)
    assert twiddles(2).tolist() == [[1.0, 0.0]]


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.integers(1, 4), st.integers(2, 70), st.integers(1, 3), st.integers(2, 16), st.integers(0, 2**32 - 1)
)
def test_errors_stay_within_the_stated_bound(height: int, width: int, kh: int, kw: int, seed: int) -> None:
    rng, length = np.random.default_rng(seed), 32
    ci, co = 3, 2
    window = Window(kernel=(kh, kw), pads=(kh // 2, kw // 2, kh // 2, kw // 2))
    x = rng.standard_normal((1, height, width, ci)) * 2.0 ** rng.integers(-9, 10, (1, height, width, ci))
    x, weight = x.astype(np.float32), rng.standard_normal((co, kh, kw, ci)).astype(np.float32)
    op = ConvF32(
        name="op", origin=(), inputs=("x",), output="y", weight=weight, groups=1, low=-inf, high=inf,
        bias=rng.standard_normal(co).astype(np.float32), window=window, fused=True, fourier=length,
    )  # fmt: skip
    exact = op.bias + sum(
        values @ weight[:, ky, kx].T.astype(np.float64)
        for ky, kx, values in taps(x.astype(np.float64), window, 0.0)
    )
    y = fourier(op, x)
    assert y.shape == exact.shape
    assert (np.abs(y - exact) <= bound(op, x, exact)).all()


def bound(op: ConvF32, x: Any, exact: Any) -> Any:
    """What docs/integer-semantics.md says of the outputs of every pair of segments."""
    _, out_h, out_w, _ = exact.shape
    (kh, kw), (top, left, bottom, _) = op.window.kernel, op.window.pads
    segments = Segments.of(op.fourier, kw, out_w)
    ci = x.shape[3]
    right = max(segments.reach - left - x.shape[2], 0)
    rows = np.pad(x[0].astype(np.float64), ((top, bottom), (left, right), (0, 0)))
    magnitudes = np.abs(op.weight.astype(np.float64)).sum(2)  # [co, kh, ci]
    n = 10 * segments.stages + 2 * kh * ci + 4
    found = np.zeros(exact.shape)
    for oy in range(out_h):
        for pair in range(segments.pairs):
            start = 2 * pair * segments.step
            both = rows[oy : oy + kh, start : start + segments.step + segments.length]
            first, second = both[:, : segments.length], both[:, segments.step :]
            norms = np.sqrt((first**2).sum(1) + (second**2).sum(1))  # [kh, ci]
            here = slice(start, start + 2 * segments.step)
            found[0, oy, here] = n * 2.0**-24 * (magnitudes * norms).sum((1, 2))
    return found + 2.0**-24 * (np.abs(exact) + found)


def chosen(target: str, *layers: tuple[tuple[int, int, int, int], Window, dict[str, Any]]) -> list[int]:
    bench = KernelBench()
    for shape, window, fields in layers:
        add(bench, shape, window, 0, **fields)
    program = for_target(bench.program, load_target(target))
    return [op.fourier for op in program.ops if isinstance(op, ConvF32)]


def test_where_it_is_chosen() -> None:
    long = Window(kernel=(3, 39), pads=(1, 19, 1, 19))
    layers: list[tuple[tuple[int, int, int, int], Window, dict[str, Any]]] = [
        ((20, 264, 8, 8), long, {}),
        ((20, 264, 8, 8), Window(kernel=(3, 39), strides=(1, 2)), {}),
        ((20, 264, 8, 8), Window(kernel=(3, 5)), {}),
        ((20, 264, 8, 3), long, {}),
        ((20, 264, 256, 256), long, {}),  # 800 MB of weights
    ]
    assert chosen("cortex-a72", *layers) == [128, 0, 0, 0, 0]
    assert chosen("cortex-m4", *layers) == chosen("rv32imc-linux", *layers) == [0] * 5


def test_the_report_says_what_weights_take(tmp_path: Path) -> None:
    bench = KernelBench()
    add(bench, (2, 40, 8, 8), Window(kernel=(1, 9)), 32)
    inputs = Inference(bench.values, [np.zeros(p.shape, np.float32) for p in bench.program.outputs])
    built = TvmBackend().compile(bench.program, load_target("host"), tmp_path, [inputs], "note")
    assert built.notes[-1] == (
        "Convolutions of float32 run faster: 1 by Fourier transforms. Their transformed weights take 30,720 "
        "bytes more."
    )
