"""Layers with weights, and pools. Weights are put into ONNX's order: output channels first."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from irshrink.frontends.tflite.activations import activated
from irshrink.frontends.tflite.flatbuffer import Operator
from irshrink.frontends.tflite.graph import TO_NCHW, TO_NHWC, GraphWriter

_SAME = 0  # of the enumeration Padding; VALID is 1
_OIHW = (0, 3, 1, 2)


def conv(graph: GraphWriter, op: Operator) -> None:
    """CONV_2D: weights [Co, kh, kw, Ci / groups]."""
    x, weight = op.inputs[:2]
    options, (_, kh, kw, per_group) = op.options, graph.shape(weight)
    dilations = (options.DilationHFactor(), options.DilationWFactor())
    _convolve(
        graph,
        op,
        graph.weights(weight, _OIHW),
        kernel=(kh, kw),
        dilations=dilations,
        groups=_whole(graph.shape(x)[3], per_group),
    )


def depthwise(graph: GraphWriter, op: Operator) -> None:
    """DEPTHWISE_CONV_2D: weights [1, kh, kw, Ci * multiplier]."""
    x, weight = op.inputs[:2]
    options, (_, kh, kw, _) = op.options, graph.shape(weight)
    dilations = (options.DilationHFactor(), options.DilationWFactor())
    _convolve(
        graph,
        op,
        graph.weights(weight, (3, 0, 1, 2)),
        kernel=(kh, kw),
        dilations=dilations,
        groups=graph.shape(x)[3],
    )


def _convolve(
    graph: GraphWriter,
    op: Operator,
    weight: str,
    *,
    kernel: tuple[int, int],
    dilations: tuple[int, int],
    groups: int,
) -> None:
    x, strides = op.inputs[0], _strides(op)
    inputs = [graph.transposed(graph.real(x), TO_NCHW), weight]
    if _has(op, 2):
        inputs.append(graph.bias(op.inputs[2]))
    y = graph.add(
        "Conv",
        *inputs,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        pads=_pads(graph, op, kernel, dilations),
    )
    y = activated(graph, y, op.options.FusedActivationFunction())
    graph.define(op.outputs[0], graph.transposed(y, TO_NHWC))


def transpose_conv(graph: GraphWriter, op: Operator) -> None:
    """TRANSPOSE_CONV: inputs (output shape, weights [Co, kh, kw, Ci], x, bias)."""
    weight, x = op.inputs[1:3]
    (_, kh, kw, _), strides = graph.shape(weight), _strides(op)
    size, given = graph.shape(op.outputs[0])[1:3], graph.shape(x)[1:3]
    totals = [
        (n - 1) * stride + kernel - out
        for n, stride, kernel, out in zip(given, strides, (kh, kw), size, strict=True)
    ]
    begin = [max(total, 0) // 2 for total in totals]
    end = [max(total, 0) - first for total, first in zip(totals, begin, strict=True)]
    inputs = [graph.transposed(graph.real(x), TO_NCHW), graph.weights(weight, (3, 0, 1, 2))]
    if _has(op, 3):
        inputs.append(graph.bias(op.inputs[3]))
    y = graph.add(
        "ConvTranspose",
        *inputs,
        kernel_shape=(kh, kw),
        strides=strides,
        pads=[*begin, *end],
        output_padding=[max(-total, 0) for total in totals],
    )
    y = activated(graph, y, op.options.FusedActivationFunction())
    graph.define(op.outputs[0], graph.transposed(y, TO_NHWC))


def fully_connected(graph: GraphWriter, op: Operator) -> None:
    """FULLY_CONNECTED: weights [N, K]; the input is rows of K."""
    if op.options.WeightsFormat() != 0:
        raise ValueError("its weights are shuffled; convert the model for the default format")
    x, weight = op.inputs[:2]
    features = graph.shape(weight)[1]
    rows, output = graph.real(x), graph.shape(op.outputs[0])
    if len(graph.shape(x)) != 2 or graph.shape(x)[1] != features:
        count = _whole(prod(graph.shape(x)), features)
        rows = graph.add("Reshape", rows, graph.int64([count, features]), part="rows")
    inputs = [rows, graph.weights(weight, (0, 1))]
    if _has(op, 2):
        inputs.append(graph.bias(op.inputs[2]))
    y = activated(graph, graph.add("Gemm", *inputs, transB=1), op.options.FusedActivationFunction())
    if len(output) != 2:
        y = graph.add("Reshape", y, graph.int64(output), part="shape")
    graph.define(op.outputs[0], y)


def batch_matmul(graph: GraphWriter, op: Operator) -> None:
    factors = []
    for index, flipped in zip(op.inputs[:2], (op.options.AdjX(), op.options.AdjY()), strict=True):
        rank = len(graph.shape(index))
        order = (*range(rank - 2), rank - 1, rank - 2)
        factors.append(graph.weights(index, order) if flipped else graph.real(index))
    graph.define(op.outputs[0], graph.add("MatMul", *factors))


def average_pool(graph: GraphWriter, op: Operator) -> None:
    _pool(graph, op, "AveragePool", count_include_pad=0)


def max_pool(graph: GraphWriter, op: Operator) -> None:
    _pool(graph, op, "MaxPool")


def _pool(graph: GraphWriter, op: Operator, op_type: str, **attributes: Any) -> None:
    kernel = (op.options.FilterHeight(), op.options.FilterWidth())
    y = graph.add(
        op_type,
        graph.transposed(graph.real(op.inputs[0]), TO_NCHW),
        kernel_shape=kernel,
        strides=_strides(op),
        pads=_pads(graph, op, kernel, (1, 1)),
        **attributes,
    )
    y = activated(graph, y, op.options.FusedActivationFunction())
    graph.define(op.outputs[0], graph.transposed(y, TO_NHWC))


def _strides(op: Operator) -> tuple[int, int]:
    strides = (op.options.StrideH(), op.options.StrideW())
    if min(strides) < 1:
        raise ValueError(f"its strides are {strides}")
    return strides


def _pads(graph: GraphWriter, op: Operator, kernel: tuple[int, int], dilations: tuple[int, int]) -> list[int]:
    """(top, left, bottom, right): with SAME ``ceil(size / stride)`` outputs, an odd pad goes behind."""
    if op.options.Padding() != _SAME:
        return [0, 0, 0, 0]
    sizes = graph.shape(op.inputs[0])[1:3]
    totals = [
        max((ceil(n / stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
        for n, stride, k, dilation in zip(sizes, _strides(op), kernel, dilations, strict=True)
    ]
    begin = [total // 2 for total in totals]
    return [*begin, *(total - first for total, first in zip(totals, begin, strict=True))]


def _has(op: Operator, index: int) -> bool:
    return len(op.inputs) > index and op.inputs[index] >= 0


def _whole(number: int, divisor: int) -> int:
    if divisor < 1 or number % divisor:
        raise ValueError(f"{number} does not divide into parts of {divisor}")
    return number // divisor
