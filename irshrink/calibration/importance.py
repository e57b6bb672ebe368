"""How much an error in a channel of an activation matters to the layers that read it.

A layer with weights W that reads x + e instead of x is off by W e. With errors of the channels that have
nothing to do with each other,

    E |W e|^2 = sum_c |W_c|^2 E[e_c^2]

where W_c are all weights that read channel c. So the output error of the layers that read a value is the
squared error of the value with a weight |W_c|^2 for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Refusal, is_op, static_shape
from irshrink.graph.linear import is_linear, linear_op

Array = np.ndarray[Any, np.dtype[Any]]


def channel_importance(graph: ir.Graph, names: Sequence[str]) -> dict[str, tuple[int, Array]]:
    """For values that linear operators read: axis of the channels, and ``|W_c|^2`` summed over the readers.

    A clamp in between is seen through. Values that no linear operator reads are left out.
    """
    values = {str(v.name): v for v in graph.inputs} | {str(v.name): v for n in graph for v in n.outputs}
    found: dict[str, tuple[int, Array]] = {}
    for name in names:
        importance = _importance(values[name]) if name in values else None
        if importance is not None:
            found[name] = importance
    return found


def _importance(value: ir.Value) -> tuple[int, Array] | None:
    shape = static_shape(value)
    if shape is None:
        return None
    total: Array | None = None
    axis = 0
    for node in _readers(value):
        try:
            op = linear_op(node)
        except Refusal:
            continue
        energy = np.square(op.weight).sum(axis=(1, 3)).reshape(-1)
        if shape[op.channel_axis] != len(energy) or (total is not None and axis != op.channel_axis):
            continue
        axis = op.channel_axis
        total = energy if total is None else total + energy
    return None if total is None or not total.any() else (axis, total / total.mean())


def _readers(value: ir.Value) -> list[ir.Node]:
    """Linear operators that read a value as their data, directly or behind a Relu or Clip."""
    found = [use.node for use in value.uses() if use.idx == 0 and is_linear(use.node)]
    for use in value.uses():
        if is_op(use.node, "Relu", "Clip") and use.idx == 0:
            found += _readers(use.node.outputs[0])
    return found
