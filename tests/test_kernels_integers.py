"""Kernels on integers and truth values against the NumPy reference, with and without an FPU."""

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

#: Every pair of these meets: overflow, division by 0 and by -1, shifts by too much.
EDGES = np.array([-(2**31), -(2**31) + 1, -129, -2, -1, 0, 1, 2, 31, 32, 127, 128, 2**31 - 1], np.int32)
TRUTHS = np.array([0, 1], np.uint8)


def arithmetic(b: KernelBench) -> None:
    left, right = (np.ascontiguousarray(x) for x in np.broadcast_arrays(EDGES[:, None], EDGES))
    kinds = ("add", "sub", "mul", "div", "mod", "fmod", "min", "max", "and", "or", "xor", "shl", "shr")
    for kind in kinds:
        b.add(ops.BinaryInteger, left, right, shape=left.shape, dtype="int32", kind=kind)
    b.add(
        ops.BinaryInteger, EDGES, np.array(3, np.int32), shape=EDGES.shape, dtype="int32", constants=(1,),
        kind="sub",
    )  # fmt: skip
    for kind in ("and", "or", "xor"):
        b.add(ops.BinaryInteger, TRUTHS[:, None], TRUTHS, shape=(2, 2), dtype="uint8", kind=kind)


def comparisons(b: KernelBench) -> None:
    kinds = ("equal", "notequal", "less", "lessorequal", "greater", "greaterorequal")
    for x in (EDGES, EXTREMES, TRUTHS):
        for kind in kinds:
            b.add(ops.Compare, x[:, None], x, shape=(x.size, x.size), dtype="uint8", kind=kind)


def choices(b: KernelBench) -> None:
    condition = b.rng.integers(0, 2, (4, 1, 3)).astype(np.uint8)
    for dtype in ("int8", "float32"):
        b.add(ops.Where, condition, b.of(dtype, 5, 3), b.of(dtype, 1), shape=(4, 5, 3), dtype=dtype)
    b.add(ops.Where, condition, EDGES[:3], EDGES[3:6], shape=(4, 1, 3), dtype="int32")
    b.add(ops.Where, np.array(1, np.uint8), EDGES, EDGES, shape=EDGES.shape, dtype="int32")


def conversions(b: KernelBench) -> None:
    floats = np.concatenate([EXTREMES, np.float32([126.9, 127.0, 128.5, -128.9, -129.0, 2147483520.0])])
    for low, high in ((-(2**31), 2**31 - 1), (0, 65535)):
        b.add(ops.Cast, floats, shape=floats.shape, dtype="int32", low=low, high=high)
        b.add(ops.Cast, EDGES, shape=EDGES.shape, dtype="int32", low=low, high=high)
    for x in (floats, EDGES):
        b.add(ops.Cast, x, shape=x.shape, dtype="uint8")
        b.add(ops.Cast, x, shape=x.shape, low=-128, high=127)
        b.add(ops.Cast, x, shape=x.shape, low=0, high=255, output_zero_point=-128)
    b.add(ops.Cast, EDGES, shape=EDGES.shape, dtype="float32")
    codes = np.arange(-128, 128).astype(np.int8)
    for dtype in ("float32", "int32", "uint8", "int8"):
        b.add(
            ops.Cast, codes, shape=codes.shape, dtype=dtype, low=-128, high=127, input_zero_point=-128
        )  # fmt: skip
    for dtype in ("float32", "int32", "int8"):
        b.add(ops.Cast, TRUTHS, shape=TRUTHS.shape, dtype=dtype)


@pytest.mark.parametrize("target", ["host", "cortex-m3"])
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in (arithmetic, comparisons, choices, conversions):
        family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)
