"""Weights in fewer bits: packed in flash, the same bytes as the reference with the weights they stand for."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import kernel_for
from irshrink.program import ops
from irshrink.program.ops import StoredWeights, Window
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench

#: Makes a stored form of weights of a shape, output channels first.
Make = Callable[[KernelBench, tuple[int, ...]], StoredWeights]


def codes(bits: int, *, zero: bool = False, block: int = 0) -> Make:
    def make(b: KernelBench, shape: tuple[int, ...]) -> StoredWeights:
        half, blocks = 1 << (bits - 1), block if block and shape[-1] > block else 0
        scales = (*shape[:-1], -(-shape[-1] // blocks)) if blocks else shape[:1]
        return ops.WeightCodes(
            integers=b.rng.integers(-half, half, shape).astype(np.int8),
            scale=np.abs(b.f32(*scales)) / np.float32(half),
            zero_point=b.rng.integers(-half, half, scales).astype(np.int8) if zero else None,
            bits=bits,
            block=blocks,
        )

    return make


def levels(bits: int, *, tables: bool = False) -> Make:
    def make(b: KernelBench, shape: tuple[int, ...]) -> StoredWeights:
        return ops.WeightLevels(
            indices=b.rng.integers(0, 1 << bits, shape).astype(np.uint8),
            levels=b.f32(*((shape[0],) if tables else ()), 1 << bits),
            bits=bits,
        )

    return make


def float16(b: KernelBench, shape: tuple[int, ...]) -> StoredWeights:
    """Any finite bits, subnormal and largest ones among them."""
    halves = b.rng.integers(0, 1 << 16, shape).astype(np.uint16)
    halves[(halves & 0x7C00) == 0x7C00] = 0x03FF
    return ops.WeightHalves(halves=halves, element="float16")


def bfloat16(b: KernelBench, shape: tuple[int, ...]) -> StoredWeights:
    return ops.WeightHalves(
        halves=b.f32(*shape).astype(ml_dtypes.bfloat16).view(np.uint16), element="bfloat16"
    )


FORMS: dict[str, Make] = {
    "w8": codes(8),
    "w8-zero": codes(8, zero=True),
    "w4": codes(4),
    "w4-blocks": codes(4, block=16),
    "w4-zero-blocks": codes(4, zero=True, block=16),
    "w2": codes(2),
    "w2-zero": codes(2, zero=True),
    "k8": levels(8),
    "k4": levels(4),
    "k4-tables": levels(4, tables=True),
    "k2": levels(2),
    "k2-tables": levels(2, tables=True),
    "float16": float16,
    "bfloat16": bfloat16,
}


def layers(b: KernelBench, make: Make) -> None:
    """Full and overlapping blocks of channels, a last block of inputs that is shorter, groups, a table."""
    for ci, co, groups in ((20, 21, 1), (6, 18, 6), (4, 2, 2)):
        window = Window(kernel=(3, 2), strides=(1, 2), pads=(1, 0, 1, 1))
        stored = make(b, (co, 3, 2, ci // groups))
        weights: dict[str, Any] = {"weight": stored.real(), "codes": stored, "bias": b.f32(co)}
        b.add(
            ops.ConvF32, b.f32(1, 5, 6, ci), shape=(1, *window.output(5, 6), co), dtype="float32",
            window=window, groups=groups, low=0.0, high=inf, **weights,
        )  # fmt: skip
    table = make(b, (9, 36))
    picked = np.array([3, -1, 8, 200, 0], np.int32)
    b.add(ops.GatherRows, picked, shape=(5, 36), dtype="float32", table=table.real(), codes=table)


def test_kernels_equal_the_reference(tmp_path: Path) -> None:
    bench = KernelBench()
    for form in ("w4-zero-blocks", "w2", "k2-tables", "float16"):
        layers(bench, FORMS[form])
    bench.check(TvmBackend(), load_target("host"), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_every_form_equals_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for make in FORMS.values():
        layers(bench, make)
    bench.check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.parametrize(
    ("form", "bits"), [("w4", 4), ("w4-blocks", 4), ("w2", 2), ("k4", 4), ("k2", 2), ("float16", 16)]
)
@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_weights_are_packed(form: str, bits: int, target: str) -> None:
    """What lies in flash is as large as the file's form, blocks of channels filled up."""
    bench = KernelBench()
    stored = FORMS[form](bench, (64, 128))
    bench.add(
        ops.DenseF32, bench.f32(2, 128), shape=(2, 64), dtype="float32", weight=stored.real(), codes=stored,
        bias=bench.f32(64), low=-inf, high=inf,
    )  # fmt: skip
    call = kernel_for(bench.program.ops[0], bench.program, load_target(target))
    (weight,) = (c.array for c in call.constants() if c.role == "weight")
    assert weight.nbytes == 64 * 128 * bits // 8
