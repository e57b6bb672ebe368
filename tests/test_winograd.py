"""3x3 convolutions of float32 in tiles of 2x2: what they compute, how exactly, and where they are chosen."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import candidates_for
from irshrink.backends.tvm.schedules import plain
from irshrink.errors import InternalError
from irshrink.program import ops
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvF32, Window
from irshrink.program.program import Program
from irshrink.program.reference.convolution import taps
from irshrink.program.reference.winograd import fused_products, winograd
from irshrink.program.winograd import transformed_input, transformed_output
from irshrink.target import load_target, with_threads
from irshrink.testing.kernels import KernelBench
from irshrink.tuning.database import Schedules

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="QEMU is not installed: apt-get install qemu-user"
)
TARGETS = ["host", pytest.param("cortex-a72", marks=needs_qemu)]
SAME = (1, 1, 1, 1)

#: height, width, channels in and out, padding, the clip.
LAYERS: list[tuple[tuple[int, int, int, int], tuple[int, int, int, int], tuple[float, float]]] = [
    ((6, 8, 16, 16), SAME, (0.0, inf)),
    ((7, 9, 20, 24), SAME, (-inf, inf)),
    ((5, 8, 16, 17), (0, 0, 0, 0), (-inf, 1.0)),
    ((8, 6, 32, 64), SAME, (0.0, 6.0)),
    ((6, 6, 17, 16), (0, 0, 0, 0), (-inf, inf)),
    ((4, 30, 9, 8), (2, 0, 1, 2), (-1.0, inf)),
    ((1, 1, 16, 16), SAME, (-inf, inf)),
    ((3, 17, 8, 33), (0, 1, 2, 1), (-inf, inf)),
]


def add(
    bench: KernelBench, shape: tuple[int, ...], pads: tuple[int, int, int, int] = SAME, **given: Any
) -> None:
    height, width, ci, co = shape
    window = Window(kernel=(3, 3), pads=pads)
    fields = {
        "low": -inf,
        "high": inf,
        "groups": 1,
        "fused": True,
        "winograd": True,
        "window": window,
        **given,
    }
    bench.add(
        ConvF32, bench.f32(1, height, width, ci), shape=(1, *fields["window"].output(height, width), co),
        dtype="float32", weight=bench.f32(co, *fields["window"].kernel, ci // fields["groups"]),
        bias=bench.f32(co), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_every_bit_of_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench(1)
    for shape, pads, (low, high) in LAYERS:
        add(bench, shape, pads, low=low, high=high)
    bench.check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_every_schedule_gives_the_same(target: str, tmp_path: Path) -> None:
    bench, chosen = KernelBench(2), {}
    for shape in ((9, 10, 16, 40), (6, 13, 12, 16)):
        add(bench, shape)
        schedules = candidates_for(bench.program.ops[-1], bench.program, load_target(target))
        for i in bench.rng.permutation(len(schedules))[:4]:
            add(bench, shape)
            chosen[bench.program.ops[-1].name] = plain(schedules[i])
    backend = TvmBackend().with_schedules(Schedules(chosen), measuring=True)
    bench.check(backend, load_target(target), tmp_path)


def test_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LEAST", 0.001)  # split however small
    bench = KernelBench(3)
    for shape in ((9, 9, 16, 16), (20, 5, 16, 32)):
        add(bench, shape)
    bench.check(TvmBackend(), with_threads(load_target("host"), 3), tmp_path, threads=(1, 2, 3))


@st.composite
def layers(draw: st.DrawFn) -> tuple[ConvF32, Any, np.random.Generator]:
    height, width, ci, co = (draw(st.integers(1, most)) for most in (7, 7, 9, 3))
    top, left, bottom, right = (draw(st.integers(0, 2)) for _ in range(4))
    window = Window(kernel=(3, 3), pads=(top, left, bottom, right))
    if min(window.output(height, width)) < 1:
        window = Window(kernel=(3, 3), pads=(2, 2, 2, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zeros = np.zeros((co, 3, 3, ci), np.float32)
    op = ConvF32(
        name="op", origin=(), inputs=("x",), output="y", weight=zeros, bias=zeros[:, 0, 0, 0],
        window=window, groups=1, low=-inf, high=inf, fused=True, winograd=True,
    )  # fmt: skip
    return op, (1, height, width, ci), rng


def direct(x: Any, op: ConvF32, weight: Any, bias: Any) -> Any:
    """The exact convolution, but for float64."""
    return sum(values @ weight[:, ky, kx].T for ky, kx, values in taps(x, op.window, 0.0)) + bias


def with_values(op: ConvF32, weight: Any, bias: Any) -> ConvF32:
    values = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return ConvF32(**{**vars(op), **values})


@settings(deadline=None, max_examples=40, derandomize=True)
@given(layers())
def test_whole_numbers_give_the_convolution(drawn: Any) -> None:
    op, shape, rng = drawn
    x = rng.integers(-50, 51, shape).astype(np.float64)
    weight, bias = rng.integers(-50, 51, op.weight.shape), rng.integers(-999, 1000, op.bias.shape)
    y = winograd(with_values(op, weight, bias), x.astype(np.float32), fused_products)
    np.testing.assert_array_equal(y, direct(x, op, weight.astype(np.float64), bias))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(layers())
def test_errors_stay_within_the_stated_bound(drawn: Any) -> None:
    op, shape, rng = drawn
    spread = 2.0 ** rng.integers(-12, 13, shape)  # cancellation between large and small
    x = (rng.standard_normal(shape) * spread).astype(np.float32).astype(np.float64)
    op = with_values(op, rng.standard_normal(op.weight.shape), rng.standard_normal(op.bias.shape))
    exact = direct(x, op, op.weight.astype(np.float64), op.bias.astype(np.float64))
    error = np.abs(winograd(op, x.astype(np.float32), fused_products) - exact)
    assert (error <= bound(op, x)).all()


def plus(a: Any, b: Any) -> Any:
    return a + b


def bound(op: ConvF32, x: Any) -> Any:
    """(ci + 8) u / (1 - (ci + 8) u) times the sums of magnitudes, as docs/integer-semantics.md has it."""
    _, height, width, ci = x.shape
    out_h, out_w = op.window.output(height, width)
    top, left, _, _ = op.window.pads
    padded = np.zeros((1, max(out_h + 5, top + height), max(out_w + 5, left + width), ci))
    padded[:, top : top + height, left : left + width] = np.abs(x)
    halves = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
    weight = np.einsum("ak,oklc,bl->abco", halves, np.abs(op.weight.astype(np.float64)), halves)
    sums = np.zeros((1, out_h, out_w, len(op.bias)))
    for oy in range(out_h):
        for ox in range(out_w):
            ty, tx = oy // 2 * 2, ox // 2 * 2
            d = padded[0, ty : ty + 4, tx : tx + 4]
            down = transformed_input(list(d), plus, plus)
            v = np.stack([np.stack(transformed_input(list(row), plus, plus)) for row in down])
            m = np.einsum("abc,abco->abo", v, weight)
            rows = transformed_output(list(m), plus, plus)[oy % 2]
            sums[0, oy, ox] = transformed_output(list(rows), plus, plus)[ox % 2]
    roundings = (ci + 8) * 2.0**-24
    return roundings / (1 - roundings) * (sums + np.abs(op.bias))


def chosen(target: str, *layers: tuple[tuple[int, int, int, int], dict[str, Any]]) -> list[bool]:
    bench = KernelBench()
    for shape, fields in layers:
        add(bench, shape, winograd=False, **fields)
    program: Program = for_target(bench.program, load_target(target))
    return [op.winograd for op in program.ops if isinstance(op, ConvF32)]


def test_where_it_is_chosen() -> None:
    window = Window(kernel=(3, 3), pads=SAME, strides=(2, 2))
    layers: list[tuple[tuple[int, int, int, int], dict[str, Any]]] = [
        ((8, 8, 64, 64), {}),
        ((8, 8, 8, 8), {}),
        ((1, 40, 64, 64), {}),  # half of every tile would be thrown away
        ((2, 2, 64, 64), {}),
        ((8, 8, 512, 256), {}),
        ((8, 8, 64, 64), {"window": window}),
        ((8, 8, 32, 32), {"groups": 2}),
        ((8, 8, 64, 64), {"window": Window(kernel=(3, 3), dilations=(2, 2))}),
        ((8, 8, 64, 64), {"window": Window(kernel=(3, 1))}),
    ]
    assert chosen("cortex-a72", *layers) == [True, True, *[False] * 7]
    assert chosen("cortex-m4", *layers) == chosen("cortex-a7", *layers) == [False] * 9


def test_a_program_for_another_target_forgets_it() -> None:
    bench = KernelBench()
    add(bench, (8, 8, 16, 16))
    (op,) = for_target(bench.program, load_target("rv32imc-linux")).ops
    assert isinstance(op, ops.ConvF32)
    assert not op.winograd
    assert not op.fused


def test_no_kernel_is_said() -> None:
    bench = KernelBench()
    add(bench, (8, 8, 16, 16))
    with pytest.raises(InternalError, match="cortex-m4 has no kernel for its algorithm"):
        TvmBackend().compile(bench.program, load_target("cortex-m4"), Path(), [], "none")
