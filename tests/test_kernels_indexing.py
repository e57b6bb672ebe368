"""Kernels that go by indices against the NumPy reference; indices outside of the data are among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program import ops
from irshrink.program.ops import Reduction
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench

Array = np.ndarray[Any, np.dtype[Any]]


def indices(b: KernelBench, size: int, *shape: int) -> Array:
    """Within an axis from both ends, and beyond it."""
    x = b.rng.integers(-size, size, shape).astype(np.int32)
    x[b.rng.random(shape) < 0.1] = 2**31 - 1
    x[b.rng.random(shape) < 0.1] = -(2**31)
    return x


def gathers(b: KernelBench) -> None:
    for dtype in ("int8", "float32"):
        b.add(
            ops.Gather, b.of(dtype, 1, 9, 5), indices(b, 9, 1, 7, 1), shape=(1, 7, 5), dtype=dtype,
            constants=(0,),
        )  # fmt: skip
        b.add(ops.Gather, b.of(dtype, 3, 4, 1), indices(b, 4, 1, 6, 1), shape=(3, 6, 1), dtype=dtype)
        b.add(ops.Gather, b.of(dtype, 2, 4, 3, 5), indices(b, 3, 2, 6, 2), shape=(2, 6, 5), dtype=dtype)
        for axis in range(3):
            shape = [2, 3, 4]
            shape[axis] = 5
            at = indices(b, (2, 3, 4)[axis], *shape)
            b.add(
                ops.GatherElements, b.of(dtype, 2, 3, 4), at, shape=tuple(shape), dtype=dtype, axis=axis
            )  # fmt: skip


def scatters(b: KernelBench) -> None:
    for reduction in get_args(Reduction):
        for dtype in ("float32", "int32"):
            data, updates = (b.of("int8", *shape).astype(dtype) for shape in ((3, 4, 5), (6, 5)))
            b.add(
                ops.Scatter, data, indices(b, 3, 6, 2), updates, shape=data.shape, dtype=dtype,
                reduction=reduction,
            )  # fmt: skip
            b.add(
                ops.ScatterElements, data, indices(b, 4, 3, 6, 5), b.of("int8", 3, 6, 5).astype(dtype),
                shape=data.shape, dtype=dtype, axis=1, reduction=reduction,
            )  # fmt: skip
    b.add(ops.Scatter, b.int8(4, 1), indices(b, 4, 3, 1), b.int8(3, 1), shape=(4, 1), reduction="none")


def searches(b: KernelBench) -> None:
    floats = b.f32(2, 7, 3)
    floats[0, 2, 1] = floats[1, :, 2] = np.nan
    for x in (b.int8(2, 7, 3) // 40, b.int8(2, 7, 3).astype(np.int32), floats):
        for kind in ("max", "min"):
            for last in (False, True):
                b.add(
                    ops.ArgReduce, x, shape=(2, 1, 3), dtype="int32", kind=kind, axis=1, last=last
                )  # fmt: skip
        for axis, k in ((1, 4), (2, 3)):
            for largest in (True, False):
                shape = tuple(k if i == axis else n for i, n in enumerate(x.shape))
                b.add(ops.TopK, x, shape=shape, dtype="int32", axis=axis, k=k, largest=largest)
    x = b.rng.integers(-(2**31), 2**31, (2, 3, 4)).astype(np.int32)
    for kind, axes in (("sum", (1,)), ("prod", (0, 2)), ("max", (2,)), ("min", (0, 1, 2))):
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        b.add(ops.ReduceInteger, x, shape=shape, dtype="int32", kind=kind, axes=axes)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in (gathers, scatters, searches):
        family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)
