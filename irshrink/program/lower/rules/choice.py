"""Comparisons, tests and Where."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import aligned, constant_integers, elementwise, integers_of, same_kind
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import BinaryInteger, Compare, Comparison, Where

COMPARISONS: dict[str, Comparison] = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greaterorequal",
    "Less": "less",
    "LessOrEqual": "lessorequal",
}


def compare(lowering: Lowering, node: ir.Node) -> None:
    """Of real numbers in float32, of integers in int32."""
    views = [lowering.view(value) for value in node.inputs]
    if any(view.stored is not None for view in views):
        views = [integers_of(lowering, node, view) for view in views]
    else:
        views = [lowering.builder.as_float(view) for view in views]
        lowering.float_note(node, "it compares real numbers")
    y = elementwise(lowering, node, Compare, views, "bool", kind=COMPARISONS[node.op_type])
    lowering.bind(node.outputs[0], y)


def is_nan(lowering: Lowering, node: ir.Node) -> None:
    """What is not equal to itself."""
    x = lowering.floating(node, 0)
    y = elementwise(lowering, node, Compare, [x, x], "bool", kind="notequal")
    lowering.bind(node.outputs[0], y)


def is_inf(lowering: Lowering, node: ir.Node) -> None:
    """What is equal to infinity, or to its negative."""
    x = lowering.floating(node, 0)
    wanted = [
        number
        for name, number in (("detect_positive", np.inf), ("detect_negative", -np.inf))
        if edit.attribute_int(node, name, 1)
    ]
    found = [_equals(lowering, node, x, number) for number in wanted or [np.nan]]  # nothing equals NaN
    y = found[0]
    if len(found) == 2:
        y = elementwise(lowering, node, BinaryInteger, found, "bool", kind="or")
    lowering.bind(node.outputs[0], y)


def where(lowering: Lowering, node: ir.Node) -> None:
    """Any element type: the bytes of one operand or the other."""
    condition = lowering.view(node.inputs[0])
    if condition.stored != "bool":
        raise Refusal("its condition is no truth value", "The model is damaged; export it again.")
    bind_choice(lowering, node, condition, lowering.view(node.inputs[1]), lowering.view(node.inputs[2]))


def bind_choice(lowering: Lowering, node: ir.Node, condition: View, a: View, b: View) -> None:
    """The output of ``node`` is a where ``condition`` holds, b elsewhere."""
    a, b = same_kind(lowering, [a, b])
    if a.stored is None and lowering.builder.quantization(a) is None:
        lowering.float_note(node, "it chooses between real numbers")
    operands = aligned(lowering, condition, a, b)
    tensor = lowering.emit_like(a, Where, node, operands.tensors, operands.shape)
    lowering.bind(node.outputs[0], View(tensor, operands.view.axes, a.stored))


def index_range(lowering: Lowering, size: int, rank: int, axis: int) -> View:
    """0, 1, ... along one of ``rank`` axes."""
    shape = [size if place == axis else 1 for place in range(rank)]
    return constant_integers(lowering, np.arange(size).reshape(shape), "int32")


def _equals(lowering: Lowering, node: ir.Node, x: View, number: float) -> View:
    constant = view_of(lowering.builder.constant("constant", np.array(number, np.float32)), ())
    return elementwise(lowering, node, Compare, [x, constant], "bool", kind="equal")
