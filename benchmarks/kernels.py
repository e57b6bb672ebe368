"""Instructions of int8 layers, family by family, at the shapes of the product's networks.

    python benchmarks/kernels.py [--target cortex-m4] [--layers pointwise64,conv16] [--schedules]

Each layer is built alone, run on the target's emulator and compared with the reference. ``--schedules`` has a
row for every schedule of the layer instead of the rule's, best first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.schedules import plain_options
from irshrink.console import table
from irshrink.program.ops import AddInt8, Addition, ConvInt8, DenseInt8, Op, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import Target, load_target
from irshrink.tuning.database import Schedule, Schedules

SAME = (1, 1, 1, 1)
RNG = np.random.default_rng(0)
ADDITION = Addition(multipliers=(777_777, 555_555), shift=20, zero_points=(3, -9), zero_point=4)


@dataclass(frozen=True)
class Layer:
    """A layer, and CMSIS-NN's best on the same shape on Cortex-M4 (instructions a MAC, or an output)."""

    program: Callable[[], Program]
    rival: float
    macs: bool = True


def convolution(
    shape: tuple[int, int, int], channels: int, window: Window, residual: bool = False, groups: int = 1
) -> Program:
    """One convolution with random constants."""
    height, width, depth = shape
    output = (1, *window.output(height, width), channels)
    weight = RNG.integers(-127, 128, (channels, *window.kernel, depth // groups)).astype(np.int8)
    op = ConvInt8(
        name="layer", origin=(), inputs=("x", "other") if residual else ("x",), output="y", weight=weight,
        bias=biases(channels), window=window, groups=groups, input_zero_point=-7,
        requantization=requantization(channels, weight[0].size), residual=ADDITION if residual else None,
    )  # fmt: skip
    inputs = {"x": (1, *shape), **({"other": output} if residual else {})}
    return one(op, inputs, output)


def depthwise(size: int, channels: int, stride: int) -> Program:
    """A 3x3 depthwise layer, padded as TensorFlow does."""
    pads = SAME if stride == 1 else (0, 0, 1, 1)
    window = Window(kernel=(3, 3), strides=(stride, stride), pads=pads)
    return convolution((size, size, channels), channels, window, groups=channels)


def dense(depth: int, channels: int) -> Program:
    weight = RNG.integers(-127, 128, (channels, depth)).astype(np.int8)
    op = DenseInt8(
        name="layer", origin=(), inputs=("x",), output="y", weight=weight, bias=biases(channels),
        requantization=requantization(channels, depth),
    )  # fmt: skip
    return one(op, {"x": (1, depth)}, (1, channels))


def addition(shape: tuple[int, ...]) -> Program:
    op = AddInt8(name="layer", origin=(), inputs=("x", "other"), output="y", addition=ADDITION)
    return one(op, {"x": shape, "other": shape}, shape)


def one(op: Op, inputs: dict[str, tuple[int, ...]], output: tuple[int, ...]) -> Program:
    tensors = {name: Tensor(name, shape) for name, shape in {**inputs, "y": output}.items()}
    ports = [Port(name, name, shape) for name, shape in inputs.items()]
    return Program(tensors, [op], ports, [Port("y", "y", output)])


def biases(channels: int) -> Any:
    return RNG.integers(-3000, 3000, channels).astype(np.int32)


def requantization(channels: int, depth: int) -> Requantization:
    scale = np.full(channels, 40 / (74 * 74 * depth**0.5), np.float32)
    return Requantization(multiplier=scale, zero_point=5)


POINT, SQUARE = Window(kernel=(1, 1)), Window(kernel=(3, 3), pads=SAME)
FIRST = Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 4, 1))
LAYERS = {
    "pointwise 8->16": Layer(lambda: convolution((48, 48, 8), 16, POINT), 5.91),
    "pointwise 16->32": Layer(lambda: convolution((24, 24, 16), 32, POINT), 3.60),
    "pointwise 64->64": Layer(lambda: convolution((25, 5, 64), 64, POINT), 2.00),
    "pointwise 256->256": Layer(lambda: convolution((3, 3, 256), 256, POINT), 1.95),
    "conv 3x3 16->16": Layer(lambda: convolution((32, 32, 16), 16, SQUARE), 2.28),
    "conv 3x3 64->64": Layer(lambda: convolution((8, 8, 64), 64, SQUARE), 1.75),
    "conv 3x3 64->64, add": Layer(lambda: convolution((8, 8, 64), 64, SQUARE, residual=True), 1.75),
    "first conv 3x3 3->16": Layer(lambda: convolution((32, 32, 3), 16, SQUARE), 4.50),
    "first conv 10x4 1->64": Layer(lambda: convolution((49, 10, 1), 64, FIRST), 3.32),
    "depthwise 3x3, 48x48x8": Layer(lambda: depthwise(48, 8, 1), 7.0),
    "depthwise 3x3, 6x6x128": Layer(lambda: depthwise(6, 128, 1), 7.0),
    "depthwise 3x3 / 2, 48x48x16": Layer(lambda: depthwise(48, 16, 2), 7.0),
    "dense 640->128": Layer(lambda: dense(640, 128), 1.95),
    "dense 128->128": Layer(lambda: dense(128, 128), 2.23),
    "add 16x16x32, an output": Layer(lambda: addition((1, 16, 16, 32)), 55, macs=False),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--layers", default="", help="names that contain one of these")
    parser.add_argument("--schedules", action="store_true", help="every schedule of each layer")
    options = parser.parse_args()
    target = load_target(options.target)
    wanted = [name for name in LAYERS if any(part in name for part in options.layers.split(","))]
    rows: list[tuple[str, ...]] = []
    for name in wanted:
        rows += [row(name, LAYERS[name], target, *found) for found in measured(LAYERS[name], target, options)]
    print(table(rows, ("layer", "kernel or schedule", "instructions", "a MAC", "CMSIS-NN", "code", "arena")))


def measured(layer: Layer, target: Target, options: argparse.Namespace) -> list[tuple[str, int, int, int]]:
    """Name, instructions, code and arena of one build, or of one for each schedule."""
    program = layer.program()
    if not options.schedules:
        return [build(program, target, None)]
    found = []
    for schedule in plain_options(program.ops[0], program, target):
        found.append(build(program, target, schedule))
    return sorted(found, key=lambda one: one[1])


def build(program: Program, target: Target, schedule: Schedule | None) -> tuple[str, int, int, int]:
    """One build, its answer compared with the reference."""
    backend = TvmBackend(None if schedule is None else Schedules(given={"layer": schedule}))
    x = [RNG.integers(-128, 128, port.shape).astype(np.int8) for port in program.inputs]
    expected = run_program(program, x)
    with tempfile.TemporaryDirectory() as folder:
        artifact = backend.compile(program, target, Path(folder), [Inference(x, expected)], "layer")
        result = backend.run(Path(folder), target, program, [x])
    np.testing.assert_array_equal(result.outputs[0][0], expected[0])
    name = artifact.costs[0].kernel
    if schedule is not None:
        name = ", ".join(f"{key} {value}" for key, value in schedule.items())
    return name, sum(result.op_instructions.values()), artifact.code_bytes, artifact.plan.nbytes


def row(
    name: str, layer: Layer, target: Target, kernel: str, count: int, code: int, arena: int
) -> tuple[str, ...]:
    program = layer.program()
    (op,) = program.ops
    per = program.tensors[op.output].elements
    if isinstance(op, ConvInt8 | DenseInt8):
        per *= op.weight[0].size
    rival = f"{layer.rival:.2f}" if target.name == "cortex-m4" else "-"
    return (name, kernel, f"{count:,}", f"{count / per:.2f}", rival, f"{code:,}", f"{arena:,}")


if __name__ == "__main__":
    main()
