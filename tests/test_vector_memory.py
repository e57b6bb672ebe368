"""Outputs of vector kernels over their inputs: chains of layers, planned as for a real model."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend, plan_program
from irshrink.program.ops import ConvF32, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import load_target
from irshrink.testing.chains import Chains

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="QEMU is not installed: apt-get install qemu-user"
)
TARGETS = ["host", pytest.param("aarch64-linux-i8mm", marks=needs_qemu)]
SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


def int8_chain(seed: int, layers: int = 10) -> Chains:
    """Convolutions of all kinds, one after the other, so that each pair decides the arena of its moment."""
    made = Chains(seed)
    rng, residual = made.rng, None
    x = made.source(14, 12, 16)
    for _ in range(layers):
        _, height, _, ci = made.program.tensors[x].shape
        co, kind, before = int(rng.choice([8, 16, 20, 24, 48])), int(rng.integers(0, 6)), x
        if kind == 0:
            x = made.conv(x, ci, SAME, groups=ci)
        elif kind == 1:
            x = made.conv(x, co, Window(kernel=(1, 1)))
        elif kind == 2 and height > 4:
            x = made.conv(x, co, Window(kernel=(2, 3), strides=(int(rng.integers(1, 3)), 1)))
        elif kind == 3 and residual is not None:
            x = made.conv(x, ci, Window(kernel=(1, 1)), residual=residual)
        else:
            x = made.conv(x, ci if kind == 4 else co, SAME, groups=2 if ci % 16 == 0 and kind == 5 else 1)
        same = made.program.tensors[before].shape == made.program.tensors[x].shape
        residual = before if same and residual is None else None
    made.sink(x)
    return made


def float_chain(seed: int, layers: int = 9) -> tuple[Program, list[Any]]:
    """Pointwise, general and depthwise layers, tiles of 2x2 and transforms, one after the other."""
    rng, shape = np.random.default_rng(seed), (1, 11, 24, 16)
    program = Program({"t0": Tensor("t0", shape, "float32")}, [], [Port("t0", "t0", shape, "float32")], [])
    x = rng.standard_normal(shape).astype(np.float32)
    for number in range(layers):
        (_, height, width, ci), kind = shape, int(rng.integers(0, 6))
        co = ci if kind == 0 else int(rng.choice([8, 16, 24, 32, 48]))
        window = Window(kernel=(1, 1)) if kind == 1 else SAME
        if kind == 2:
            window = Window(kernel=(2, 3), strides=(int(rng.integers(1, 3)), 1))
        if kind == 3:
            window = Window(kernel=(2, 5), pads=(0, 2, 1, 2))
        if min(window.output(height, width)) < 2:
            window = SAME
        shape, name = (1, *window.output(height, width), co), f"t{number + 1}"
        program.tensors[name] = Tensor(name, shape, "float32")
        groups = ci if kind == 0 else 1
        op = ConvF32(
            name=f"op{number}", origin=(), inputs=(f"t{number}",), output=name, groups=groups,
            weight=(rng.standard_normal((co, *window.kernel, ci // groups)) / 4).astype(np.float32),
            bias=rng.standard_normal(co).astype(np.float32), window=window, low=-inf, high=inf,
            fused=True, winograd=kind == 4, fourier=32 if kind == 3 and window != SAME else 0,
        )  # fmt: skip
        program.ops.append(op)
    program.outputs.append(Port(name, name, shape, "float32"))
    return program, [x]


def check(program: Program, values: list[Any], target: str, folder: Path) -> None:
    backend, wanted = TvmBackend(), run_program(program, values)
    built = backend.compile(program, load_target(target), folder, [Inference(values, wanted)], "chains")
    result = backend.run(folder, load_target(target), built.program, [values])
    for port, got, want in zip(program.outputs, result.outputs[0], wanted, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=port.name)


@pytest.mark.parametrize("target", TARGETS)
def test_int8_layers_change_no_byte(target: str, tmp_path: Path) -> None:
    made = int8_chain(1)
    check(made.program, made.values, target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_float_layers_change_no_bit(target: str, tmp_path: Path) -> None:
    check(*float_chain(2), target, tmp_path)


def test_an_arena_is_smaller_than_two_tensors() -> None:
    made, target = Chains(3), load_target("aarch64-linux")
    x = made.conv(made.source(32, 32, 16), 16, SAME)
    made.sink(made.conv(x, 16, SAME))
    plan = plan_program(made.program, target).plan
    rows = 3 * 34 * 16 + 16
    assert plan.nbytes < 32 * 32 * 16 + rows + 2048
