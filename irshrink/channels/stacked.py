"""Axes that stack different things, such as query, key and value, to be taken apart again."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.graph.edit import attribute_int, attribute_ints, is_op, static_shape


def taken_singly(value: ir.Value, axis: int) -> bool:
    """Whether all readers of ``value``, behind transpositions, take single indices of ``axis``."""
    uses = value.uses()
    return bool(uses) and all(index == 0 and _takes(node, axis) for node, index in uses)


def _takes(node: ir.Node, axis: int) -> bool:
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return False
    if is_op(node, "Transpose"):
        order = attribute_ints(node, "perm") or tuple(reversed(range(len(before))))
        return taken_singly(node.outputs[0], order.index(axis))
    if is_op(node, "Gather"):
        return attribute_int(node, "axis", 0) % len(before) == axis and len(after) < len(before)
    return is_op(node, "Slice", "Split") and after[axis] == 1 < before[axis]
