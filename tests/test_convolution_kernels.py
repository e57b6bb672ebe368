"""int8 convolution, depthwise and dense kernels against the NumPy reference, on the host and emulated.

Layers are drawn at random, several to a program, because building costs more than running.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.backend import Inference
from irshrink.backends.toolchain import zig
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.program.ops import Addition, ConvInt8, DenseInt8, Op, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import load_target

TARGETS = ("host", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


class Layers:
    """A program of independent layers with random constants."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []

    def program(self) -> Program:
        return Program(self.tensors, self.ops, self.inputs, self.outputs)

    def conv(
        self, height: int, width: int, channels: tuple[int, int], window: Window, groups: int = 1,
        residual: bool = False, ties: bool = False, images: int = 1,
    ) -> None:  # fmt: skip
        rng, (ci, co) = self.rng, channels
        x = self._tensor("x", (images, height, width, ci), self.inputs)
        y = self._tensor("y", (images, *window.output(height, width), co), self.outputs)
        inputs = (x.name,)
        addition = None
        if residual:
            inputs += (self._tensor("r", y.shape, self.inputs).name,)
            ma, mb = (int(m) for m in rng.integers(1 << 18, 1 << 21, 2))
            addition = Addition(
                multipliers=(ma, -mb if rng.random() < 0.3 else mb), shift=20, zero_points=(3, -9),
                zero_point=int(rng.integers(-20, 20)), low=int(rng.choice([-128, -60])),
            )  # fmt: skip
        depth = window.kernel[0] * window.kernel[1] * ci // groups
        weight = rng.integers(-127, 128, (co, *window.kernel, ci // groups)).astype(np.int8)
        weight[0] = 127
        self.ops.append(
            ConvInt8(
                name=f"conv{len(self.ops)}", origin=(), inputs=inputs, output=y.name, weight=weight,
                bias=rng.integers(-5000, 5000, co).astype(np.int32), window=window, groups=groups,
                input_zero_point=int(rng.integers(-128, 128)),
                requantization=self._requantization(co, depth, ties), residual=addition,
            )
        )  # fmt: skip

    def dense(self, rows: int, depth: int, channels: int) -> None:
        x = self._tensor("x", (rows, depth), self.inputs)
        y = self._tensor("y", (rows, channels), self.outputs)
        self.ops.append(
            DenseInt8(
                name=f"dense{len(self.ops)}", origin=(), inputs=(x.name,), output=y.name,
                weight=self.rng.integers(-127, 128, (channels, depth)).astype(np.int8),
                bias=self.rng.integers(-5000, 5000, channels).astype(np.int32),
                requantization=self._requantization(channels, depth, False),
            )
        )  # fmt: skip

    def _tensor(self, role: str, shape: tuple[int, ...], ports: list[Port]) -> Tensor:
        tensor = Tensor(f"{role}{len(self.ops)}", shape)
        self.tensors[tensor.name] = tensor
        ports.append(Port(tensor.name, tensor.name, shape))
        return tensor

    def _requantization(self, channels: int, depth: int, ties: bool) -> Requantization:
        spread = self.rng.uniform(0.3, 3, channels) * 40 / (74 * 74 * depth**0.5)
        multiplier = np.full(channels, 2.0**-9) if ties else spread
        return Requantization(
            multiplier=multiplier.astype(np.float32),
            zero_point=int(self.rng.integers(-128, 128)),
            low=int(self.rng.choice([-128, -100])),
            high=int(self.rng.choice([127, 90])),
        )


def chosen_layers() -> Program:
    """The geometries that have a code path of their own."""
    layers = Layers(7)
    same = (1, 1, 1, 1)
    layers.conv(6, 5, (16, 8), Window(kernel=(1, 1)))
    layers.conv(5, 5, (3, 7), Window(kernel=(1, 1)))
    layers.conv(7, 6, (8, 6), Window(kernel=(1, 1), strides=(2, 2)))
    layers.conv(8, 8, (16, 16), Window(kernel=(3, 3), pads=same), residual=True)
    layers.conv(9, 7, (5, 7), Window(kernel=(3, 2), pads=(1, 0, 1, 1)), residual=True)
    layers.conv(12, 12, (3, 8), Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)))
    layers.conv(13, 6, (1, 12), Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)))
    layers.conv(9, 9, (6, 8), Window(kernel=(3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)))
    layers.conv(9, 9, (8, 12), Window(kernel=(3, 3), strides=(2, 2), pads=same), groups=4)
    layers.conv(8, 8, (8, 4), Window(kernel=(5, 5)), ties=True)
    layers.conv(1, 30, (4, 5), Window(kernel=(1, 7), pads=(0, 3, 0, 3), strides=(1, 2)))
    layers.conv(4, 4, (4, 1), Window(kernel=(2, 2)))
    layers.conv(9, 7, (8, 8), Window(kernel=(3, 3), pads=same), groups=8)
    layers.conv(9, 7, (6, 6), Window(kernel=(3, 3), pads=same, strides=(2, 2)), groups=6)
    layers.conv(9, 9, (16, 16), Window(kernel=(5, 5), pads=(4, 4, 4, 4), dilations=(2, 2)), groups=16)
    layers.conv(9, 7, (3, 6), Window(kernel=(3, 3)), groups=3)
    layers.conv(6, 6, (2, 2), Window(kernel=(3, 3), pads=same), groups=2, residual=True)
    layers.conv(6, 6, (20, 20), Window(kernel=(3, 3), pads=same), groups=20, residual=True)
    layers.conv(3, 40, (4, 4), Window(kernel=(1, 9), pads=(0, 4, 0, 4)), groups=4)
    layers.conv(5, 5, (3, 7), Window(kernel=(1, 1)), images=3, residual=True)
    layers.conv(5, 5, (4, 4), Window(kernel=(1, 1), strides=(2, 2)), images=2)
    layers.conv(5, 5, (4, 6), Window(kernel=(3, 3), pads=same), groups=2, images=3, residual=True)
    layers.conv(5, 5, (6, 6), Window(kernel=(3, 3), pads=same), groups=6, images=3, residual=True)
    layers.conv(7, 7, (8, 8), Window(kernel=(3, 3), strides=(2, 2)), groups=8, images=2)
    layers.dense(1, 640, 128)
    layers.dense(1, 33, 10)
    layers.dense(3, 16, 5)
    layers.dense(1, 7, 1)
    return layers.program()


def random_layers(seed: int, count: int = 14) -> Program:
    """Layers nobody thought of."""
    layers = Layers(seed)
    rng = np.random.default_rng([seed, 1])
    while len(layers.ops) < count:
        kernel, strides, dilations = ((int(a), int(b)) for a, b in rng.integers(1, [[5], [4], [3]], (3, 2)))
        top, left, bottom, right = (int(p) for p in rng.integers(0, 4, 4))
        window = Window(kernel=kernel, strides=strides, pads=(top, left, bottom, right), dilations=dilations)
        height, width = (int(n) for n in rng.integers(1, 12, 2))
        if min(window.output(height, width)) < 1:
            continue
        groups = int(rng.choice([1, 1, 2, 3, 8]))
        per_group, multiplier = (int(n) for n in rng.integers(1, 6, 2))
        if rng.random() < 0.4:
            per_group = 1
        channels = (groups * per_group, groups * multiplier)
        layers.conv(
            height,
            width,
            channels,
            window,
            groups,
            residual=rng.random() < 0.3,
            images=int(rng.choice([1, 1, 2])),
        )
    return layers.program()


def inputs_of(program: Program, seed: int) -> list[NDArray[np.int8]]:
    """Random values with both ends of the range among them."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(-128, 128, port.shape).astype(np.int8) for port in program.inputs]
    for value in values[::3]:
        value[rng.random(value.shape) < 0.3] = -128
    return values


def check(program: Program, target: str, folder: Path) -> None:
    inputs = [inputs_of(program, seed) for seed in range(2)]
    wanted = [run_program(program, x) for x in inputs]
    backend = TvmBackend()
    vectors = [Inference(x, y) for x, y in zip(inputs, wanted, strict=True)]
    backend.compile(program, load_target(target), folder, vectors, "layers")
    result = backend.run(folder, load_target(target), program, inputs)
    for got, want in zip(result.outputs, wanted, strict=True):
        for port, a, b in zip(program.outputs, got, want, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{target}: {port.name}")


@pytest.mark.parametrize("target", TARGETS)
def test_every_geometry(target: str, tmp_path: Path) -> None:
    check(chosen_layers(), target, tmp_path)


@pytest.mark.parametrize("target", ["host", "cortex-m3", "cortex-m4"])
@pytest.mark.parametrize("seed", range(3))
def test_random_layers(target: str, seed: int, tmp_path: Path) -> None:
    check(random_layers(seed), target, tmp_path)


@pytest.mark.parametrize("target", ["host", "cortex-m3", "cortex-m4"])
def test_the_generated_c_has_no_warnings(target: str, tmp_path: Path) -> None:
    program, folder = chosen_layers(), tmp_path / "build"
    x = inputs_of(program, 0)
    vectors = [Inference(x, run_program(program, x))]
    TvmBackend().compile(program, load_target(target), folder, vectors, "layers")
    flags = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    zig.compile_objects([folder / "src" / "model.c"], load_target(target), tmp_path, flags=flags)
