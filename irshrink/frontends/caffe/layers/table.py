"""Caffe's layer types and what converts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.layers import (
    activation,
    arithmetic,
    convolution,
    movement,
    normalization,
    pooling,
)
from irshrink.frontends.caffe.network import Layer

Convert = Callable[[Graph, Layer, Sequence[Value]], list[Value]]

#: Types that the reader itself takes: where blobs come from, and where they end.
INPUT, SILENCE = "Input", "Silence"
MANY = 1 << 16

#: By layer type: the function, and the least and the most inputs it takes.
CONVERT: dict[str, tuple[Convert, int, int]] = {
    "AbsVal": (activation.simple("Abs"), 1, 1),
    "BNLL": (activation.simple("Softplus"), 1, 1),
    "BatchNorm": (normalization.batch_norm, 1, 1),
    "Bias": (arithmetic.bias, 1, 2),
    "Clip": (activation.clip, 1, 1),
    "Concat": (movement.concat, 1, MANY),
    "Convolution": (convolution.convolution, 1, MANY),
    "ConvolutionDepthwise": (convolution.depthwise, 1, MANY),
    "Crop": (movement.crop, 2, 2),
    "Deconvolution": (convolution.deconvolution, 1, 1),
    "DepthwiseConvolution": (convolution.depthwise, 1, MANY),
    "Dropout": (movement.same, 1, 1),
    "ELU": (activation.elu, 1, 1),
    "Eltwise": (arithmetic.eltwise, 1, MANY),
    "Exp": (arithmetic.exponential, 1, 1),
    "Flatten": (movement.flatten, 1, 1),
    "InnerProduct": (convolution.inner_product, 1, 1),
    "LRN": (normalization.lrn, 1, 1),
    "Log": (arithmetic.logarithm, 1, 1),
    "PReLU": (activation.prelu, 1, 1),
    "Permute": (movement.permute, 1, 1),
    "Pooling": (pooling.pooling, 1, 1),
    "Power": (arithmetic.power, 1, 1),
    "ReLU": (activation.relu, 1, 1),
    "ReLU6": (activation.relu6, 1, 1),
    "Reshape": (movement.reshape, 1, 1),
    "Scale": (arithmetic.scale, 1, 2),
    "Sigmoid": (activation.simple("Sigmoid"), 1, 1),
    "Slice": (movement.slices, 1, 1),
    "Softmax": (activation.softmax, 1, 1),
    "Split": (movement.split, 1, 1),
    "TanH": (activation.simple("Tanh"), 1, 1),
    "Tile": (movement.tile, 1, 1),
}

KNOWN = (INPUT, SILENCE, *CONVERT)
