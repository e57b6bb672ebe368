"""Cleanup on random networks: whatever it folds, fuses or refuses, the outputs stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from irshrink.instruments import CheckNumerics
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.verify import verify_static, verify_structure

Shape = tuple[int, ...]


class Network:
    """A chain of layers on ``[1, C, H, W]``; every layer appends its nodes and gives the new shape."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 1000)))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def numbers(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.25, 1.75, shape).astype(np.float32))

    def conv(self, x: str, shape: Shape) -> tuple[str, Shape]:
        _, channels, height, width = shape
        kernel = self.draw(st.sampled_from([1, 3])) if min(height, width) >= 3 else 1
        groups = self.draw(st.sampled_from([1, channels]))
        pad = self.draw(st.integers(0, kernel // 2))
        weight = self.constant(
            self.rng.standard_normal((channels, channels // groups, kernel, kernel)).astype(np.float32)
        )
        bias = [self.numbers(channels)] if self.draw(st.booleans()) else []
        y = self.op("Conv", x, weight, *bias, group=groups, pads=[pad] * 4)
        shrink = kernel - 1 - 2 * pad
        return y, (1, channels, height - shrink, width - shrink)

    def batchnorm(self, x: str, shape: Shape) -> tuple[str, Shape]:
        parameters = [self.numbers(shape[1]) for _ in range(4)]
        return self.op("BatchNormalization", x, *parameters), shape

    def affine(self, x: str, shape: Shape) -> tuple[str, Shape]:
        op_type = self.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
        form = self.draw(st.sampled_from([(), (1,), (shape[1], 1, 1), (1, shape[1], 1, 1), shape[3:]]))
        operands = [x, self.numbers(*form)]
        if op_type != "Div" and self.draw(st.booleans()):
            operands.reverse()
        return self.op(op_type, *operands), shape

    def clamp(self, x: str, shape: Shape) -> tuple[str, Shape]:
        bound = self.constant(np.float32(self.draw(st.sampled_from([-1.0, 0.0, 0.5, 6.0]))))
        kind = self.draw(st.sampled_from(["Relu", "Max", "Min", "Clip"]))
        return (self.op("Relu", x) if kind == "Relu" else self.op(kind, x, bound)), shape

    def pad(self, x: str, shape: Shape) -> tuple[str, Shape]:
        pads = self.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
        value = self.constant(np.float32(self.draw(st.sampled_from([0.0, 0.0, 1.0]))))
        return self.op("Pad", x, pads, value), (*shape[:2], shape[2] + 1, shape[3] + 1)

    def pool(self, x: str, shape: Shape) -> tuple[str, Shape]:
        if min(shape[2:]) < 2:
            return x, shape
        kind = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        y = self.op(kind, x, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        return y, shape

    def transposed(self, x: str, shape: Shape) -> tuple[str, Shape]:
        a = self.op("Transpose", x, perm=[0, 2, 3, 1])
        b = self.op(self.draw(st.sampled_from(["Relu", "Sigmoid", "Identity"])), a)
        return self.op("Transpose", b, perm=[0, 3, 1, 2]), shape

    def reshaped(self, x: str, shape: Shape) -> tuple[str, Shape]:
        a = self.op("Flatten", x)
        return self.op("Reshape", a, self.constant(np.array(shape, np.int64))), shape

    def casts(self, x: str, shape: Shape) -> tuple[str, Shape]:
        return self.op("Cast", self.op("Cast", x, to=11), to=1), shape

    def residual(self, x: str, shape: Shape) -> tuple[str, Shape]:
        return self.op("Add", x, self.op("Relu", self.op("Neg", x))), shape

    def exposed(self, x: str, shape: Shape) -> tuple[str, Shape]:
        if self.nodes and x not in self.outputs:
            self.outputs.append(x)
        return x, shape


LAYERS = (
    *("conv", "conv", "batchnorm", "affine", "affine", "clamp", "pad", "pool", "transposed"),
    *("reshaped", "casts", "residual", "exposed"),
)


@st.composite
def networks(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Module:
    network = Network(draw)
    x, shape = "x", (1, draw(st.integers(1, 3)), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
    start = shape
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=8)):
        x, shape = getattr(network, layer)(x, shape)
    network.outputs = [*dict.fromkeys([*network.outputs, network.op("Identity", x)])]
    unknown = [helper.make_tensor_value_info(name, 1, None) for name in network.outputs]
    given_shape = helper.make_tensor_value_info("x", 1, start)
    graph = helper.make_graph(network.nodes, "g", [given_shape], unknown, network.constants)
    opset = draw(st.sampled_from([13, 17, 20]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return Module(ir.from_proto(onnx.shape_inference.infer_shapes(model)))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(networks())
def test_outputs_stay(module: Module) -> None:
    names = [value.name for value in module.graph.outputs]
    before = len(module.graph)
    check = CheckNumerics(random_samples(input_specs(module.graph), 2))
    Pipeline(cleanup_steps(), [check], verify_structure).run(module, load_target("host"))
    verify_static(module)
    assert [value.name for value in module.graph.outputs] == names
    # A lone BatchNormalization becomes two nodes, nothing else grows.
    assert len(module.graph) <= 2 * before
