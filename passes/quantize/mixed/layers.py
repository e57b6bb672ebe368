"""Layers whose weights can be stored in several ways, and what each way stores.

The model is quantized once at each number of bits, with all layers alike; a layer's constants in these
graphs are its candidates. Whatever rounding, clipping or bias correction the quantizer does is in them.
Any mixture is then a graph of :func:`compose`, with no further look at the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    add_constant,
    attribute_int,
    base_name,
    constant,
    drop_unread_constants,
    input_of,
    is_op,
)
from irshrink.module import Module

Array = np.ndarray[Any, np.dtype[Any]]
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Bits of a layer that stays as it is.
FLOAT = 32


@dataclass(frozen=True)
class Stored:
    """The constants of a layer as one quantizer stores them.

    Attributes:
        tensors: by the name of their initializer.
        nbytes: of these in a model file.
        weight: what they stand for, float32, in the layout of the node.
        bias: float32 [channels], or None.
    """

    tensors: Mapping[str, ir.TensorProtocol]
    nbytes: int
    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Layer:
    """A node with weights that are rounded.

    Attributes:
        index: of the node among the linear ones of the graph.
        name: what recipes call it.
        elements: of the weights.
        nonzeros: of these, before they are rounded.
        stored: by bits, most first.
    """

    index: int
    name: str
    op_type: str
    elements: int
    nonzeros: int
    stored: Mapping[int, Stored]


def linear_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Nodes that multiply by weights or by each other; a quantizer keeps their order."""
    return [node for node in graph if is_op(node, *LINEAR)]


def find_layers(module: Module, quantized: Mapping[int, Module]) -> list[Layer]:
    """The layers of a float model whose weights each of the quantized ones stores.

    Args:
        quantized: the same model by the bits of its weights; :data:`FLOAT` for the float one itself, which
            any layer may keep.
    """
    ways = {bits: linear_nodes(one.graph) for bits, one in sorted(quantized.items(), reverse=True)}
    layers = []
    for index, node in enumerate(linear_nodes(module.graph)):
        found = {bits: _stored(nodes[index]) for bits, nodes in ways.items() if bits != FLOAT}
        stored = {bits: one for bits, one in found.items() if one is not None}
        if not stored:
            continue
        if FLOAT in quantized:
            stored = {FLOAT: _kept(node), **stored}
        weight = constant(node.inputs[1])
        assert weight is not None, "its weights were quantized"
        sizes = weight.size, int(np.count_nonzero(weight))
        layers.append(Layer(index, base_name(node), node.op_type, *sizes, stored))
    return layers


def compose(base: Module, layers: Sequence[Layer], bits: Sequence[int]) -> Module:
    """A quantized model in which each layer has its own bits.

    Args:
        base: the model quantized at the fewest bits, whose opset allows for all.
        bits: one number a layer.
    """
    mixed = base.clone()
    nodes = linear_nodes(mixed.graph)
    for layer, width in zip(layers, bits, strict=True):
        stored = layer.stored[width]
        if width == FLOAT:
            _unquantize(mixed.graph, nodes[layer.index], stored)
            continue
        for name, tensor in stored.tensors.items():
            value = mixed.graph.initializers[name]
            value.const_value, value.dtype = tensor, tensor.dtype
    drop_unread_constants(mixed.graph)
    return mixed


def _stored(node: ir.Node) -> Stored | None:
    """None where the weights are float, or no constant."""
    weight, bias = _dequantize(node, 1), _dequantize(node, 2)
    if weight is None:
        return None
    inputs = [*_constants(weight), *_constants(bias)]
    tensors = {str(v.name): v.const_value for v in inputs if v.const_value is not None}
    real_bias = None if bias is None else _real(bias)
    return Stored(tensors, sum(map(_file_bytes, tensors.values())), _real(weight), real_bias)


def _kept(node: ir.Node) -> Stored:
    weight, bias = constant(node.inputs[1]), None if node.op_type == "MatMul" else constant(input_of(node, 2))
    assert weight is not None, "a layer has constant weights"
    tensors = {f"{base_name(node)}_{i}": ir.Tensor(a) for i, a in enumerate((weight, bias)) if a is not None}
    return Stored(tensors, sum(map(_file_bytes, tensors.values())), weight, bias)


def _dequantize(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear of constants alone that makes an input of a node."""
    value = input_of(node, index)
    producer = None if value is None else value.producer()
    if producer is None or not is_op(producer, "DequantizeLinear"):
        return None
    return producer if all(constant(v) is not None for v in producer.inputs if v is not None) else None


def _constants(dequantize: ir.Node | None) -> list[ir.Value]:
    return [] if dequantize is None else [value for value in dequantize.inputs if value is not None]


def _real(dequantize: ir.Node) -> Array:
    """What symmetric integers stand for, float32: one scale in all, or one per entry of the axis."""
    numbers, scale = (np.asarray(constant(value), np.float64) for value in dequantize.inputs[:2])
    if scale.ndim:
        axis = attribute_int(dequantize, "axis", 1)
        scale = scale.reshape([-1 if i == axis else 1 for i in range(numbers.ndim)])
    return np.asarray(numbers * scale, np.float32)


def _file_bytes(tensor: ir.TensorProtocol) -> int:
    """Bytes of an initializer in a model file: the message, its tag and its length."""
    size = int(ir.to_proto(tensor).ByteSize())
    return 1 + length_bytes(size) + size


def length_bytes(size: int) -> int:
    """Bytes in which protobuf writes that a message takes so many: 7 bits each."""
    return max(1, -(-size.bit_length() // 7))


def _unquantize(graph: ir.Graph, node: ir.Node, stored: Stored) -> None:
    """Give a layer its float constants, and what it reads before that was rounded."""
    source = node.inputs[0]
    dequantize = None if source is None else source.producer()
    quantize = None if dequantize is None or dequantize.inputs[0] is None else dequantize.inputs[0].producer()
    if quantize is not None and is_op(quantize, "QuantizeLinear"):
        node.replace_input_with(0, quantize.inputs[0])
    for index, array in enumerate((stored.weight, stored.bias), start=1):
        if array is not None:
            node.replace_input_with(index, add_constant(graph, array, f"{base_name(node)}_kept_{index}"))
