"""Pow."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.floating import binary_f32, unary_f32
from irshrink.program.lower.rules.functions import Elementwise
from irshrink.program.lower.rules.unary import apply
from irshrink.program.lower.view import View

#: Whole exponents up to this are products.
LARGEST = 64


def power(lowering: Lowering, node: ir.Node) -> None:
    """By a constant number: a table in int8; in float products, roots, or exp and log. Else exp and log."""
    exponent = lowering.constants.array(node.inputs[1])
    if exponent is None or exponent.size != 1:
        lowering.float_note(node, "its exponent is not one constant number")
        base, exponents = lowering.floating(node, 0), lowering.floating(node, 1)
        lowering.bind(node.outputs[0], binary_f32(lowering, node, "pow", base, exponents))
        return
    number = float(exponent.item())
    x = lowering.real(node, 0)
    if lowering.builder.quantization(x) is not None and lowering.sink(node) is not None:
        apply(lowering, node, Elementwise(lambda v: np.power(v, number), "power", number))
        return
    lowering.float_note(node, "its input or output is not quantized")
    lowering.bind(node.outputs[0], powered(lowering, node, lowering.builder.as_float(x), number))


def powered(lowering: Lowering, node: ir.Node, x: View, number: float) -> View:
    """``x ** number`` in float32."""
    if number < 0:
        return unary_f32(lowering, node, powered(lowering, node, x, -number), "reciprocal")
    if number == 0.5:
        return unary_f32(lowering, node, x, "sqrt")
    if number != int(number):
        return unary_f32(lowering, node, x, "power", number)
    if not 1 <= number <= LARGEST:
        raise Refusal(f"its exponent is {number}", f"Use one of at most {LARGEST}, or one that is not whole.")
    result: View | None = None
    square, left = x, int(number)
    while left:
        if left % 2:
            result = square if result is None else binary_f32(lowering, node, "mul", result, square)
        left //= 2
        square = binary_f32(lowering, node, "mul", square, square) if left else square
    assert result is not None
    return result
