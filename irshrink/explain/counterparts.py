"""The float weights behind rounded ones, from the float model's node that computes the same value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.explain.points import LINEAR, MOVES, Point
from irshrink.explain.stored import Stored
from irshrink.graph.edit import constant, input_of, is_constant, is_op

Array = np.ndarray[Any, np.dtype[Any]]

#: Correlation from which on two arrays of weights are the same ones, rounded.
_SAME = 0.3


def float_constants(point: Point, known: Mapping[Point, ir.Value]) -> dict[Stored, Array]:
    """Float arrays for weight and bias of a layer, as far as they are known, in the layout of the codes."""
    value, weight, bias = known.get(point), point.weight, point.bias
    node = None if value is None else _linear_behind(value)
    if node is None or weight is None:
        return {}
    array = constant(input_of(node, 1))
    if array is None:
        return {}
    found = next((a for a in (array, array.T) if a.shape == weight.codes.shape), None)
    if found is None or not _same(found, weight.real):
        return {}
    result = {weight: np.ascontiguousarray(found, np.float32)}
    if bias is not None:
        given = constant(input_of(node, 2)) if len(node.inputs) > 2 else _added(node)
        real = np.zeros(bias.codes.shape, np.float32) if given is None else given
        if real.size == bias.codes.size:
            result[bias] = real.reshape(bias.codes.shape).astype(np.float32)
    return result


def _linear_behind(value: ir.Value) -> ir.Node | None:
    """The layer whose result reaches ``value`` through activations and moves alone."""
    node = value.producer()
    while node is not None and not is_op(node, *LINEAR):
        varying = [v for v in node.inputs if v is not None and not is_constant(v)]
        if len(varying) != 1 or not is_op(node, *MOVES, "Relu", "Clip", "Add"):
            return None
        node = varying[0].producer()
    return node


def _added(node: ir.Node) -> Array | None:
    """The constant that an Add right behind a MatMul adds."""
    readers = node.outputs[0].consumers()
    if len(readers) != 1 or not is_op(readers[0], "Add"):
        return None
    return next((a for v in readers[0].inputs if (a := constant(v)) is not None), None)


def _same(a: Array, b: Array) -> bool:
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    length = np.sqrt((x @ x) * (y @ y))
    return bool(length > 0 and (x @ y) / length > _SAME)
