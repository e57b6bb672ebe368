"""Kernels of every operator but int8 convolutions against the NumPy reference, on the host and emulated.

A program holds a family's operators side by side, because building costs more than running.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import SELECTORS, kernel_for
from irshrink.backends.tvm.printer import print_function
from irshrink.program import ops
from irshrink.program.ops import Addition, Op, Requantization, Window
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

Array = NDArray[Any]

Family = Callable[[KernelBench], None]

TARGETS = ("host", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


def requantization(multiplier: float, zero_point: int, low: int = -128, high: int = 127) -> Requantization:
    return Requantization(
        multiplier=np.array([multiplier], np.float32), zero_point=zero_point, low=low, high=high
    )


def every_pair() -> tuple[Array, Array]:
    """Two int8 tensors that hold all pairs of values."""
    x = np.arange(-128, 128).astype(np.int8)
    return np.repeat(x, 256), np.tile(x, 256)


def elementwise(b: KernelBench) -> None:
    """Same shape, per channel, scalar; rounding with and without ties; clipped and not."""
    plain = Addition(multipliers=(2586180, 3565001), shift=22, zero_points=(3, -9), zero_point=-128)
    ties = Addition(multipliers=(1 << 20, -(3 << 19)), shift=21, zero_points=(-3, 90), zero_point=5)
    clipped = Addition(
        multipliers=(700000, 500000), shift=20, zero_points=(0, 0), zero_point=0, low=-20, high=90
    )
    whole = Addition(multipliers=(1, 2), shift=0, zero_points=(-128, 127), zero_point=1)
    for addition in (plain, ties, clipped, whole):
        b.add(ops.AddInt8, *every_pair(), shape=(65536,), addition=addition)
    b.add(ops.AddInt8, b.int8(1, 5, 5, 7), b.int8(7), shape=(1, 5, 5, 7), addition=clipped)
    b.add(ops.AddInt8, b.int8(1, 5, 1, 7), b.int8(1, 5, 9, 1), shape=(1, 5, 9, 7), addition=ties)
    b.add(ops.AddInt8, b.int8(3, 1), b.int8(1, 5), shape=(3, 5), addition=plain)
    b.add(ops.AddInt8, b.int8(3, 5), b.int8(3, 5), shape=(3, 5), addition=plain, constants=(0,))
    product: dict[str, Any] = {"zero_points": (3, -7), "requantization": requantization(0.0123, 4)}
    b.add(ops.MulInt8, *every_pair(), shape=(65536,), **product)
    b.add(ops.MulInt8, b.int8(1, 5, 5, 17), b.int8(1, 1, 1, 17), shape=(1, 5, 5, 17), **product)
    product = {"zero_points": (-128, 0), "requantization": requantization(2.0**-7, 0, -100, 80)}
    b.add(ops.MulInt8, b.int8(2, 33), b.int8(1), shape=(2, 33), **product)
    same, less = requantization(0.9, 4), requantization(0.011, 4)
    b.add(ops.PReluInt8, *every_pair(), shape=(65536,), zero_points=(3, -7), positive=same, negative=less)
    same, less = requantization(0.5, -3, -100, 80), requantization(2.0**-7, -3, -100, 80)
    b.add(
        ops.PReluInt8, b.int8(1, 3, 5, 7), b.int8(7), shape=(1, 3, 5, 7), zero_points=(0, 5), positive=same,
        negative=less, constants=(1,),
    )  # fmt: skip
    b.add(ops.TableInt8, np.arange(-128, 128).astype(np.int8), shape=(256,), table=b.int8(256))


def borders(b: KernelBench) -> None:
    """Quantize, Dequantize, softmax: where int8 and float32 meet."""
    x = np.concatenate([EXTREMES, (np.arange(1200) - 600).astype(np.float32) / 4, b.f32(100) * 40])
    b.add(ops.Quantize, x, shape=x.shape, scale=0.5, zero_point=-3)
    b.add(ops.Quantize, x, shape=x.shape, scale=0.0371, zero_point=100)
    b.add(ops.Dequantize, b.int8(300), shape=(300,), dtype="float32", scale=0.0371, zero_point=-3)
    for rows, n, scale in ((5, 12, 0.11), (1, 10, 0.9), (2, 1, 0.02), (1, 300, 0.001)):
        table = np.exp(-np.arange(256) * scale).astype(np.float32)
        softmax: dict[str, Any] = {"exp_table": table, "inverse_scale": 256.0, "zero_point": -128}
        b.add(ops.SoftmaxInt8, b.int8(rows, n), shape=(rows, n), **softmax)
    b.add(ops.SoftmaxF32, b.f32(5, 12), shape=(5, 12), dtype="float32")
    b.add(ops.SoftmaxF32, b.f32(2, 7) * 60, shape=(2, 7), dtype="float32")


def pooling(b: KernelBench) -> None:
    """Few and many channels, padded and not, sums too large for 16 bits."""
    quantized: dict[str, Any] = {"input_zero_point": -5, "count_padding": False, "zero_point": -3}
    for height, width, channels in ((8, 8, 64), (25, 5, 6), (20, 20, 6), (2, 128, 4), (257, 1, 4)):
        n = height * width
        b.add(
            ops.AveragePoolInt8, b.int8(1, height, width, channels), shape=(1, 1, 1, channels),
            window=Window(kernel=(height, width)), multipliers={n: 1.3 / n}, **quantized,
        )  # fmt: skip
    extreme = np.full((1, 16, 16, 8), -128, np.int8)
    extreme[..., ::2] = 127
    window = Window(kernel=(16, 16))
    b.add(
        ops.AveragePoolInt8,
        extreme,
        shape=(1, 1, 1, 8),
        window=window,
        multipliers={256: 1 / 256},
        **quantized,
    )
    _padded_pools(b, (9, 7), 18)
    _padded_pools(b, (5, 6), 3)
    b.add(ops.MaxPool, b.int8(2, 6, 6, 16), shape=(2, 3, 3, 16), window=Window(kernel=(2, 2), strides=(2, 2)))


def _padded_pools(b: KernelBench, size: tuple[int, int], channels: int) -> None:
    window = Window(kernel=(3, 3), strides=(2, 1), pads=(1, 1, 1, 1), dilations=(1, 2))
    shape, x = (1, *window.output(*size), channels), b.int8(1, *size, channels)
    counts = {n: 1.3 / n for n in range(1, 10)}
    common: dict[str, Any] = {"window": window, "input_zero_point": 7, "zero_point": -3}
    b.add(
        ops.AveragePoolInt8,
        x,
        shape=shape,
        count_padding=False,
        multipliers=counts,
        low=-40,
        high=50,
        **common,
    )
    b.add(ops.AveragePoolInt8, x, shape=shape, count_padding=True, multipliers={9: 1.3 / 9}, **common)
    b.add(ops.MaxPool, x, shape=shape, window=window)
    values = b.f32(1, *size, channels)
    b.add(ops.MaxPool, values, shape=shape, dtype="float32", window=window)
    for count_padding in (False, True):
        b.add(
            ops.AveragePoolF32,
            values,
            shape=shape,
            dtype="float32",
            window=window,
            count_padding=count_padding,
        )


def movement(b: KernelBench, dtype: str) -> None:
    """Runs and single elements, from the arena and from flash."""
    b.add(ops.Transpose, b.of(dtype, 2, 3, 4, 5), shape=(3, 5, 2, 4), dtype=dtype, permutation=(1, 3, 0, 2))
    b.add(ops.Transpose, b.of(dtype, 1, 3, 40, 5), shape=(1, 40, 5, 3), dtype=dtype, permutation=(0, 2, 3, 1))
    b.add(ops.Transpose, b.of(dtype, 4, 3, 20), shape=(3, 4, 20), dtype=dtype, permutation=(1, 0, 2))
    b.add(ops.Transpose, b.of(dtype, 1, 1), shape=(1, 1), dtype=dtype, permutation=(1, 0))
    x = b.of(dtype, 1, 3, 4, 5)
    b.add(ops.Pad, x, shape=(1, 6, 4, 6), dtype=dtype, pads=((0, 0), (1, 2), (0, 0), (0, 1)), value=-7.0)
    b.add(ops.Pad, x, shape=(1, 6, 7, 5), dtype=dtype, pads=((0, 0), (1, 2), (3, 0), (0, 0)), value=0.0)
    b.add(ops.Slice, b.of(dtype, 7, 9, 20), shape=(3, 9, 17), dtype=dtype, starts=(1, 0, 3), ends=(7, 9, 20),
          steps=(2, 1, 1))  # fmt: skip
    b.add(ops.Slice, b.of(dtype, 7, 9, 20), shape=(7, 9, 6), dtype=dtype, starts=(0, 0, 3), ends=(7, 9, 20),
          steps=(1, 1, 3))  # fmt: skip
    table = b.int8(256) if dtype == "int8" else None
    parts = (b.of(dtype, 2, 3, 4), b.of(dtype, 2, 5, 4), b.of(dtype, 2, 1, 4))
    b.add(ops.Concat, *parts, shape=(2, 9, 4), dtype=dtype, axis=1, tables=(None, table, None))
    b.add(ops.Concat, *parts[:1], shape=(2, 3, 4), dtype=dtype, axis=-1, tables=(table,))
    fixed, moving = b.of(dtype, 3, 5), b.of(dtype, 3, 5)
    tables = (table, None)
    b.add(ops.Concat, fixed, moving, shape=(6, 5), dtype=dtype, axis=0, tables=tables, constants=(0,))
    b.add(ops.Slice, b.of(dtype, 3, 50), shape=(2, 47), dtype=dtype, starts=(1, 2), ends=(3, 49),
          steps=(1, 1), constants=(0,))  # fmt: skip
    b.add(ops.Slice, b.of(dtype, 5, 20), shape=(2, 20), dtype=dtype, starts=(4, 19), ends=(0, -1),
          steps=(-2, -1))  # fmt: skip
    b.add(ops.Expand, b.of(dtype, 2, 1, 5), shape=(2, 3, 5), dtype=dtype)
    b.add(ops.Expand, b.of(dtype, 1, 3, 1, 40), shape=(2, 3, 2, 40), dtype=dtype)
    x = b.of(dtype, 2, 4, 3, 5)
    b.add(ops.Take, x, shape=(2, 5, 2, 5), dtype=dtype, indices=(None, (0, 3, 3, 1, 0), (2, 2), None))
    b.add(ops.Take, x, shape=(2, 4, 3, 3), dtype=dtype, indices=(None, None, None, (4, 0, 0)))
    b.add(ops.Take, b.of(dtype, 3, 40), shape=(4, 40), dtype=dtype, indices=((2, 0, 0, 1), None))
    border = -inf if dtype == "float32" else 3.0  # -inf: what a max pool pads with
    b.add(ops.Pad, fixed, shape=(4, 6), dtype=dtype, pads=((0, 1), (1, 0)), value=border, constants=(0,))


def movement_int8(b: KernelBench) -> None:
    movement(b, "int8")


def movement_float(b: KernelBench) -> None:
    movement(b, "float32")


def resampling(b: KernelBench) -> None:
    """Two, one and four taps; few channels, many, and blocks that overlap."""
    for size, channels, (rows, columns) in (((4, 5), 3, (2, 2)), ((3, 7), 21, (4, 1)), ((6, 1), 16, (1, 3))):
        out, taps = (5, 4), {}
        for name, n, length, count in (("row", size[0], out[0], rows), ("column", size[1], out[1], columns)):
            taps[f"{name}s"] = b.rng.integers(0, n, (length, count)).astype(np.int32)
            taps[f"{name}_weights"] = b.f32(length, count) / 3
        shape, x = (2, *out, channels), (2, *size, channels)
        b.add(ops.ResampleF32, b.f32(*x), shape=shape, dtype="float32", **taps)
        fixed = {k: np.rint(v * 700).astype(np.int32) if "weights" in k else v for k, v in taps.items()}
        for bounds in ((-128, 127), (-50, 40)):
            q = requantization(2.0**-21, 4, *bounds)
            b.add(ops.ResampleInt8, b.int8(*x), shape=shape, input_zero_point=-5, requantization=q, **fixed)


def products(b: KernelBench) -> None:
    """Matrix products with full, overlapping and single blocks of columns."""
    for m, k, n in ((3, 7, 21), (2, 5, 3), (13, 64, 6)):
        q = requantization(0.0015, 4, *((-50, 50) if n == 6 else ()))
        b.add(
            ops.MatMulInt8, b.int8(2, m, k), b.int8(2, k, n), shape=(2, m, n), zero_points=(3, -128),
            requantization=q,
        )  # fmt: skip


FAMILIES: tuple[Family, ...] = (
    elementwise,
    borders,
    pooling,
    movement_int8,
    movement_float,
    products,
    resampling,
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_equal_the_reference(family: Family, target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def test_instructions_on_cortex_m4(tmp_path: Path) -> None:
    """What makes these kernels worth having; CMSIS-NN takes 413 instructions a channel for the pool."""
    b = KernelBench()
    addition = Addition(multipliers=(2586180, 3565001), shift=22, zero_points=(3, -9), zero_point=-128)
    for _ in range(2):  # two sizes, so that the compiler cannot specialize
        n = 4096 + 96 * len(b.program.ops)
        b.add(ops.AddInt8, b.int8(n), b.int8(n), shape=(n,), addition=addition)
    pool: dict[str, Any] = {"input_zero_point": -5, "count_padding": False, "zero_point": -3}
    b.add(
        ops.AveragePoolInt8, b.int8(1, 8, 8, 64), shape=(1, 1, 1, 64), window=Window(kernel=(8, 8)),
        multipliers={64: 0.011}, **pool,
    )  # fmt: skip
    table = np.exp(-np.arange(256) * 0.1).astype(np.float32)
    b.add(
        ops.SoftmaxInt8, b.int8(1, 100), shape=(1, 100), exp_table=table, inverse_scale=256.0, zero_point=-128
    )
    counts = b.check(TvmBackend(), load_target("cortex-m4"), tmp_path).op_instructions
    assert counts is not None
    assert counts["op0"] / 4096 < 10
    assert counts["op2"] / 64 < 100
    assert counts["op3"] / 100 < 40


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


def test_every_operator_has_a_kernel() -> None:
    declared = {name for name, kind in vars(ops).items() if isinstance(kind, type) and issubclass(kind, Op)}
    assert set(SELECTORS) == declared - {"Op", "Reshape"}  # a Reshape shares its input's memory
