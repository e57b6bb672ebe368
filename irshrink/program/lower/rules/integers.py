"""Arithmetic on integers and truth values: everything comes down to operators of two operands."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import constant_integers, elementwise, integers_of, narrowed
from irshrink.program.lower.view import View
from irshrink.program.ops import BinaryInteger, IntegerKind

KINDS: dict[str, IntegerKind] = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max", "Sum": "add",
    "And": "and", "Or": "or", "Xor": "xor",
    "BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor",
}  # fmt: skip
UNARY = frozenset({"Abs", "BitwiseNot", "Neg", "Not", "Relu", "Sign"})


def computes_integers(lowering: Lowering, node: ir.Node) -> bool:
    """Whether the first input of a node is integers or truth values."""
    constant = lowering.constants.get(node.inputs[0])
    if constant is not None:
        return constant.array.dtype.kind in "iub"
    return lowering.view(node.inputs[0]).stored is not None


def binary(lowering: Lowering, node: ir.Node) -> None:
    """Two or more operands, first to last."""
    kind = KINDS.get(node.op_type) or _kind(node)
    operands = [lowering.view(value) for value in node.inputs]
    element = str(operands[0].stored)
    wide = [integers_of(lowering, node, view) for view in operands]
    result = reduce(lambda a, b: _combined(lowering, node, kind, a, b), wide)
    lowering.bind(node.outputs[0], narrowed(lowering, node, result, element))


def unary(lowering: Lowering, node: ir.Node) -> None:
    """Neg, Abs, Sign, Relu, Not and BitwiseNot."""
    view = lowering.view(node.inputs[0])
    element = str(view.stored)
    x = integers_of(lowering, node, view)

    def with_number(kind: IntegerKind, operand: View, number: int, *, first: bool = False) -> View:
        other = constant_integers(lowering, np.array(number), "bool" if element == "bool" else "int32")
        return _combined(lowering, node, kind, *((other, operand) if first else (operand, other)))

    if node.op_type == "Not":
        y = with_number("xor", x, 1)
    elif node.op_type == "BitwiseNot":
        y = with_number("xor", x, -1)
    elif node.op_type == "Sign":
        y = with_number("max", with_number("min", x, 1), -1)
    elif node.op_type == "Relu":
        y = with_number("max", x, 0)
    else:
        y = with_number("sub", x, 0, first=True)
        y = _combined(lowering, node, "max", x, y) if node.op_type == "Abs" else y
    lowering.bind(node.outputs[0], narrowed(lowering, node, y, element))


def clip(lowering: Lowering, node: ir.Node) -> None:
    """Bounds may be computed at run time."""
    view = lowering.view(node.inputs[0])
    y = integers_of(lowering, node, view)
    for index, kind in ((1, "max"), (2, "min")):
        value = edit.input_of(node, index)
        if value is not None:
            bound = integers_of(lowering, node, lowering.view(value))
            y = _combined(lowering, node, "max" if kind == "max" else "min", y, bound)
    lowering.bind(node.outputs[0], narrowed(lowering, node, y, str(view.stored)))


def mod(lowering: Lowering, node: ir.Node) -> None:
    if not computes_integers(lowering, node):
        raise Refusal("it is a remainder of real numbers", "Compute it as x - floor(x / y) * y.")
    binary(lowering, node)


def _kind(node: ir.Node) -> IntegerKind:
    if node.op_type == "BitShift":
        return "shl" if edit.attribute_string(node, "direction", "") == "LEFT" else "shr"
    return "fmod" if edit.attribute_int(node, "fmod", 0) else "mod"


def _combined(lowering: Lowering, node: ir.Node, kind: IntegerKind, a: View, b: View) -> View:
    element = "bool" if a.stored == "bool" else "int32"
    y = elementwise(lowering, node, BinaryInteger, [a, b], element, kind=kind)
    return replace(y, stored=a.stored)
