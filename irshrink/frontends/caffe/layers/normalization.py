"""BatchNorm with stored statistics, and local response normalization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.layers.pooling import average
from irshrink.frontends.caffe.network import Layer


def batch_norm(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """(x - mean) / sqrt(variance + eps) for each channel; factor and offset are a Scale layer's.

    The third blob is what both statistics must be divided by; 0 stands for statistics of 0.
    """
    (x,) = inputs
    parameters = layer.parameters.batch_norm_param
    if parameters.HasField("use_global_stats") and not parameters.use_global_stats:
        raise ModelError(
            f"layer '{layer.name}' (BatchNorm) computes its statistics on the batch. Set use_global_stats: "
            "true."
        )
    channels = x.shape[x.axis(1, layer)]
    factor = float(layer.blob(2, [1])[0])
    factor = 0.0 if factor == 0 else 1.0 / factor
    with np.errstate(all="ignore"):  # weights that are no numbers are refused with the whole model
        mean, variance = (layer.blob(index, [channels]) * np.float32(factor) for index in (0, 1))
    constants = [
        graph.constant(layer, "scale", np.ones_like(mean)),
        graph.constant(layer, "offset", np.zeros_like(mean)),
        graph.constant(layer, "mean", mean),
        graph.constant(layer, "variance", variance),
    ]
    return graph.node(layer, "BatchNormalization", [x, *constants], x.shape, epsilon=parameters.eps)


def lrn(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """x / (k + alpha mean(x^2))^beta, the mean over neighbouring channels or over a window of the image.

    Over channels the sum is divided by ``local_size`` at the borders too; over the image (where k is 1)
    padding counts. Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012, section 3.3.
    """
    (x,) = inputs
    parameters = layer.parameters.lrn_param
    size = parameters.local_size
    if size < 1 or size % 2 == 0:
        raise ModelError(f"layer '{layer.name}' (LRN): local_size is {size}; it must be odd.")
    if parameters.norm_region == 0:
        numbers = {"alpha": parameters.alpha, "beta": parameters.beta, "bias": parameters.k, "size": size}
        return graph.node(layer, "LRN", [x], x.shape, **numbers)
    square = graph.one(layer, "Mul", [x, x], x.shape)
    window = {"kernel_shape": [size, size], "strides": [1, 1]}
    mean = average(graph, layer, square, x.shape, [size // 2] * 2, [0, 0], window)
    steps = (("Mul", "alpha", parameters.alpha), ("Add", "one", 1.0), ("Pow", "beta", parameters.beta))
    for operator, what, number in steps:
        constant = graph.constant(layer, what, np.array(number, np.float32))
        mean = graph.one(layer, operator, [mean, constant], x.shape)
    return graph.node(layer, "Div", [x, mean], x.shape)
