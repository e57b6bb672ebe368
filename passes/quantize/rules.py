"""Which operators run in int8, on which of their inputs, and when they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from irshrink.graph.edit import (
    attribute_float,
    attribute_int,
    attribute_ints,
    attribute_string,
    constant,
    input_of,
    rank,
    scalar,
)

Refuse = Callable[[ir.Node], "str | None"]


@dataclass(frozen=True)
class Rule:
    """How one operator is quantized.

    Attributes:
        kind: ``linear`` is worth a quantization of its own; ``light`` follows a neighbour that is in
            int8; ``copy`` moves values without changing them, so input and output share one scale.
        operands: ``first``, ``both`` or ``all`` inputs carry activations.
        refuse: why this node stays float (half a sentence), or None.
    """

    kind: Literal["linear", "light", "copy"]
    operands: Literal["first", "both", "all"] = "first"
    refuse: Refuse = lambda node: None

    def indices(self, node: ir.Node) -> range:
        """Indices of the inputs that carry activations (or constants in their place)."""
        count = {"first": 1, "both": 2, "all": len(node.inputs)}[self.operands]
        return range(count)


def _conv(node: ir.Node) -> str | None:
    if constant(input_of(node, 1)) is None:
        return "its weights are not constant"
    if input_of(node, 2) is not None and constant(input_of(node, 2)) is None:
        return "its bias is not constant"
    return None


def _gemm(node: ir.Node) -> str | None:
    weight, bias = constant(input_of(node, 1)), constant(input_of(node, 2))
    if weight is None:
        return "its weights are not constant"
    if attribute_int(node, "transA", 0) or attribute_float(node, "alpha", 1.0) != 1.0:
        return "transA or alpha is set"
    if input_of(node, 2) is None:
        return None
    if bias is None or attribute_float(node, "beta", 1.0) != 1.0:
        return "its bias is scaled or not constant"
    columns = weight.shape[0 if attribute_int(node, "transB", 0) else 1]
    if bias.size != columns or bias.shape[-1:] != (columns,):
        return "its bias is not one number for each column"
    return None


def _clip(node: ir.Node) -> str | None:
    for index in (1, 2):
        if input_of(node, index) is not None and scalar(input_of(node, index)) is None:
            return "its limits are not constant"
    return None


def _pad(node: ir.Node) -> str | None:
    mode = attribute_string(node, "mode", "constant")
    if constant(input_of(node, 1)) is None:
        return "its pads are not constant"
    if mode == "constant" and input_of(node, 2) is not None and scalar(input_of(node, 2)) != 0:
        return "it pads with something other than 0"
    return None


def _reduce_mean(node: ir.Node) -> str | None:
    dims = rank(node.inputs[0])
    axes = attribute_ints(node, "axes")
    given = constant(input_of(node, 1))
    if given is not None:
        axes = tuple(int(a) for a in given.reshape(-1))
    spatial = None if dims is None else set(range(2, dims))
    if axes is None or not spatial or {a % (dims or 1) for a in axes} != spatial:
        return "it is not over the spatial axes"
    return None


def _divide(node: ir.Node) -> str | None:
    numbers = [constant(value) for value in node.inputs]
    return None if any(n is not None and n.size == 1 for n in numbers) else "neither operand is one constant"


def _prelu(node: ir.Node) -> str | None:
    return "its slopes are not constant" if constant(input_of(node, 1)) is None else None


def _constant_axes(node: ir.Node) -> str | None:
    if input_of(node, 1) is not None and constant(input_of(node, 1)) is None:
        return "its axes are not constant"
    return None


def _resize(node: ir.Node) -> str | None:
    shape = node.outputs[0].shape
    if shape is None or not shape.is_static():
        return "its size is not constant"
    crops = attribute_string(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return "it crops while it resizes" if crops else None


def _maxpool(node: ir.Node) -> str | None:
    return "its indices are used" if len(node.outputs) > 1 and node.outputs[1].uses() else None


#: Functions of one value whose result an int8 range serves well.
FUNCTIONS = (
    *("Abs", "Celu", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Selu"),
    *("Shrink", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
)

RULES: dict[str, Rule] = {
    "Conv": Rule("linear", refuse=_conv),
    "ConvTranspose": Rule("linear", refuse=_conv),
    "Gemm": Rule("linear", refuse=_gemm),
    "MatMul": Rule("linear", "both"),
    "Add": Rule("light", "both"),
    "Sub": Rule("light", "both"),
    "Mul": Rule("light", "both"),
    "Div": Rule("light", "both", refuse=_divide),
    "PRelu": Rule("light", "both", refuse=_prelu),
    "Concat": Rule("light", "all"),
    "AveragePool": Rule("light"),
    "GlobalAveragePool": Rule("light"),
    "ReduceMean": Rule("light", refuse=_reduce_mean),
    "Resize": Rule("light", refuse=_resize),
    "Relu": Rule("light"),
    "Clip": Rule("light", refuse=_clip),
    **dict.fromkeys(FUNCTIONS, Rule("light")),
    "Softmax": Rule("light"),
    "MaxPool": Rule("copy", refuse=_maxpool),
    "GlobalMaxPool": Rule("copy"),
    "ReduceMax": Rule("copy", refuse=_constant_axes),
    "ReduceMin": Rule("copy", refuse=_constant_axes),
    "Pad": Rule("copy", refuse=_pad),
    "Expand": Rule("copy"),
    "Tile": Rule("copy"),
    "DepthToSpace": Rule("copy"),
    "SpaceToDepth": Rule("copy"),
    "Flatten": Rule("copy"),
    "Identity": Rule("copy"),
    "Reshape": Rule("copy"),
    "Slice": Rule("copy"),
    "Split": Rule("copy"),
    "Squeeze": Rule("copy"),
    "Transpose": Rule("copy"),
    "Unsqueeze": Rule("copy"),
}


def rule_of(node: ir.Node) -> Rule | None:
    """The rule of an operator; the nearest pixel is a copy."""
    if node.op_type == "Resize" and attribute_string(node, "mode", "nearest") == "nearest":
        return Rule("copy", refuse=_resize)
    return RULES.get(node.op_type)


#: Elementwise: with one varying operand they are a function of it, and a run of them is one function.
POINTS = frozenset({"Add", "Clip", "Div", "Mul", "Relu", "Sub", *FUNCTIONS})

#: An activation right behind one of these is part of it: one rounding for both.
FUSES_ACTIVATION = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
FUSED_ACTIVATIONS = frozenset({"Relu", "Clip"})
