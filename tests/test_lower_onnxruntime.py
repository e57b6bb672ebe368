"""Lowered programs against ONNX Runtime.

With scales that are powers of two every float32 operation of a QDQ graph is exact, so ONNX Runtime without
its optimizations computes what the QDQ operators mean, ties included: the program must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from irshrink import onnxrt
from irshrink.module import Module, load_module
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference import run_program
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"


@dataclass
class Value:
    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass
class Net:
    """A random QDQ graph that grows node by node."""

    rng: np.random.Generator
    power_of_two: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}_{len(self.initializers)}"

    def constant(self, array: Any) -> str:
        name = self.name("k")
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def scale(self, low: int = -6, high: int = -2) -> float:
        exponent = int(self.rng.integers(low, high))
        return 2.0**exponent if self.power_of_two else float(np.float32(2.0 ** self.rng.uniform(low, high)))

    def zero_point(self) -> int:
        return int(self.rng.integers(-128, 128))

    def quantized(self, name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> Value:
        """``name`` through QuantizeLinear and DequantizeLinear."""
        s, z = self.constant(np.float32(scale)), self.constant(np.int8(zero_point))
        q = self.node("QuantizeLinear", [name, s, z])
        return Value(self.node("DequantizeLinear", [q, s, z]), shape, scale, zero_point)

    def fresh(self, name: str, shape: tuple[int, ...], growth: float = 1.0) -> Value:
        return self.quantized(name, shape, self.scale() * growth, self.zero_point())

    def weights(self, shape: tuple[int, ...], per_channel: bool = True) -> tuple[str, np.ndarray]:
        scales = np.array([self.scale(-8, -4) for _ in range(shape[0])], np.float32)
        if not per_channel:
            scales = np.full(shape[0], scales[0])
        integers = self.rng.integers(-127, 128, shape).astype(np.int8)
        q = self.constant(integers)
        s, z = self.constant(scales), self.constant(np.zeros(shape[0], np.int8))
        return self.node("DequantizeLinear", [q, s, z], axis=0), scales

    def bias(self, x: Value, scales: np.ndarray) -> str:
        q = self.constant(self.rng.integers(-3000, 3000, scales.shape).astype(np.int32))
        s = self.constant((np.float32(x.scale) * scales).astype(np.float32))
        z = self.constant(np.zeros(scales.shape, np.int32))
        return self.node("DequantizeLinear", [q, s, z], axis=0)

    def model(self, inputs: list[Value], output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.initializers,
        )
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def conv(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    groups = int(net.rng.choice([1, c]))
    channels = c * int(net.rng.integers(1, 3)) if groups == c else int(net.rng.integers(1, 9))
    kernel = [int(net.rng.integers(1, min(4, size + 1))) for size in (h, w)]
    stride = [int(net.rng.integers(1, 3)) for _ in range(2)]
    pads = [int(net.rng.integers(0, k)) for k in (*kernel, *kernel)]
    weight, scales = net.weights((channels, c // groups, *kernel))
    inputs = [x.name, weight] + ([net.bias(x, scales)] if net.rng.integers(2) else [])
    y = net.node("Conv", inputs, kernel_shape=kernel, strides=stride, pads=pads, group=groups)
    if net.rng.integers(2):
        y = net.node("Relu", [y])
    size = [(s + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1 for i, s in enumerate((h, w))]
    return net.fresh(y, (n, channels, *size), 4.0)


def add(net: Net, x: Value, past: list[Value]) -> Value:
    same = [v for v in past if v.shape == x.shape]
    other = same[int(net.rng.integers(len(same)))]
    pair = [x.name, other.name] if net.rng.integers(2) else [other.name, x.name]
    y = net.node(str(net.rng.choice(["Add", "Sub", "Mul"])), pair)
    return net.fresh(y, x.shape)


def scale_channels(net: Net, x: Value, past: list[Value]) -> Value:
    codes = net.constant(net.rng.integers(-128, 128, (x.shape[1], 1, 1)).astype(np.int8))
    k = net.node(
        "DequantizeLinear",
        [codes, net.constant(np.float32(net.scale())), net.constant(np.int8(net.zero_point()))],
    )
    return net.fresh(net.node(str(net.rng.choice(["Mul", "Add"])), [x.name, k]), x.shape)


def max_pool(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    y = net.node("MaxPool", [x.name], kernel_shape=[2, 2], pads=[1, 0, 0, 1])
    return net.quantized(y, (n, c, h, w), x.scale, x.zero_point)


def average_pool(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    if min(h, w) < 2:
        return x
    y = net.node("AveragePool", [x.name], kernel_shape=[2, 2])
    return net.fresh(y, (n, c, h - 1, w - 1))


def clamp(net: Net, x: Value, past: list[Value]) -> Value:
    low, high = net.constant(np.float32(-1.5)), net.constant(np.float32(2.0))
    if net.rng.integers(2):
        return net.fresh(net.node("Clip", [x.name, low, high]), x.shape)
    return net.fresh(net.node("LeakyRelu", [x.name], alpha=0.5), x.shape)


def there_and_back(net: Net, x: Value, past: list[Value]) -> Value:
    """Transposed, rescaled, and transposed back."""
    order = [int(axis) for axis in net.rng.permutation(4)]
    back = [order.index(axis) for axis in range(4)]
    y = net.fresh(net.node("Transpose", [x.name], perm=order), ())
    return Value(net.node("Transpose", [y.name], perm=back), x.shape, y.scale, y.zero_point)


def shuffle_channels(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    if c % 2:
        return x
    y = net.node("Reshape", [x.name, net.constant(np.array([n, 2, c // 2, h, w]))])
    y = net.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    y = net.node("Reshape", [y, net.constant(np.array([0, -1, h, w]))])
    return net.quantized(y, x.shape, x.scale, x.zero_point)


def pad(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    y = net.node("Pad", [x.name, net.constant(np.array([0, 0, 1, 0, 0, 0, 0, 2]))])
    return net.quantized(y, (n, c, h + 1, w + 2), x.scale, x.zero_point)


def concat(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    same = [v for v in past if v.shape[2:] == (h, w)]
    other = same[int(net.rng.integers(len(same)))]
    y = net.node("Concat", [x.name, other.name], axis=1)
    return net.fresh(y, (n, c + other.shape[1], h, w))


def half_the_rows(net: Net, x: Value, past: list[Value]) -> Value:
    n, c, h, w = x.shape
    bounds = [net.constant(np.array([number])) for number in (0, h, 2, 2)]
    y = net.node("Slice", [x.name, bounds[0], bounds[1], bounds[2], bounds[3]])
    return Value(y, (n, c, (h + 1) // 2, w), x.scale, x.zero_point)


STEPS: list[Callable[[Net, Value, list[Value]], Value]] = [
    conv,
    conv,
    add,
    scale_channels,
    max_pool,
    average_pool,
    clamp,
    there_and_back,
    shuffle_channels,
    pad,
    concat,
    half_the_rows,
]


def head(net: Net, x: Value) -> str:
    """A flattened Gemm, a channel mean with a MatMul, or the image itself."""
    kind = net.rng.integers(3)
    if kind == 0:
        features = int(np.prod(x.shape))
        weight, scales = net.weights((5, features), bool(net.rng.integers(2)))
        y = net.node("Gemm", [net.node("Flatten", [x.name]), weight, net.bias(x, scales)], transB=1)
        return net.fresh(y, (1, 5), 16.0).name
    if kind == 1:
        y = net.node("Transpose", [x.name], perm=[0, 2, 3, 1])
        weight, scales = net.weights((3, x.shape[1]))
        y = net.node("MatMul", [y, net.node("Transpose", [weight], perm=[1, 0])])
        y = net.node("Add", [y, net.bias(x, scales)])
        return net.fresh(y, (), 4.0).name
    return x.name


def random_model(seed: int, *, power_of_two: bool) -> onnx.ModelProto:
    net = Net(np.random.default_rng(seed), power_of_two)
    shape = (1, *[int(net.rng.integers(low, 7)) for low in (1, 2, 2)])
    source = Value("x", shape, 1.0, 0)
    past = [net.fresh("x", shape)]
    for _ in range(int(net.rng.integers(2, 7))):
        step = STEPS[int(net.rng.integers(len(STEPS)))]
        past.append(step(net, past[-1], past))
    return net.model([source], head(net, past[-1]))


def program_of(model: onnx.ModelProto) -> Program:
    return lower(Module(ir.from_proto(model)), io="float")


def both(model: onnx.ModelProto, seed: int, *, optimize: bool) -> tuple[np.ndarray, np.ndarray]:
    """The program's outputs and ONNX Runtime's, on one random input."""
    program = program_of(model)
    x = (np.random.default_rng(seed).normal(size=program.inputs[0].shape) * 3).astype(np.float32)
    session = onnxrt.session(model.SerializeToString(), optimize=optimize)
    (expected,) = onnxrt.run(session, {"x": x}).values()
    return run_program(program, [x])[0], expected


@settings(deadline=None, max_examples=120, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_exact_graphs_give_the_same_bytes(seed: int) -> None:
    model = random_model(seed, power_of_two=True)
    got, expected = both(model, seed, optimize=False)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected), program_of(model).ops


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_program_has_nothing_left_in_float(seed: int) -> None:
    program = program_of(random_model(seed, power_of_two=False))
    assert program.float_reasons == {}
    borders = ("Quantize", "Dequantize", "Transpose", "Reshape", "Slice", "Pad", "MaxPool", "Concat")
    for op in program:
        kind = type(op).__name__
        assert kind in borders or kind.endswith("Int8")


#: Operator, attributes, output scale and zero point (None: any), bytes that may differ in a million.
OPERATORS: list[tuple[str, dict[str, Any], tuple[float, int] | None, int]] = [
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, None, 20),
    ("Elu", {}, None, 20),
    ("GlobalAveragePool", {}, None, 20),
    ("HardSigmoid", {}, None, 20),
    ("HardSwish", {}, None, 20),
    ("LeakyRelu", {}, None, 20),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}, None, 0),
    ("ReduceMean", {"axes": [2, 3]}, None, 20),
    ("Sigmoid", {}, (1 / 256, -128), 20),
    ("Softmax", {"axis": 1}, (1 / 256, -128), 20),
    ("Softmax", {"axis": -1}, (1 / 256, -128), 20),
    ("Tanh", {}, (1 / 128, 0), 20),
]


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(("op", "attributes", "target", "allowed"), OPERATORS)
def test_operators_agree(
    op: str, attributes: dict[str, Any], target: tuple[float, int] | None, allowed: int, optimize: bool
) -> None:
    differing = total = 0
    for seed in range(3):
        net = Net(np.random.default_rng(seed), power_of_two=False)
        shape = (1, 16, 20, 20)
        x = net.fresh("x", shape)
        y = net.node(op, [x.name], **attributes)
        result = net.quantized(y, (), *target) if target else net.fresh(y, ())
        got, expected = both(net.model([Value("x", shape, 1, 0)], result.name), seed, optimize=optimize)
        differing += int(np.sum(got != expected))
        total += got.size
    assert differing <= allowed * total / 1e6 + 1


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_two_operands_agree(op: str, optimize: bool) -> None:
    differing = 0
    for seed in range(3):
        net = Net(np.random.default_rng(seed), power_of_two=False)
        shape = (1, 16, 20, 20)
        x = net.fresh("x", shape)
        other = net.fresh(net.node("Transpose", [x.name], perm=[0, 1, 3, 2]), shape)
        y = net.fresh(net.node(op, [x.name, other.name]), shape)
        got, expected = both(net.model([Value("x", shape, 1, 0)], y.name), seed, optimize=optimize)
        differing += int(np.sum(got != expected))
    assert differing <= 2


def quantized_model(name: str) -> tuple[Module, list[np.ndarray]]:
    """A model of ``models/`` as the compiler quantizes it, and samples of its input, 32 at most."""
    from irshrink.passes.cleanup import cleanup_steps
    from irshrink.passes.quantize.quantize_int8 import QuantizeInt8
    from irshrink.samples import input_specs, load_samples
    from irshrink.static_shapes import fix_input_shapes

    module = load_module(MODELS / f"{name}.onnx")
    fix_input_shapes(module, {})
    stem = "mnist" if name.startswith("lenet") else name
    samples = load_samples(MODELS / f"{stem}-samples.npz", input_specs(module.graph), role="calibration")
    module.calibration = samples.spread(32)
    Pipeline([*cleanup_steps(), QuantizeInt8()]).run(module, load_target("host"))
    return module, [next(iter(feeds.values())) for feeds in module.calibration.feeds()]


@pytest.mark.parametrize("name", ["ad", "ic", "kws", "lenet-300-100", "lenet-5", "vww"])
def test_models_give_the_bytes_of_onnx_runtime(name: str) -> None:
    # ONNX Runtime's kernels saturate 16-bit sums on x86 without VNNI, hence not simply zero
    module, inputs = quantized_model(name)
    program = lower(module, io="float")
    assert program.float_reasons == {}
    session = onnxrt.session(module.model)
    differing = total = 0
    for x in inputs:
        (expected,) = onnxrt.run(session, {program.inputs[0].name: x}).values()
        (got,) = run_program(program, [x])
        differing += int(np.sum(got != expected))
        total += got.size
    assert differing <= total // 100
