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
        b.add(
            ops.RecurrentF32, b.f32(4, 2, rows), *(b.f32(1, 2, size) for _ in range(states)),
            shape=(4 + states, 2, size), dtype="float32", cell=cell, recurrent=weights, **given,
        )  # fmt: skip


@pytest.mark.parametrize("target", ["host", "cortex-m3", "cortex-m4"])
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    layers(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)
