"""Runs of operators that are a function of one int8 value: one table, rounded once.

``x * clip(x + 3, 0, 6) / 6`` between two quantizations depends on x alone, however many nodes write it. The
table is computed backwards from the node that is quantized; what the nodes before it emitted in float is then
read by nobody, and leaves the program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.chains import bounds
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import Function, table
from irshrink.program.lower.rules.functions import BINARY, EXACT, FUNCTIONS
from irshrink.program.lower.view import View
from irshrink.program.ops import TableInt8

#: A function written in more nodes than this is no activation.
DEEPEST = 16


@dataclass(frozen=True)
class Point:
    """A function of the int8 value ``x``, in float64; None of none (a constant number).

    Attributes:
        nodes: that compute it, first to last.
    """

    x: View | None
    function: Function
    nodes: tuple[ir.Node, ...] = ()


def as_table(lowering: Lowering, node: ir.Node) -> bool:
    """Emit ``node`` as a table if it is quantized and a function of one int8 value."""
    sink = lowering.sink(node)
    if sink is None:
        return False
    point = _traced(lowering, node.outputs[0], DEEPEST)
    if point is None or point.x is None:
        return False
    x, held = point.x, lowering.builder.quantization(point.x)
    assert held is not None
    entries = table(point.function, held, sink.quantization, sink.low, sink.high)
    before = [other for other in point.nodes if other is not node]
    shape = lowering.builder.shape(x.tensor)
    tensor = lowering.emit_int8(TableInt8, node, [x.tensor], shape, sink=sink, also=before, table=entries)
    lowering.bind(node.outputs[0], x.on(tensor))
    return True


def _traced(lowering: Lowering, value: ir.Value | None, depth: int) -> Point | None:
    """``value`` as a function, None when it depends on more than one value, or on one that is not int8."""
    constant = lowering.constants.get(value)
    if constant is not None:
        if constant.array.size != 1 or constant.array.dtype.kind != "f":
            return None
        number = np.float64(constant.array.reshape(()))
        return Point(None, lambda x: np.full_like(x, number))
    if value is None or depth == 0:
        return None
    if lowering.knows(value):
        view = lowering.view(value)
        if view.stored is None and lowering.builder.quantization(view) is not None:
            return Point(view, lambda x: x)
    node = value.producer()
    return None if node is None else _node(lowering, node, depth - 1)


def _node(lowering: Lowering, node: ir.Node, depth: int) -> Point | None:
    clamp = bounds(node, lowering.constants)
    if clamp is not None or node.op_type in FUNCTIONS:
        inner = _traced(lowering, node.inputs[0], depth)
        if inner is None:
            return None
        exact: Function = FUNCTIONS[node.op_type](node).exact if clamp is None else clamp.applied
        return Point(inner.x, lambda x: exact(inner.function(x)), (*inner.nodes, node))
    if node.op_type not in BINARY or len(node.inputs) != 2:
        return None
    a, b = (_traced(lowering, value, depth) for value in node.inputs)
    if a is None or b is None or not _same(a.x, b.x) or not _keeps_shape(lowering, node, a.x or b.x):
        return None
    first, second, operation = a.function, b.function, EXACT[BINARY[node.op_type]]
    nodes = tuple(dict.fromkeys((*a.nodes, *b.nodes, node)))
    return Point(a.x or b.x, lambda x: operation(first(x), second(x)), nodes)


def _same(a: View | None, b: View | None) -> bool:
    return a is None or b is None or (a.tensor, a.axes) == (b.tensor, b.axes)


def _keeps_shape(lowering: Lowering, node: ir.Node, x: View | None) -> bool:
    """Whether no constant operand has more axes than the value."""
    arrays = (lowering.constants.array(value) for value in node.inputs)
    return x is None or all(array is None or array.ndim <= x.rank for array in arrays)
