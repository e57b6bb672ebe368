"""Operators that work element by element, and Softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from irshrink.frontends.tflite.activations import activated, clipped
from irshrink.frontends.tflite.flatbuffer import Operator
from irshrink.frontends.tflite.graph import GraphWriter

Translation = Callable[[GraphWriter, Operator], None]


def unary(op_type: str, **attributes: Any) -> Translation:
    """An operator of one input that ONNX has under another name."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        graph.define(op.outputs[0], graph.add(op_type, graph.real(op.inputs[0]), **attributes))

    return translate


def binary(op_type: str) -> Translation:
    """An operator of two inputs, NumPy broadcasting, with a fused activation where its options have one."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        y = graph.add(op_type, *(graph.real(index) for index in op.inputs[:2]))
        if hasattr(op.options, "FusedActivationFunction"):
            y = activated(graph, y, op.options.FusedActivationFunction())
        graph.define(op.outputs[0], y)

    return translate


def clip(low: float, high: float) -> Translation:
    def translate(graph: GraphWriter, op: Operator) -> None:
        graph.define(op.outputs[0], clipped(graph, graph.real(op.inputs[0]), low, high))

    return translate


def add_n(graph: GraphWriter, op: Operator) -> None:
    graph.define(op.outputs[0], graph.add("Sum", *(graph.real(index) for index in op.inputs)))


def gelu(graph: GraphWriter, op: Operator) -> None:
    kind = "tanh" if op.options.Approximate() else "none"
    y = graph.add("Gelu", graph.real(op.inputs[0]), approximate=kind)
    graph.define(op.outputs[0], y)


def leaky_relu(graph: GraphWriter, op: Operator) -> None:
    y = graph.add("LeakyRelu", graph.real(op.inputs[0]), alpha=float(op.options.Alpha()))
    graph.define(op.outputs[0], y)


def prelu(graph: GraphWriter, op: Operator) -> None:
    graph.define(op.outputs[0], graph.add("PRelu", *(graph.real(index) for index in op.inputs[:2])))


def rsqrt(graph: GraphWriter, op: Operator) -> None:
    root = graph.add("Sqrt", graph.real(op.inputs[0]), part="sqrt")
    graph.define(op.outputs[0], graph.add("Reciprocal", root))


def square(graph: GraphWriter, op: Operator) -> None:
    x = graph.real(op.inputs[0])
    graph.define(op.outputs[0], graph.add("Mul", x, x))


def squared_difference(graph: GraphWriter, op: Operator) -> None:
    difference = graph.add("Sub", *(graph.real(index) for index in op.inputs[:2]), part="difference")
    graph.define(op.outputs[0], graph.add("Mul", difference, difference))


def softmax(graph: GraphWriter, op: Operator) -> None:
    """SOFTMAX over the last axis, of ``beta`` times its input."""
    x, beta = graph.real(op.inputs[0]), float(op.options.Beta())
    if beta != 1.0:
        x = graph.add("Mul", x, graph.float32(beta), part="beta")
    graph.define(op.outputs[0], graph.add("Softmax", x, axis=-1))


def cast(graph: GraphWriter, op: Operator) -> None:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(graph.tensor(op.outputs[0]).dtype))
    graph.define(op.outputs[0], graph.add("Cast", graph.real(op.inputs[0]), to=element))


def same(graph: GraphWriter, op: Operator) -> None:
    """QUANTIZE and DEQUANTIZE: the numbers stay, the tensors' own scales do the rest."""
    value = graph.real(op.inputs[0])
    if graph.tensor(op.inputs[0]).dtype == "float16" and graph.tensor(op.inputs[0]).data is None:
        value = graph.add("Cast", value, to=TensorProto.FLOAT)
    graph.define(op.outputs[0], value)
