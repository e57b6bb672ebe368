"""Kernels on float32 against the NumPy reference: the same bits on every core, with FPU or without."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import kernel_for
from irshrink.backends.tvm.printer import print_function
from irshrink.program import ops
from irshrink.program.lower.finish import with_sums
from irshrink.program.ops import Window
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

Family = Callable[[KernelBench], None]

TARGETS = ("host", "cortex-m3", "cortex-m4")


def products(b: KernelBench) -> None:
    """Matrix products with full, overlapping and single blocks of columns."""
    for m, k, n in ((3, 7, 21), (2, 5, 3), (13, 64, 6)):
        b.add(ops.MatMulF32, b.f32(2, m, k), b.f32(2, k, n), shape=(2, m, n), dtype="float32")
    for rows, k, n, low, high in ((3, 20, 21, -inf, inf), (1, 20, 3, 0.0, inf)):
        b.add(
            ops.DenseF32, b.f32(rows, k), shape=(rows, n), dtype="float32", weight=b.f32(n, k), bias=b.f32(n),
            low=low, high=high,
        )  # fmt: skip


def convolutions(b: KernelBench) -> None:
    """Strides, pads, dilations, groups, depthwise, bounds; a bias of -0.0 sees the padding."""
    cases = [
        # images, size, channels, kernel, strides, pads, dilations, groups, low, high
        (1, (7, 9), (3, 20), (3, 3), (2, 2), (1, 0, 1, 1), (1, 1), 1, 0.0, inf),
        (2, (7, 9), (3, 5), (3, 3), (1, 2), (1, 1, 1, 1), (2, 1), 1, -inf, inf),
        (1, (7, 9), (6, 4), (3, 3), (1, 2), (1, 1, 1, 1), (2, 1), 2, -inf, 1.0),
        (1, (7, 9), (8, 2), (3, 2), (1, 1), (0, 0, 0, 0), (1, 1), 2, -inf, inf),
        (1, (7, 9), (20, 20), (3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 20, 0.0, 6.0),
        (1, (7, 9), (5, 10), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 5, -inf, inf),
        (1, (7, 3), (3, 3), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 3, -inf, inf),
        (2, (7, 9), (20, 33), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, -inf, inf),
    ]
    for images, size, (ci, co), kernel, strides, pads, dilations, groups, low, high in cases:
        window = Window(kernel=kernel, strides=strides, pads=pads, dilations=dilations)
        bias = b.f32(co)
        bias[0] = -0.0
        b.add(
            ops.ConvF32, b.f32(images, *size, ci), shape=(images, *window.output(*size), co), dtype="float32",
            weight=b.f32(co, *kernel, ci // groups), bias=bias, window=window, groups=groups, low=low,
            high=high,
        )  # fmt: skip


def binary_float(b: KernelBench) -> None:
    # random bit patterns: subnormal quotients round once, too
    x, y = (b.rng.integers(-(2**31), 2**31, 600).astype(np.int32).view(np.float32) for _ in range(2))
    small = b.rng.integers(0, 2**26, 600).astype(np.int32).view(np.float32)
    for kind in ("add", "sub", "mul", "div", "min", "max", "prelu", "pow"):
        left = np.concatenate([EXTREMES, np.nan_to_num(x), small])
        right = np.concatenate([EXTREMES[::-1], np.nan_to_num(y), np.nan_to_num(y)])
        b.add(ops.BinaryF32, left, right, shape=left.shape, dtype="float32", kind=kind)
    b.add(ops.BinaryF32, b.f32(3, 4, 5), b.f32(4, 1), shape=(3, 4, 5), dtype="float32", kind="sub")
    for constant, first in ((b.f32(), True), (b.f32(5), False), (b.f32(4, 1), True)):
        b.add(
            ops.BinaryF32, b.f32(3, 4, 5), shape=(3, 4, 5), dtype="float32", kind="div", constant=constant,
            constant_first=first,
        )  # fmt: skip


def unary_float(b: KernelBench) -> None:
    random = b.rng.integers(-(2**31), 2**31, 300).astype(np.int32).view(np.float32)
    x = np.concatenate(
        [EXTREMES, -EXTREMES, np.linspace(-20, 20, 401, dtype=np.float32), np.nan_to_num(random)]
    )
    near = np.linspace(-1.25, 1.25, 301, dtype=np.float32)
    kinds = {
        **{"clip": (-0.5, 0.5), "hardsigmoid": (0.2, 0.5), "leakyrelu": (0.01, 0.0), "elu": (1.3, 0.0)},
        **{"selu": (1.67, 1.05), "celu": (0.7, 0.0), "thresholdedrelu": (0.5, 0.0), "shrink": (0.5, 0.25)},
        "power": (0.75, 0.0),
    }
    plain = [
        "sigmoid",
        "tanh",
        "exp",
        "erf",
        "gelu",
        "hardswish",
        "neg",
        "abs",
        "reciprocal",
        "floor",
        "ceil",
    ]
    plain += ["sqrt", "round", "sign", "softsign", "softplus", "mish", "log", "sin", "cos", "tan", "asin"]
    plain += ["acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"]
    for kind, alpha, beta in [
        *((kind, 0.0, 0.0) for kind in plain),
        *((kind, *values) for kind, values in kinds.items()),
        ("gelu", 1.0, 0.0),
        ("clip", 0.0, inf),
        ("clip", -inf, 2.5),
    ]:
        values = np.concatenate([x, near])
        b.add(ops.UnaryF32, values, shape=values.shape, dtype="float32", kind=kind, alpha=alpha, beta=beta)


def rows_float(b: KernelBench) -> None:
    """Sums in order; of negative zeros only, they stay negative."""
    zeros = np.full((2, 3), -0.0, np.float32)
    for x in (b.f32(5, 12), zeros):
        n = x.shape[-1]
        norm: dict[str, Any] = {"gamma": b.f32(n), "beta": np.full(n, -0.0, np.float32), "epsilon": 1e-5}
        b.add(ops.LayerNormF32, x, shape=x.shape, dtype="float32", **norm)
    b.add(ops.ReduceF32, zeros, shape=(2, 1), dtype="float32", kind="sum", axes=(1,))
    x = b.f32(2, 3, 4, 5)
    for kind, axes in (
        ("sum", (1, 2)),
        ("mean", (0,)),
        ("max", (3,)),
        ("mean", (0, 1, 2, 3)),
        ("max", (1, 3)),
        ("min", (0, 2)),
        ("prod", (3,)),
        ("l1", (1, 2)),
        ("sumsquare", (0, 3)),
    ):
        shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        b.add(ops.ReduceF32, x, shape=shape, dtype="float32", kind=kind, axes=axes)
    for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
        how = {"axis": 1 + exclusive, "exclusive": exclusive, "reverse": reverse}
        b.add(ops.CumSumF32, x, shape=x.shape, dtype="float32", **how)


FAMILIES: tuple[Family, ...] = (products, convolutions, binary_float, unary_float, rows_float)


@pytest.mark.parametrize("target", ["host", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_fused_sums_equal_the_reference(target: str, tmp_path: Path) -> None:
    """Also where sums underflow, half of them to -0."""
    bench = KernelBench()
    products(bench)
    convolutions(bench)
    tiny = (np.full((4, 8), 1e-30, np.float32), np.where(np.arange(40) % 2, 1e-30, -1e-30).astype(np.float32))
    bench.add(
        ops.DenseF32, tiny[0], shape=(4, 5), dtype="float32", weight=tiny[1].reshape(5, 8),
        bias=np.array([0, -0.0, 1e-44, -1e-44, 1], np.float32), low=-inf, high=inf,
    )  # fmt: skip
    bench.program = with_sums(bench.program, fused=True)
    bench.check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_equal_the_reference(family: Family, target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def test_equal_names_mean_equal_functions() -> None:
    """Generator arguments are all in the C name: kernels with one name are one function."""
    texts: dict[tuple[str, str], str] = {}
    for family in FAMILIES:
        bench = KernelBench()
        family(bench)
        for target in ("host", "cortex-m3", "cortex-m4"):
            for op in bench.program.ops:
                function = kernel_for(op, bench.program, load_target(target)).function
                text = print_function(function)
                assert texts.setdefault((target, function.name), text) == text
