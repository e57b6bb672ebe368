"""Outlier channel splitting: a large weight becomes two of half the size.

The input channel c of a layer with the largest weight is written twice, and read with half of its weights
each:

    W[:, c] x_c = W'[:, c] x_c + W'[:, c'] x_c,      W' = W[:, c] / 2

so the range of the weights shrinks, what is computed stays, and the layers on both sides grow by a channel.
The halves are (w - d/2) / 2 and (w + d/2) / 2, with d the step of the rounding to come, so that both
together are rounded to what w alone would be: round(w/2 - 1/4) + round(w/2 + 1/4) = round(w) in steps (Zhao
et al., *Improving neural network quantization without retraining using outlier channel splitting*, ICML
2019, sections 3.2 and 3.3). A share of all channels is split, one after the other, each time the one with
the largest weight.

A channel can be written twice where a layer writes it and only functions of single values, pools over space
and depthwise layers are in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    constant,
    describe,
    input_of,
    is_op,
    require_private,
    rewrite_each,
    set_constant,
    static_shape,
)
from irshrink.graph.linear import LinearOp, is_linear, linear_op
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]

#: Between the two layers: one value in, one out, no number of its own for each channel.
_PASSING = frozenset(
    {
        "AveragePool",
        "Clip",
        "Elu",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
    }
    | {"LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Softplus", "Tanh"}
)


@dataclass(frozen=True)
class SplitChannels:
    """Split the channels with the largest weights in two: the weights of a layer need a smaller range.

    Attributes:
        expand: how many channels are added to a layer, as a part of those that it has; at least one is.
        bits: of the rounding to come; the halves of a weight differ by half a step of it.
    """

    name: ClassVar[str] = "split-channels"
    lossy: ClassVar[bool] = True

    expand: float = 0.02
    bits: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.expand <= 1:
            raise ValueError(f"expand is {self.expand}; it must be above 0 and at most 1")
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits is {self.bits}; it must be 2 to 8")

    def run(self, module: Module, ctx: Context) -> PassResult:
        split = rewrite_each(module.graph, ctx, {"Conv", "Gemm", "MatMul"}, self._split)
        return PassResult(split > 0, stats={"layers": split})

    def _split(self, node: ir.Node) -> bool:
        if not is_linear(node) or attribute_int(node, "group", 1) != 1:
            return False
        reader = linear_op(node)
        path = _path(node, reader)
        if path is None:
            return False
        origins, weight = self._widened(reader.weight[0])
        writer, *between = path
        _repeat(writer, origins)
        for passing in between:
            if is_op(passing, "Conv"):
                _repeat(passing, origins)
                passing.attributes.add(ir.AttrInt64("group", len(origins)))
        _set_weight(node, weight)
        for changed in path:
            _widen_value(changed.outputs[0], reader.channel_axis, len(origins))
        return True

    def _widened(self, weight: Array) -> tuple[Array, Array]:
        """The old channel of each new one, int64 [n], and weights ``[Co, n, k]`` from ``[Co, Ci, k]``."""
        origins = list(range(weight.shape[1]))
        parts = np.ones(len(origins))
        largest = np.abs(weight).max(axis=(0, 2))
        for _ in range(ceil(self.expand * weight.shape[1])):
            widest = int(np.argmax(largest[origins] * parts))
            parts[widest] /= 2
            origins.append(origins[widest])
            parts = np.append(parts, parts[widest])
        index = np.array(origins)
        wide = weight[:, index] * parts[:, np.newaxis]
        step = np.abs(wide).max(axis=(1, 2), keepdims=True) / (2 ** (self.bits - 1) - 1)
        return index, wide + step * _offsets(index, parts)[:, np.newaxis]


def _offsets(origins: Array, parts: Array) -> Array:
    """What is added to each part of a channel, in steps: evenly spread over one step, 0 together."""
    offsets = np.zeros(len(origins))
    for origin in np.unique(origins[parts < 1]):
        places = np.flatnonzero(origins == origin)
        offsets[places] = (np.arange(len(places)) - (len(places) - 1) / 2) / len(places)
    return offsets


def _path(node: ir.Node, reader: LinearOp) -> list[ir.Node] | None:
    """From the layer that writes what ``node`` reads to the last operator before it; None where none does.

    Raises:
        Refusal: the layer is there, and cannot write channels twice.
    """
    path: list[ir.Node] = []
    value, below = node.inputs[0], node
    while value is not None and (producer := value.producer()) is not None:
        if not is_linear(producer) and not is_op(producer, *_PASSING):
            return None
        require_private(value, below)
        shape = static_shape(value)
        if shape is None or shape[reader.channel_axis % len(shape)] != reader.inputs:
            raise Refusal(f"{describe(producer)} counts channels along another axis")
        path.insert(0, producer)
        if is_linear(producer) and not _is_depthwise(producer):
            return path if _can_repeat(producer, reader) else None
        if is_linear(producer):
            linear_op(producer)
        value, below = producer.inputs[0], producer
    return None


def _can_repeat(writer: ir.Node, reader: LinearOp) -> bool:
    op = linear_op(writer)
    return op.weight.shape[0] == 1 and op.channel_axis == reader.channel_axis and op.outputs == reader.inputs


def _is_depthwise(node: ir.Node) -> bool:
    weight = constant(input_of(node, 1))
    assert weight is not None
    return is_op(node, "Conv") and 1 < attribute_int(node, "group", 1) == len(weight)


def _repeat(node: ir.Node, origins: Array) -> None:
    """Write channels again: rows of the weights and elements of the bias."""
    weight, bias = constant(node.inputs[1]), None if is_op(node, "MatMul") else constant(input_of(node, 2))
    assert weight is not None
    by_column = is_op(node, "MatMul", "ConvTranspose")
    by_column |= is_op(node, "Gemm") and not attribute_int(node, "transB", 0)
    axis = 1 if by_column else 0
    set_constant(node, 1, np.take(weight, origins, axis=axis), "weight")
    if bias is not None and bias.size > 1:
        set_constant(node, 2, np.take(bias, origins, axis=-1), "bias")


def _set_weight(node: ir.Node, weight: Array) -> None:
    """Store ``[Co, Ci, k]`` in the layout of the operator."""
    old = constant(node.inputs[1])
    assert old is not None
    if is_op(node, "Conv"):
        new = weight.reshape(*weight.shape[:2], *old.shape[2:])
    else:
        node.attributes.pop("alpha", None)  # it is in the weights already
        new = weight[:, :, 0] if attribute_int(node, "transB", 0) else weight[:, :, 0].T
    set_constant(node, 1, new.astype(old.dtype), "weight")


def _widen_value(value: ir.Value, axis: int, channels: int) -> None:
    shape = static_shape(value)
    assert shape is not None, "the path is of known shapes"
    dims = list(shape)
    dims[axis % len(dims)] = channels
    value.shape = ir.Shape(dims)
