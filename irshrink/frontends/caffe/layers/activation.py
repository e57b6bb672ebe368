"""Elementwise functions without weights, PReLU, and Softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.network import Layer


def simple(operator: str) -> Callable[[Graph, Layer, Sequence[Value]], list[Value]]:
    """The conversion to one ONNX operator without attributes."""

    def convert(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
        return graph.node(layer, operator, inputs, inputs[0].shape)

    return convert


def relu(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """max(x, 0) + negative_slope min(x, 0)."""
    slope = layer.parameters.relu_param.negative_slope
    if slope == 0:
        return graph.node(layer, "Relu", inputs, inputs[0].shape)
    return graph.node(layer, "LeakyRelu", inputs, inputs[0].shape, alpha=slope)


def relu6(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """min(max(x, 0), threshold)."""
    return _clip(graph, layer, inputs, 0.0, layer.parameters.relu6_param.threshold)


def clip(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """min(max(x, min), max)."""
    parameters = layer.parameters.clip_param
    return _clip(graph, layer, inputs, parameters.min, parameters.max)


def _clip(graph: Graph, layer: Layer, inputs: Sequence[Value], low: float, high: float) -> list[Value]:
    limits = [
        graph.constant(layer, "min", np.array(low, np.float32)),
        graph.constant(layer, "max", np.array(high, np.float32)),
    ]
    return graph.node(layer, "Clip", [*inputs, *limits], inputs[0].shape)


def elu(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """x where it is positive, alpha (exp(x) - 1) elsewhere."""
    return graph.node(layer, "Elu", inputs, inputs[0].shape, alpha=layer.parameters.elu_param.alpha)


def prelu(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """max(x, 0) + slope min(x, 0); a slope for each channel, or one for all."""
    (x,) = inputs
    channels = 1 if layer.parameters.prelu_param.channel_shared else x.shape[x.axis(1, layer)]
    slope = layer.blob(0, [channels]).reshape(channels, *[1] * (x.rank - 2))
    return graph.node(layer, "PRelu", [x, graph.constant(layer, "slope", slope)], x.shape)


def softmax(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """exp(x) over its sum along one axis."""
    (x,) = inputs
    axis = x.axis(layer.parameters.softmax_param.axis, layer)
    return graph.node(layer, "Softmax", [x], x.shape, axis=axis)
