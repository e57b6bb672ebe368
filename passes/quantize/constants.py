"""The constants of a quantized graph: weights, biases, and constant operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.observers import Range
from irshrink.graph.edit import attribute_int, base_name, constant, input_of
from irshrink.passes.quantize.bias_correction import weight_shift
from irshrink.passes.quantize.plan import Plan
from irshrink.passes.quantize.qdq import QdqWriter
from irshrink.passes.quantize.qparams import TYPES, QParams, activation_qparams, quantize_tensor
from irshrink.passes.quantize.scales import Scales
from irshrink.passes.quantize.weights import WEIGHT_TYPES, QuantizedWeights, quantize_weights

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class ConstantQuantizer:
    """Quantizes what each node reads besides activations.

    Attributes:
        scales: of every value of the plan.
        means: mean per channel of the first inputs of linear operators, by name; empty for no bias
            correction.
        bits: of the weights of a node: 8, 4, 3 or 2.
        adds_bias: give every Conv and Gemm a bias, for one that is corrected later.
        raised: nodes some of whose weight scales had to grow for the sake of the bias.
    """

    plan: Plan
    scales: Scales
    means: Mapping[str, Array]
    per_channel: bool
    symmetric: bool
    bits: Callable[[ir.Node], int]
    adds_bias: bool
    writer: QdqWriter
    raised: list[str] = field(default_factory=list)

    def quantize(self, node: ir.Node) -> None:
        """Replace the constants of ``node`` by dequantized ones."""
        if node in self.plan.runs:
            return  # its numbers are part of a function, which is rounded as a whole
        weight = linear_weight(node)
        for index, value in self.plan.operands(node):
            array = constant(value)
            if array is not None and (index == 0 or weight is None):
                self._operand(node, index, array)
        if weight is not None:
            self._linear(node, weight)

    def _linear(self, node: ir.Node, weight: Array) -> None:
        source = node.inputs[0]
        assert source is not None, "rules.py quantizes no node without its first input"
        axis = output_axis(node, weight) if self.per_channel else None
        x_scale = self.scales.read(node, source).scale
        bias = _bias(node)
        if bias is None and self.adds_bias and node.op_type != "MatMul":
            bias = np.zeros(_outputs(node, weight), np.float32)
        bits = self.bits(node)
        result = quantize_weights(weight, bias, x_scale, axis, bits)
        if node.op_type != "MatMul" and str(source.name) in self.means:
            bias = _corrected(node, weight, bias, result, self.means[str(source.name)])
            result = quantize_weights(weight, bias, x_scale, axis, bits)
        if result.raised:
            self.raised.append(base_name(node))
        kind = WEIGHT_TYPES[bits]
        self.writer.constant(
            node,
            1,
            values=result.weight.astype(kind),
            scale=result.scale,
            zero_point=np.zeros(result.scale.shape, kind),
            axis=axis or 0,
        )
        if result.bias is not None:
            self.writer.constant(node, 2, values=result.bias, scale=result.bias_scale, zero_point=None)

    def _operand(self, node: ir.Node, index: int, array: Array) -> None:
        """A constant in the place of an activation: one scale."""
        values = Range(float(array.min(initial=0)), float(array.max(initial=0)))
        bits = self.scales.widths[node]
        params = activation_qparams(values, self.symmetric, bits) or QParams(1.0, 0, bits)
        self.writer.constant(
            node,
            index,
            values=quantize_tensor(array, params),
            scale=np.array(params.scale, np.float32),
            zero_point=np.array(params.zero_point, TYPES[params.bits].numpy()),
        )


def linear_weight(node: ir.Node) -> Array | None:
    """The constant weights of Conv, ConvTranspose, Gemm, or a MatMul by a matrix; None for others."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    weight = constant(input_of(node, 1))
    if weight is None or (node.op_type == "MatMul" and weight.ndim != 2):
        return None
    return weight


def _bias(node: ir.Node) -> Array | None:
    """The bias as [channels], or None."""
    bias = None if node.op_type == "MatMul" else constant(input_of(node, 2))
    return None if bias is None else bias.reshape(-1)


def output_axis(node: ir.Node, weight: Array) -> int | None:
    """The axis of the weights that counts output channels; None where none does (grouped ConvTranspose)."""
    if node.op_type == "ConvTranspose":
        groups = attribute_int(node, "group", 1)
        if groups == 1:
            return 1
        return 0 if groups == weight.shape[0] and weight.shape[1] == 1 else None
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute_int(node, "transB", 0)):
        return 0
    return 1


def _outputs(node: ir.Node, weight: Array) -> int:
    """How many channels the node writes."""
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1]) * attribute_int(node, "group", 1)
    return int(weight.shape[output_axis(node, weight) or 0])


def _corrected(
    node: ir.Node, weight: Array, bias: Array | None, result: QuantizedWeights, mean: Array
) -> Array:
    """The bias that takes back the mean error of the rounded weights."""
    error = result.dequantized(output_axis(node, weight) or 0) - weight.astype(np.float64)
    shift = weight_shift(node, error, mean)
    return (-shift if bias is None else bias - shift).astype(np.float32)
