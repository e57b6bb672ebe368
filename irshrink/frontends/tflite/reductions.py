"""Operators that reduce axes."""

from __future__ import annotations

from onnx import TensorProto

from irshrink.frontends.tflite.elementwise import Translation
from irshrink.frontends.tflite.flatbuffer import Operator
from irshrink.frontends.tflite.graph import GraphWriter


def reduce(op_type: str) -> Translation:
    """MEAN, SUM, REDUCE_MAX...: inputs (x, axes)."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        axes = graph.int64(graph.integers(op.inputs[1]))
        keep = int(op.options.KeepDims())
        graph.define(op.outputs[0], graph.add(op_type, graph.real(op.inputs[0]), axes, keepdims=keep))

    return translate


def arg(op_type: str) -> Translation:
    """ARG_MAX and ARG_MIN: inputs (x, axis); the axis goes."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        (axis,) = graph.integers(op.inputs[1])
        y = graph.add(op_type, graph.real(op.inputs[0]), axis=axis, keepdims=0)
        if graph.tensor(op.outputs[0]).dtype == "int32":
            y = graph.add("Cast", y, part="cast", to=TensorProto.INT32)
        graph.define(op.outputs[0], y)

    return translate


def l2_normalization(graph: GraphWriter, op: Operator) -> None:
    """``x / sqrt(sum of squares)`` over the last axis."""
    graph.define(op.outputs[0], graph.add("LpNormalization", graph.real(op.inputs[0]), axis=-1, p=2))
