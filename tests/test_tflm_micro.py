"""``--requantize tflm`` against TensorFlow Lite Micro itself: random operators, every byte."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.frontends.read import read_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.reference import run_program
from irshrink.target import load_target
from irshrink.testing.tflite import TfliteWriter
from irshrink.verify import verify_structure

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="needs TFLite Micro: pip install tflite-micro"
)

_GRAPHS, _RUNS = 4, 2
_SAME = 0  # padding

Shape = tuple[int, ...]


@dataclass
class Draw:
    """A graph of one operator under construction."""

    rng: np.random.Generator
    writer: TfliteWriter = field(default_factory=TfliteWriter)
    shapes: list[Shape] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def number(self, low: float, high: float) -> float:
        """Its logarithm is uniform."""
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def quantization(self) -> dict[str, Any]:
        return {"scale": self.number(0.006, 1.6), "zero_point": self.whole(-128, 127)}

    def activation(self) -> int:
        """None, Relu, Relu to 1 or Relu6."""
        return int(self.rng.choice([0, 1, 2, 3]))

    def image(self) -> Shape:
        return (1, self.whole(1, 6), self.whole(1, 6), self.whole(1, 8))

    def input(self, shape: Shape, **quantization: Any) -> int:
        self.shapes.append(shape)
        index = self.writer.tensor(
            f"x{len(self.inputs)}", shape, "int8", **(quantization or self.quantization())
        )
        self.inputs.append(index)
        return index

    def output(self, shape: Shape, **quantization: Any) -> int:
        return self.writer.tensor("y", shape, "int8", **(quantization or self.quantization()))

    def weights(self, shape: Shape, channels: int, axis: int, x_scale: float) -> tuple[int, int]:
        """Weights with a scale per channel (one in all for a negative axis) and biases."""
        scale = np.array([self.number(0.002, 0.1) for _ in range(channels if axis >= 0 else 1)], np.float32)
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        weight = self.writer.constant("w", codes, scale=scale, axis=max(axis, 0))
        bias = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        return weight, self.writer.constant("b", bias, scale=scale * np.float32(x_scale))


def binary(kind: str) -> Callable[[Draw], int]:
    def make(d: Draw) -> int:
        shape = d.image()
        other = shape if d.whole(0, 1) else (1, 1, 1, shape[3])
        inputs, y = [d.input(shape), d.input(other)], d.output(shape)
        options = f"{kind.capitalize()}Options"
        d.writer.operator(kind, inputs, [y], options, FusedActivationFunction=d.activation())
        return y

    return make


def table(kind: str, options: str = "", **output: Any) -> Callable[[Draw], int]:
    """All 256 values."""

    def make(d: Draw) -> int:
        given = d.quantization()
        x = d.input((1, 256), **given)
        y = d.output((1, 256), **(given if kind == "RELU6" else output))
        d.writer.operator(kind, [x], [y], options, **({"Alpha": d.number(0.01, 0.9)} if options else {}))
        return y

    return make


def softmax(d: Draw) -> int:
    shape = (2, d.whole(1, 40))
    x, y = d.input(shape), d.output(shape, scale=1 / 256, zero_point=-128)
    d.writer.operator("SOFTMAX", [x], [y], "SoftmaxOptions", Beta=1.0)
    return y


def mean(d: Draw) -> int:
    shape = d.image()
    x, y = d.input(shape), d.output((1, shape[3]))
    axes = d.writer.constant("axes", np.array([1, 2], np.int32))
    d.writer.operator("MEAN", [x, axes], [y], "ReducerOptions", KeepDims=0)
    return y


def pool(kind: str) -> Callable[[Draw], int]:
    def make(d: Draw) -> int:
        shape, given, stride = d.image(), d.quantization(), d.whole(1, 2)
        sizes = [-(-n // stride) for n in shape[1:3]]
        x, y = d.input(shape, **given), d.output((1, *sizes, shape[3]), **given)
        d.writer.operator(
            kind, [x], [y], "Pool2DOptions", Padding=_SAME, StrideH=stride, StrideW=stride,
            FilterHeight=d.whole(1, 3), FilterWidth=d.whole(1, 3), FusedActivationFunction=d.activation(),
        )  # fmt: skip
        return y

    return make


def convolution(kind: str) -> Callable[[Draw], int]:
    def make(d: Draw) -> int:
        shape, kernel, stride = d.image(), (d.whole(1, 3), d.whole(1, 3)), d.whole(1, 2)
        depthwise = kind == "DEPTHWISE_CONV_2D"
        multiplier = d.whole(1, 2)
        channels = shape[3] * multiplier if depthwise else d.whole(1, 5)
        sizes = (1, *kernel, channels) if depthwise else (channels, *kernel, shape[3])
        scale = d.number(0.0006, 0.16)
        x = d.input(shape, scale=scale, zero_point=d.whole(-128, 127))
        weights = d.weights(sizes, channels, 3 if depthwise else 0, scale)
        y = d.output((1, *(-(-n // stride) for n in shape[1:3]), channels))
        fields = {"Padding": _SAME, "StrideH": stride, "StrideW": stride}
        fields |= {"DilationHFactor": 1, "DilationWFactor": 1, "FusedActivationFunction": d.activation()}
        fields |= {"DepthMultiplier": multiplier} if depthwise else {}
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        d.writer.operator(kind, [x, *weights], [y], options, **fields)
        return y

    return make


def fully_connected(d: Draw) -> int:
    channels, features, scale = d.whole(1, 8), d.whole(1, 60), d.number(0.006, 1.6)
    x = d.input((2, features), scale=scale, zero_point=d.whole(-128, 127))
    weights = d.weights((channels, features), channels, -1, scale)
    y = d.output((2, channels))
    d.writer.operator(
        "FULLY_CONNECTED", [x, *weights], [y], "FullyConnectedOptions", FusedActivationFunction=d.activation()
    )
    return y


def transpose_conv(d: Draw) -> int:
    (_, height, width, depth), stride, channels = d.image(), d.whole(1, 2), d.whole(1, 4)
    scale = d.number(0.0006, 0.16)
    x = d.input((1, height, width, depth), scale=scale, zero_point=d.whole(-128, 127))
    weights = d.weights((channels, stride + 1, stride + 1, depth), channels, 0, scale)
    shape = (1, height * stride, width * stride, channels)
    y, size = d.output(shape), d.writer.constant("size", np.array(shape, np.int32))
    fields = {"Padding": _SAME, "StrideH": stride, "StrideW": stride}
    d.writer.operator(
        "TRANSPOSE_CONV", [size, weights[0], x, weights[1]], [y], "TransposeConvOptions", **fields
    )
    return y


OPERATORS: dict[str, Callable[[Draw], int]] = {
    **{kind: binary(kind) for kind in ("ADD", "SUB", "MUL")},
    **{kind: pool(kind) for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    **{kind: convolution(kind) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D")},
    **{kind: table(kind) for kind in ("ELU", "HARD_SWISH", "QUANTIZE", "RELU", "RELU6")},
    "FULLY_CONNECTED": fully_connected,
    "LEAKY_RELU": table("LEAKY_RELU", "LeakyReluOptions"),
    "LOGISTIC": table("LOGISTIC", scale=1 / 256, zero_point=-128),
    "MEAN": mean,
    "SOFTMAX": softmax,
    "TRANSPOSE_CONV": transpose_conv,
    "TANH": table("TANH", scale=1 / 128, zero_point=0),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_operator(kind: str, tmp_path: Path) -> None:
    """Random shapes, scales and activations; every table of one value has all 256 values in it."""
    runtime: Any = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    rng = np.random.default_rng(sum(kind.encode()))
    for number in range(_GRAPHS):
        draw = Draw(rng)
        y = OPERATORS[kind](draw)
        data = draw.writer.finish(draw.inputs, [y])
        file = tmp_path / f"{number}.tflite"
        file.write_bytes(data)
        theirs = runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
        for _ in range(_RUNS):
            values = [_values(shape, rng) for shape in draw.shapes]
            for index, x in enumerate(values):
                theirs.set_input(x, index)
            theirs.invoke()
            np.testing.assert_array_equal(_ours(file, values), theirs.get_output(0), err_msg=str(number))


def _values(shape: Shape, rng: np.random.Generator) -> NDArray[np.int8]:
    if shape == (1, 256):
        return np.arange(-128, 128).astype(np.int8)[None]
    return rng.integers(-128, 128, shape).astype(np.int8)


def _ours(file: Path, values: list[NDArray[np.int8]]) -> NDArray[np.int8]:
    module, _ = read_model(file)
    Pipeline(cleanup_steps(), [], verify_structure, lambda _: None).run(module, load_target("host"), 0)
    program = lower(module, requantize="tflm")
    assert not program.notes
    (output,) = run_program(program, values)
    return np.asarray(output)
