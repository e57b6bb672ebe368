"""QLinearConv and its like become QDQ: float operators between DequantizeLinear and QuantizeLinear.

Quantized models come in two formats. In the operator format each operator takes integers, scales and zero
points, and gives integers; in QDQ the same is a float operator with conversions around it, which is what
every later pass and the lowering know. Both mean the same numbers; ONNX Runtime's integer kernels and the
float form may round a tie to different sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    ONNX_DOMAINS,
    Refusal,
    add_constant,
    attribute_int,
    base_name,
    constant,
    describe,
    input_of,
    insert_before,
    opset,
    remove,
    replace_value,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: DequantizeLinear has an axis from here on.
_OPSET = 13
_OWN = frozenset({"QLinearConv", "QLinearMatMul"})


@dataclass(frozen=True)
class QOperatorToQdq:
    """Write operators on quantized integers as QDQ."""

    name: ClassVar[str] = "qoperator-to-qdq"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        count = 0
        for node in tuple(module.graph):
            rule = _RULES.get(node.op_type)
            if rule is None or node.domain not in (
                ONNX_DOMAINS if node.op_type in _OWN else ("com.microsoft",)
            ):
                continue
            try:
                _replace(node, rule)
                count += 1
            except Refusal as reason:
                ctx.note(f"{describe(node)}: {reason}")
        return PassResult(count > 0, stats={"replaced": count})


#: What computes on real numbers, and the inputs of the node that hold scale and zero point of the result.
_Result = tuple[ir.Value, int]


def _replace(node: ir.Node, rule: Callable[[ir.Node], _Result]) -> None:
    assert isinstance(node.graph, ir.Graph)
    if opset(node.graph) < _OPSET:
        raise Refusal(f"opset {opset(node.graph)} has no scales per channel")
    real, parameters = rule(node)
    scale, zero_point = input_of(node, parameters), input_of(node, parameters + 1)
    if scale is None:  # QGemm may give real numbers
        result = real
    else:
        result = insert_before(node, "QuantizeLinear", [real, scale, zero_point]).outputs[0]
        result.type = node.outputs[0].type
    old, name = node.outputs[0], node.outputs[0].name
    replace_value(old, result)
    remove(node)
    if old.name is not None:  # an output of the model has handed its name on
        old.name, result.name = None, name


def _real(node: ir.Node, first: int, axis: int = 0) -> ir.Value:
    """The real numbers of integers, scale and zero point in three inputs from ``first`` on."""
    value, scale, zero_point = (input_of(node, first + i) for i in range(3))
    new = insert_before(node, "DequantizeLinear", [value, scale, zero_point], {"axis": axis})
    new.outputs[0].type = None if scale is None else scale.type
    return new.outputs[0]


def _apply(node: ir.Node, op_type: str, inputs: list[ir.Value], *kept: str) -> ir.Value:
    """The float operator, with the attributes that it shares with the quantized one."""
    attributes = {name: node.attributes[name].value for name in kept if name in node.attributes}
    new = insert_before(node, op_type, inputs, attributes)
    new.outputs[0].type = inputs[0].type
    return new.outputs[0]


def _conv(node: ir.Node) -> _Result:
    bias = _bias(node, 8, (1, 4))
    inputs = [_real(node, 0), _real(node, 3), *bias]
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return _apply(node, "Conv", inputs, *names), 6


def _bias(node: ir.Node, index: int, scales: tuple[int, int]) -> list[ir.Value]:
    """An int32 bias in steps of the product of two scales, if there is one."""
    if input_of(node, index) is None:
        return []
    x, w = (constant(input_of(node, i)) for i in scales)
    if x is None or w is None:
        raise Refusal("its scales are computed at run time")
    assert isinstance(node.graph, ir.Graph)
    steps = (x.reshape(()) * w.reshape(-1)).astype(np.float32)
    steps = steps.reshape(()) if steps.size == 1 else steps
    scale = add_constant(node.graph, steps, f"{base_name(node)}_bias_scale")
    new = insert_before(node, "DequantizeLinear", [input_of(node, index), scale], {"axis": 0})
    new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return [new.outputs[0]]


def _matmul(node: ir.Node) -> _Result:
    weight = input_of(node, 3)
    rank = weight.shape.rank() if weight is not None and weight.shape is not None else 2
    return _apply(node, "MatMul", [_real(node, 0), _real(node, 3, axis=rank - 1)]), 6


def _gemm(node: ir.Node) -> _Result:
    transposed = attribute_int(node, "transB", 0)
    bias = _bias(node, 6, (1, 4))
    inputs = [_real(node, 0), _real(node, 3, axis=0 if transposed else 1), *bias]
    return _apply(node, "Gemm", inputs, "alpha", "transA", "transB"), 7


def _binary(op_type: str) -> Callable[[ir.Node], _Result]:
    return lambda node: (_apply(node, op_type, [_real(node, 0), _real(node, 3)]), 6)


def _unary(op_type: str, *kept: str) -> Callable[[ir.Node], _Result]:
    def rule(node: ir.Node) -> _Result:
        if attribute_int(node, "channels_last", 0):
            raise Refusal("its channels are last")
        return _apply(node, op_type, [_real(node, 0)], *kept), 3

    return rule


def _concat(node: ir.Node) -> _Result:
    parts = [_real(node, first) for first in range(2, len(node.inputs), 3)]
    return _apply(node, "Concat", parts, "axis"), 0


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_RULES: dict[str, Callable[[ir.Node], _Result]] = {
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool", *_POOL),
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu", "alpha"),
    "QLinearMatMul": _matmul,
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
}
