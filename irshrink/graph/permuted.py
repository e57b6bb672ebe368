"""Operators on permuted data: ``f(transpose(x, p)) = transpose(g(x), q)``, which ``g`` and which ``q``.

A permutation p is what ONNX's Transpose takes: axis i of the result is axis ``p[i]`` of the operand. ``f``
does not mind the order of its axes but may number some (``axis``, ``pads``); ``g`` numbers them anew.
Constant operands are transposed along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Array,
    attribute_int,
    attribute_string,
    constant,
    input_of,
    is_op,
    opset,
    rank,
)

Permutation = tuple[int, ...]

UNARY = frozenset(
    {
        *("Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"),
        *("Sign", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
    }
)
BROADCASTING = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"})
_AXIS_DEFAULTS = {"DequantizeLinear": 1, "LogSoftmax": -1, "QuantizeLinear": 1, "Softmax": -1}
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})


@dataclass(frozen=True)
class Dequantized:
    """A DequantizeLinear of transposed integers, with the scale and zero point of ``node``."""

    node: ir.Node
    integers: Array
    axis: int | None


#: An input of ``g``: what ``f`` reads there before the Transpose, or something new.
Operand = ir.Value | Array | Dequantized | None


@dataclass(frozen=True)
class Permuted:
    """``g`` and ``q`` of the module's docstring.

    Attributes:
        inputs: of ``g``; a value of ``data`` stands for what it was transposed from.
        data: the values that arrive transposed.
        attributes: of ``g``, where they differ from those of ``f``.
        permutation: ``q``.
    """

    inputs: tuple[Operand, ...]
    data: tuple[ir.Value, ...]
    attributes: Mapping[str, Any]
    permutation: Permutation


def permuted(node: ir.Node, arriving: Mapping[ir.Value, Permutation]) -> Permuted | None:
    """How ``node`` computes from operands that were not transposed, None when it cannot.

    Args:
        arriving: the values that are transposed, with their permutation.
    """
    rule = _RULES.get(node.op_type)
    first = input_of(node, 0)
    if rule is None or first is None or not is_op(node, node.op_type) or len(node.outputs) != 1:
        return None
    data = [value for value in node.inputs if value is not None and value in arriving]
    orders = {arriving[value] for value in data}
    return rule(node, tuple(data), orders.pop()) if len(orders) == 1 else None


def composed(first: Permutation, second: Permutation) -> Permutation:
    """``transpose(transpose(x, first), second) = transpose(x, composed)``."""
    return tuple(first[axis] for axis in second)


def moves_nothing(permutation: Permutation, shape: tuple[int, ...]) -> bool:
    """Whether a Transpose to ``shape`` leaves all elements in their order: only axes of size 1 move."""
    moving = [axis for axis, size in zip(permutation, shape, strict=True) if size != 1]
    return moving == sorted(moving)


def _unary(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    if data != (node.inputs[0],):
        return None
    return Permuted(tuple(node.inputs), data, {}, order)


def _along_axis(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    """Operators of one tensor that work along an axis: Softmax, and QDQ nodes with a scale per channel."""
    if data != (node.inputs[0],) or (node.op_type.endswith("Softmax") and opset(_graph(node)) < 13):
        return None
    axis = attribute_int(node, "axis", _AXIS_DEFAULTS[node.op_type])
    if node.op_type.endswith("Linear"):
        if attribute_int(node, "block_size", 0):
            return None
        scale = constant(node.inputs[1])
        if scale is not None and scale.size == 1:
            return Permuted(tuple(node.inputs), data, {}, order)
    if not -len(order) <= axis < len(order):
        return None  # of a scale that is computed: nothing has checked it
    return Permuted(tuple(node.inputs), data, {"axis": order[axis]}, order)


def _broadcasting(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    """Operands of lower rank or size 1 broadcast; only constants may differ from the transposed ones."""
    inputs: list[Operand] = []
    for value in node.inputs:
        moved = value if value in data else _constant_operand(value, order)
        if moved is None:
            return None
        inputs.append(moved)
    if any(rank(value) != len(order) for value in data):
        return None
    return Permuted(tuple(inputs), data, {}, order)


def _concat(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    inputs: list[Operand] = []
    for value in node.inputs:
        moved = value if value in data else _constant_operand(value, order, scalars=False)
        if moved is None:
            return None
        inputs.append(moved)
    return Permuted(tuple(inputs), data, {"axis": order[attribute_int(node, "axis", 0)]}, order)


def _pad(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    pads, axes = constant(input_of(node, 1)), constant(input_of(node, 3))
    if data != (node.inputs[0],) or pads is None or (axes is None and input_of(node, 3) is not None):
        return None
    places = range(len(order)) if axes is None else [int(axis) for axis in axes.reshape(-1)]
    borders = np.zeros((2, len(order)), np.int64)
    for place, (before, after) in zip(places, pads.reshape(2, -1).T, strict=True):
        borders[:, order[place]] = before, after
    inputs: tuple[Operand, ...] = (node.inputs[0], borders.reshape(-1))
    if input_of(node, 2) is not None:
        inputs = (*inputs, node.inputs[2])
    mode = attribute_string(node, "mode", "constant")
    return Permuted(inputs, data, {"mode": mode}, order)


def _reduction(node: ir.Node, data: tuple[ir.Value, ...], order: Permutation) -> Permuted | None:
    axes = constant(input_of(node, 1))
    if data != (node.inputs[0],) or axes is None or "axes" in node.attributes:
        return None
    reduced = sorted(order[int(axis)] for axis in axes.reshape(-1))
    if not reduced:
        return None
    inputs = (node.inputs[0], np.array(reduced, np.int64))
    if attribute_int(node, "keepdims", 1):
        return Permuted(inputs, data, {}, order)
    kept = [axis for axis in order if axis not in reduced]
    return Permuted(inputs, data, {}, tuple(sorted(kept).index(axis) for axis in kept))


def _constant_operand(value: ir.Value | None, order: Permutation, *, scalars: bool = True) -> Operand:
    """A constant, transposed back, so that it meets the operand before the Transpose; None when it varies."""
    array, node = constant(value), None if value is None else value.producer()
    if array is not None:
        return value if scalars and array.size == 1 and array.ndim < 2 else _moved_back(array, order)
    if value is None or node is None or not is_op(node, "DequantizeLinear"):
        return None
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if integers is None or scale is None or attribute_int(node, "block_size", 0):
        return None
    moved = _moved_back(integers, order)
    if moved is None:
        return None
    axis = None
    if scale.size > 1:
        given = attribute_int(node, "axis", 1)
        axis = order[(given + integers.ndim if given < 0 else given) + len(order) - integers.ndim]
    return Dequantized(node, moved, axis)


def _moved_back(array: Array, order: Permutation) -> Array | None:
    if array.ndim > len(order):
        return None
    inverse = [order.index(axis) for axis in range(len(order))]
    moved: Array = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(inverse)
    return moved


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph), "the node was removed before"
    return node.graph


_Rule = Callable[[ir.Node, tuple[ir.Value, ...], Permutation], Permuted | None]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BROADCASTING, _broadcasting),
    **dict.fromkeys(_AXIS_DEFAULTS, _along_axis),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "Concat": _concat,
    "Pad": _pad,
}
