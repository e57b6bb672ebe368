"""Convolution, Deconvolution and InnerProduct."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.network import Layer


def convolution(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """Weights [out, in / group, kH, kW] as in ONNX; every input of the layer with the same weights."""
    return [_convolution(graph, layer, x) for x in inputs]


def depthwise(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """A Convolution with as many groups as channels, whatever ``group`` says."""
    return [_convolution(graph, layer, x, depthwise=True) for x in inputs]


def _convolution(graph: Graph, layer: Layer, x: Value, *, depthwise: bool = False) -> Value:
    size = Size(layer, x)
    parameters = layer.parameters.convolution_param
    out, channels = parameters.num_output, x.shape[1]
    group = channels if depthwise else parameters.group
    size.require_groups(group, channels, out)
    operands = _operands(graph, layer, x, (out, channels // group, *size.kernel), out)
    shape = (
        (extent + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for extent, kernel, stride, pad, dilation in size.axes(x)
    )
    return graph.one(layer, "Conv", operands, (x.shape[0], out, *shape), group=group, **size.attributes())


def deconvolution(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """The transpose of a Convolution; weights [in, out / group, kH, kW] as in ONNX."""
    (x,) = inputs
    size = Size(layer, x)
    parameters = layer.parameters.convolution_param
    out, channels, group = parameters.num_output, x.shape[1], parameters.group
    size.require_groups(group, channels, out)
    operands = _operands(graph, layer, x, (channels, out // group, *size.kernel), out)
    shape = (
        stride * (extent - 1) + dilation * (kernel - 1) + 1 - 2 * pad
        for extent, kernel, stride, pad, dilation in size.axes(x)
    )
    return graph.node(
        layer, "ConvTranspose", operands, (x.shape[0], out, *shape), group=group, **size.attributes()
    )


def _operands(graph: Graph, layer: Layer, x: Value, shape: Sequence[int], out: int) -> list[Value | str]:
    operands: list[Value | str] = [x, graph.constant(layer, "weight", layer.blob(0, shape))]
    if layer.parameters.convolution_param.bias_term:
        operands.append(graph.constant(layer, "bias", layer.blob(1, [out])))
    return operands


class Size:
    """Kernel, stride, padding and dilation of a layer, one number for each of the two spatial axes.

    Raises:
        ModelError: the input is no image, or a number makes no sense.
    """

    def __init__(self, layer: Layer, x: Value) -> None:
        self.layer = layer
        parameters = layer.parameters.convolution_param
        if x.rank != 4 or x.axis(parameters.axis, layer) != 1:
            raise ModelError(f"layer '{layer.name}' ({layer.kind}) needs [N, C, H, W], not {list(x.shape)}.")
        self.kernel = self._pair(parameters, "kernel_size", "kernel", None)
        self.strides = self._pair(parameters, "stride", "stride", 1)
        self.pads = self._pair(parameters, "pad", "pad", 0)
        self.dilations = self._pair(parameters, "dilation", "", 1)
        if min(*self.kernel, *self.strides, *self.dilations) < 1 or min(self.pads) < 0:
            raise ModelError(
                f"layer '{layer.name}' ({layer.kind}): a kernel, stride or padding without sense."
            )

    def axes(self, x: Value) -> list[tuple[int, int, int, int, int]]:
        """Extent, kernel, stride, pad, dilation of H and W."""
        return list(zip(x.shape[2:], self.kernel, self.strides, self.pads, self.dilations, strict=True))

    def attributes(self) -> dict[str, Any]:
        """As ONNX writes them."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "pads": [*self.pads, *self.pads],
            "dilations": self.dilations,
        }

    def require_groups(self, group: int, channels: int, out: int) -> None:
        if group < 1 or out < 1 or channels % group or out % group:
            raise ModelError(
                f"layer '{self.layer.name}' ({self.layer.kind}): {channels} channels and {out} outputs are "
                f"not divisible into {group} groups."
            )

    def _pair(self, parameters: Any, field: str, by_axis: str, default: int | None) -> list[int]:
        if by_axis and parameters.HasField(f"{by_axis}_h") and parameters.HasField(f"{by_axis}_w"):
            return [getattr(parameters, f"{by_axis}_h"), getattr(parameters, f"{by_axis}_w")]
        given = list(getattr(parameters, field)) or ([] if default is None else [default])
        if len(given) not in (1, 2):
            raise ModelError(
                f"layer '{self.layer.name}' ({self.layer.kind}): {field} has {len(given)} numbers; one or "
                "two are needed."
            )
        return given if len(given) == 2 else given * 2


def inner_product(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """x, flattened from ``axis`` on, times weights [out, K], or [K, out] where ``transpose`` says so."""
    (x,) = inputs
    parameters = layer.parameters.inner_product_param
    axis, out = x.axis(parameters.axis, layer), parameters.num_output
    rows, length = prod(x.shape[:axis]), prod(x.shape[axis:])
    if x.rank != 2 or axis != 1:
        x = graph.one(layer, "Flatten", [x], (rows, length), axis=axis)
    shape = (length, out) if parameters.transpose else (out, length)
    operands: list[Value | str] = [x, graph.constant(layer, "weight", layer.blob(0, shape))]
    if parameters.bias_term:
        operands.append(graph.constant(layer, "bias", layer.blob(1, [out])))
    y = graph.one(layer, "Gemm", operands, (rows, out), transB=int(not parameters.transpose))
    whole = (*inputs[0].shape[:axis], out)
    if whole == y.shape:
        return [y]
    return graph.node(layer, "Reshape", [y, graph.constant(layer, "shape", np.array(whole, np.int64))], whole)
