"""Pooling with Caffe's own rule of rounding.

    out = ceil((in + 2 pad - kernel) / stride) + 1, and one less where the last window would start at or after
    in + pad                                                                        (pooling_layer.cpp)

A window may so reach beyond the padding. A maximum does not mind; an average counts the padding but not what
is beyond it, which ONNX says as a Pad and an AveragePool that does not count its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.network import Layer

#: Caffe's PoolMethod by number.
_MAX, _AVE = range(2)
_FLOOR = 1


@dataclass(frozen=True)
class _Axis:
    """A window along one axis: ``beyond`` is how far the last one reaches over the padding."""

    kernel: int
    stride: int
    pad: int
    out: int
    beyond: int


def pooling(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """The maximum or the average of windows, or of the whole image (``global_pooling``)."""
    (x,) = inputs
    parameters = layer.parameters.pooling_param
    if x.rank != 4:
        raise ModelError(f"layer '{layer.name}' (Pooling) needs [N, C, H, W], it gets {list(x.shape)}.")
    if parameters.pool not in (_MAX, _AVE):
        raise ModelError(f"layer '{layer.name}' (Pooling): stochastic pooling is random. Use MAX or AVE.")
    if parameters.global_pooling:
        operator = "GlobalMaxPool" if parameters.pool == _MAX else "GlobalAveragePool"
        return graph.node(layer, operator, [x], (*x.shape[:2], 1, 1))
    axes = [_axis(layer, extent, side) for extent, side in zip(x.shape[2:], "hw", strict=True)]
    shape = (*x.shape[:2], *(axis.out for axis in axes))
    window = {"kernel_shape": [axis.kernel for axis in axes], "strides": [axis.stride for axis in axes]}
    starts, beyond = [axis.pad for axis in axes], [axis.beyond for axis in axes]
    if parameters.pool == _MAX:
        ends = [start + more for start, more in zip(starts, beyond, strict=True)]
        return graph.node(layer, "MaxPool", [x], shape, pads=[*starts, *ends], **window)
    return [average(graph, layer, x, shape, starts, beyond, window)]


def average(
    graph: Graph,
    layer: Layer,
    x: Value,
    shape: Sequence[int],
    pads: list[int],
    beyond: list[int],
    window: dict[str, Any],
) -> Value:
    """An average that counts ``pads`` on both sides and nothing beyond."""
    if not any(beyond):
        return graph.one(layer, "AveragePool", [x], shape, pads=[*pads, *pads], count_include_pad=1, **window)
    if any(pads):
        amounts = np.array([0, 0, *pads, 0, 0, *pads], np.int64)
        wider = [extent + 2 * pad for extent, pad in zip(x.shape[2:], pads, strict=True)]
        x = graph.one(layer, "Pad", [x, graph.constant(layer, "pads", amounts)], (*x.shape[:2], *wider))
    return graph.one(layer, "AveragePool", [x], shape, pads=[0, 0, *beyond], count_include_pad=0, **window)


def _axis(layer: Layer, extent: int, side: str) -> _Axis:
    parameters = layer.parameters.pooling_param

    def number(field: str, whole: str) -> int:
        own = f"{field}_{side}"
        return int(getattr(parameters, own if parameters.HasField(own) else whole))

    kernel, stride, pad = number("kernel", "kernel_size"), number("stride", "stride"), number("pad", "pad")
    if kernel < 1 or stride < 1 or not 0 <= pad < kernel:
        raise ModelError(f"layer '{layer.name}' (Pooling): its kernel, stride or padding makes no sense.")
    free = extent + 2 * pad - kernel
    floor = parameters.round_mode == _FLOOR or not parameters.ceil_mode
    out = (free // stride if floor else -(-free // stride)) + 1
    if pad and (out - 1) * stride >= extent + pad:
        out -= 1
    if free < 0 or (out - 1) * stride >= extent + pad:
        raise ModelError(
            f"layer '{layer.name}' (Pooling): a window of {kernel} every {stride} has nothing to look at in "
            f"{extent} pixels."
        )
    return _Axis(kernel, stride, pad, out, max(0, (out - 1) * stride + kernel - extent - 2 * pad))
