"""Kernels of float16, against the NumPy reference: on this machine by float32, in QEMU by instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program import ops
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import Target, load_target, with_threads
from irshrink.testing.kernels import EXTREMES, KernelBench

Array = np.ndarray[Any, np.dtype[Any]]


def target_of(name: str) -> Target:
    """A target that computes float16, by other means where it has no instructions for it."""
    target = load_target(name)
    return msgspec.structs.replace(target, features=target.features | {"fp16"})


def halves(b: KernelBench, *shape: int) -> Array:
    """Normal values, and some zeros, subnormal and large ones."""
    x = b.rng.standard_normal(shape).astype(np.float16)
    for value in (0.0, -0.0, 3e-7, -6e-5, 300.0):
        x[b.rng.random(shape) < 0.03] = value
    return x


def layer(
    b: KernelBench, kind: type[ops.Op], x: Array, shape: tuple[int, ...], weight: Array, **more: Any
) -> None:
    bias = b.rng.standard_normal(len(weight)).astype(np.float16)
    bounds = {"low": float("-inf"), "high": float("inf"), **more}
    b.add(kind, x, shape=shape, dtype="float16", weight=weight, bias=bias, **bounds)


def convolutions(b: KernelBench) -> None:
    cases: list[tuple[tuple[int, int, int, int], int, int, dict[str, Any]]] = [
        ((1, 5, 9, 3), 16, 1, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
        ((1, 6, 7, 16), 24, 1, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
        ((1, 4, 4, 200), 20, 1, {"kernel": (1, 1)}),
        ((2, 4, 4, 8), 16, 1, {"kernel": (1, 1)}),
        ((1, 1, 1, 7), 3, 1, {"kernel": (1, 1)}),
        ((1, 3, 4, 9), 5, 1, {"kernel": (1, 1)}),
        ((1, 6, 5, 6), 6, 6, {"kernel": (3, 3), "pads": (1, 1, 0, 1), "strides": (2, 2)}),
        ((1, 6, 5, 21), 21, 21, {"kernel": (3, 2), "pads": (0, 1, 0, 1), "dilations": (2, 1)}),
        ((1, 7, 15, 24), 24, 24, {"kernel": (5, 5), "pads": (2, 2, 2, 2)}),
        ((1, 14, 13, 9), 9, 9, {"kernel": (13, 12)}),
        ((1, 5, 5, 6), 9, 3, {"kernel": (2, 2), "pads": (0, 0, 1, 1)}),
        ((1, 5, 12, 16), 16, 1, {"kernel": (3, 4), "pads": (1, 3, 1, 3), "dilations": (1, 2)}),
        ((1, 1, 4, 300), 16, 2, {"kernel": (1, 2), "pads": (0, 0, 0, 1)}),
        ((1, 12, 5, 12), 8, 1, {"kernel": (9, 2), "pads": (1, 0, 1, 1)}),
    ]  # fmt: skip
    for number, (shape, channels, groups, window) in enumerate(cases):
        frame = ops.Window(**window)
        weight = halves(b, channels, *frame.kernel, shape[3] // groups) * np.float16(0.25)
        height, width = frame.output(shape[1], shape[2])
        bounds = [{}, {"low": 0.0}, {"low": 0.0, "high": 6.0}][number % 3]
        layer(
            b, ops.ConvF16, halves(b, *shape), (shape[0], height, width, channels), weight,
            window=frame, groups=groups, **bounds,
        )  # fmt: skip


def dense(b: KernelBench) -> None:
    for rows, features, channels in (
        (1, 33, 10),
        (5, 8, 4),
        (3, 17, 18),
        (1, 640, 128),
        (1, 130, 2),
        (9, 257, 33),
    ):
        weight = halves(b, channels, features) * np.float16(0.25)
        layer(b, ops.DenseF16, halves(b, rows, features), (rows, channels), weight)
    for rows, depth, columns in ((3, 5, 2), (4, 64, 20), (2, 128, 16), (3, 300, 7)):
        a, c = halves(b, 2, rows, depth), halves(b, 2, depth, columns)
        b.add(ops.MatMulF16, a, c, shape=(2, rows, columns), dtype="float16")
    huge = np.full((2, 40), 30000, np.float16)
    layer(b, ops.DenseF16, huge, (2, 8), np.ones((8, 40), np.float16) * np.float16(2.5))


def elementwise(b: KernelBench) -> None:
    with np.errstate(over="ignore"):
        extremes = np.concatenate([EXTREMES, [65504, 6e-8, -6e-8, 1e-7]]).astype(np.float16)
    a, c = (np.ascontiguousarray(x) for x in np.broadcast_arrays(extremes[:, None], extremes[None]))
    for kind in ("add", "sub", "mul", "div", "min", "max", "prelu"):
        b.add(ops.BinaryF16, a, c, shape=a.shape, dtype="float16", kind=kind)
        b.add(
            ops.BinaryF16, halves(b, 2, 3, 19), shape=(2, 3, 19), dtype="float16", kind=kind,
            constant=halves(b, 19), constant_first=kind == "sub",
        )  # fmt: skip
    for kind, alpha, beta in (
        ("clip", 0.0, 6.0), ("clip", 0.0, float("inf")), ("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0),
        ("hardswish", 0.0, 0.0), ("leakyrelu", 0.1, 0.0), ("gelu", 0.0, 0.0),
        ("exp", 0.0, 0.0), ("sqrt", 0.0, 0.0), ("hardsigmoid", 0.2, 0.5), ("elu", 1.5, 0.0),
    ):  # fmt: skip
        b.add(
            ops.UnaryF16, extremes, shape=extremes.shape, dtype="float16", kind=kind, alpha=alpha, beta=beta
        )
        b.add(ops.UnaryF16, halves(b, 70), shape=(70,), dtype="float16", kind=kind, alpha=alpha, beta=beta)


def pools(b: KernelBench) -> None:
    frame = ops.Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    shape = (1, *frame.output(5, 6), 18)
    b.add(ops.MaxPool, halves(b, 1, 5, 6, 18), shape=shape, dtype="float16", window=frame)
    for padding in (False, True):
        b.add(
            ops.AveragePoolF16, halves(b, 1, 5, 6, 18), shape=shape, dtype="float16", window=frame,
            count_padding=padding,
        )  # fmt: skip
    for kind in ("mean", "max", "sum", "sumsquare"):
        b.add(ops.ReduceF16, halves(b, 2, 5, 6), shape=(2, 1, 6), dtype="float16", kind=kind, axes=(1,))


def borders(b: KernelBench) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    b.add(ops.WidenF16, bits, shape=bits.shape, dtype="float32")
    with np.errstate(invalid="ignore"):
        real = bits[~np.isnan(bits)].astype(np.float32)
        near = np.concatenate([real, np.nextafter(real, np.float32(9)), (real[1:] + real[:-1]) / 2, EXTREMES])
    b.add(ops.RoundF16, near, shape=near.shape, dtype="float16")
    moved = halves(b, 2, 3, 4)
    b.add(ops.Transpose, moved, shape=(4, 2, 3), dtype="float16", permutation=(2, 0, 1))
    b.add(ops.Pad, moved, shape=(2, 5, 4), dtype="float16", pads=((0, 0), (1, 1), (0, 0)), value=1.5)
    for constants in ((), (1,)):
        b.add(
            ops.Concat, moved, moved, shape=(2, 3, 8), dtype="float16", constants=constants,
            axis=2, tables=(None, None),
        )  # fmt: skip


def test_tiles_of_2x2(tmp_path: Path) -> None:
    bench = KernelBench()
    for (height, width, ci, co), pads in (
        ((8, 8, 16, 16), (1, 1, 1, 1)),
        ((9, 7, 8, 24), (1, 0, 1, 1)),
        ((6, 11, 5, 4), (0, 0, 0, 0)),
        ((4, 4, 128, 12), (1, 1, 1, 1)),
    ):
        frame = ops.Window(kernel=(3, 3), pads=pads)
        weight = halves(bench, co, 3, 3, ci) * np.float16(0.1)
        x = bench.rng.standard_normal((1, height, width, ci)).astype(np.float16)
        layer(
            bench, ops.ConvF16, x, (1, *frame.output(height, width), co), weight,
            window=frame, groups=1, winograd=True, low=0.0,
        )  # fmt: skip
    bench.check(TvmBackend(), target_of("neoverse-n1"), tmp_path)


@pytest.mark.parametrize("target", ["host", "neoverse-n1"])
def test_every_byte_is_the_reference_s(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in (convolutions, dense, elementwise, pools, borders):
        family(bench)
    team = with_threads(target_of(target), 2 if target == "host" else 1)
    bench.check(TvmBackend(), team, tmp_path, threads=(1, 2) if target == "host" else (1,))


@pytest.mark.parametrize("target", ["host", "neoverse-n1"])
def test_conversions_overlap_what_they_read(target: str, tmp_path: Path) -> None:
    n = 4 * 27  # as much as a register block holds, and some more
    tensors = {
        "x": Tensor("x", (n,), "float32"),
        "a": Tensor("a", (n,), "float16"),
        "b": Tensor("b", (n,), "float16"),
        "y": Tensor("y", (n,), "float32"),
    }
    chain: list[ops.Op] = [
        ops.RoundF16(name="round", origin=(), inputs=("x",), output="a"),
        ops.UnaryF16(name="clip", origin=(), inputs=("a",), output="b", kind="clip", alpha=-1.0, beta=1.0),
        ops.WidenF16(name="widen", origin=(), inputs=("b",), output="y"),
    ]
    program = Program(tensors, chain, [Port("x", "x", (n,))], [Port("y", "y", (n,))])
    x = [np.linspace(-1.5, 1.5, n, dtype=np.float32)]
    wanted, where = run_program(program, x), target_of(target)
    built = TvmBackend().compile(program, where, tmp_path, [Inference(x, wanted)], "chain")
    assert built.plan.nbytes == 4 * n
    [got] = TvmBackend().run(tmp_path, where, built.program, [x]).outputs
    np.testing.assert_array_equal(got[0], wanted[0])
