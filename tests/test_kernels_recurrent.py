"""Recurrent kernels against the NumPy reference."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program import ops
from irshrink.program.ops import Activation, ActivationKind
from irshrink.program.ops.recurrent import GATES, STATES
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench


def activations(*kinds: ActivationKind) -> tuple[Activation, ...]:
    return tuple(Activation(kind=kind, alpha=0.25, beta=0.75) for kind in kinds)


CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("lstm", 18, {"activations": activations("sigmoid", "tanh", "tanh")}),
    (
        "lstm",
        5,
        {"activations": activations("hardsigmoid", "relu", "affine"), "peephole": True, "limit": 0.5},
    ),
    ("lstm", 3, {"activations": activations("sigmoid", "elu", "scaledtanh"), "input_forget": True}),
    ("gru", 18, {"activations": activations("sigmoid", "tanh")}),
    ("gru", 5, {"activations": activations("sigmoid", "leakyrelu"), "linear_before_reset": True}),
    ("rnn", 18, {"activations": activations("tanh"), "reverse": True}),
    ("rnn", 4, {"activations": activations("thresholdedrelu"), "limit": 2.0}),
    ("lstm", 18, {"activations": activations("sigmoid", "tanh", "tanh"), "codes": True}),
    ("gru", 5, {"activations": activations("sigmoid", "tanh"), "codes": True}),
]


def layers(b: KernelBench) -> None:
    for cell, size, fields in CASES:
        given = {"limit": inf, **fields}
        if fields.get("peephole"):
            given["peephole"] = b.f32(3 * size)
        if fields.get("linear_before_reset"):
            given["recurrent_bias"] = b.f32(size)
        rows, states = GATES[cell] * size, STATES[cell]
        weights = b.f32(rows, size) / np.float32(size)
        if fields.get("codes"):
            codes = ops.WeightCodes(integers=b.int8(rows, size), scale=np.abs(b.f32(rows)) / np.float32(100))
            weights, given["codes"] = codes.integers.astype(np.float32) * codes.scale[:, None], codes
        b.add(
            ops.RecurrentF32, b.f32(4, 2, rows), *(b.f32(1, 2, size) for _ in range(states)),
            shape=(4 + states, 2, size), dtype="float32", cell=cell, recurrent=weights, **given,
        )  # fmt: skip


@pytest.mark.parametrize("target", ["host", "cortex-m3", "cortex-m4"])
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    layers(bench)
    stored_in_int8(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def stored_in_int8(b: KernelBench) -> None:
    """float32 layers whose weights are int8 in flash: the numbers are those of float weights."""
    for shape, groups, channels in (((20, 3, 3, 3), 1, 3), ((5, 3, 2, 1), 5, 5), ((6, 1, 1, 2), 2, 4)):
        window = ops.Window(kernel=(shape[1], shape[2]), pads=(1, 0, 0, 1))
        b.add(
            ops.ConvF32, b.f32(1, 5, 6, channels), shape=(1, *window.output(5, 6), shape[0]), dtype="float32",
            bias=b.f32(shape[0]), window=window, groups=groups, low=0.0, high=inf, **coded(b, shape),
        )  # fmt: skip
    b.add(
        ops.DenseF32, b.f32(7, 20), shape=(7, 21), dtype="float32", bias=b.f32(21), low=-inf, high=inf,
        **coded(b, (21, 20)),
    )  # fmt: skip


def coded(b: KernelBench, shape: tuple[int, ...]) -> dict[str, Any]:
    scale = np.abs(b.f32(shape[0])) / np.float32(100)
    integers = b.int8(*shape)
    weight = integers.astype(np.float32) * scale.reshape(-1, *(1,) * (len(shape) - 1))
    return {"weight": weight, "codes": ops.WeightCodes(integers=integers, scale=scale)}
