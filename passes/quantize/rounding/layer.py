"""A layer with weights, once in the quantized graph and once in the float graph that it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import constant, input_of
from irshrink.passes.quantize.weights import WEIGHT_TYPES, QuantizedWeights

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layer:
    """A layer of the quantized graph.

    Attributes:
        node: reads dequantized weights and, where the bias is corrected, a dequantized bias.
        original: the same node of the float graph.
        x_scale: of what it reads.
        per_channel: whether every output channel has a scale of its own.
        bits: of its weights.
    """

    node: ir.Node
    original: ir.Node
    x_scale: float
    per_channel: bool
    bits: int

    @property
    def key(self) -> str:
        """A name that is the same in all variants of a model."""
        return str(self.original.outputs[0].name)


def stored(node: ir.Node, index: int) -> tuple[ir.Value, ir.Value]:
    """The integers and the scale that input ``index`` of a layer is dequantized from."""
    value = node.inputs[index]
    dequantize = None if value is None else value.producer()
    assert dequantize is not None, "the graph is quantized"
    integers, scale = dequantize.inputs[:2]
    assert integers is not None
    assert scale is not None
    return integers, scale


def read_layer(layer: Layer) -> QuantizedWeights:
    """The integers and scales that the layer reads."""
    weight, scale = map(_array, stored(layer.node, 1))
    if input_of(layer.node, 2) is None:
        return QuantizedWeights(weight, scale, None, scale, ())
    bias, bias_scale = map(_array, stored(layer.node, 2))
    return QuantizedWeights(weight, scale, bias, bias_scale, ())


def write_layer(layer: Layer, settled: QuantizedWeights) -> None:
    """Put integers and scales in the place of those that the layer reads."""
    write_weights(layer, settled.weight)
    _write(stored(layer.node, 1)[1], settled.scale)
    if settled.bias is not None:
        for value, array in zip(stored(layer.node, 2), (settled.bias, settled.bias_scale), strict=True):
            _write(value, array)


def write_weights(layer: Layer, integers: Array) -> None:
    """Put other integers in the place of the weights'; their scales stay."""
    _write(stored(layer.node, 1)[0], integers.astype(WEIGHT_TYPES[layer.bits]))


def _array(value: ir.Value) -> Array:
    array = constant(value)
    assert array is not None, "a quantizer stores constants"
    return array


def _write(value: ir.Value, array: Array) -> None:
    value.const_value = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=value.name)
