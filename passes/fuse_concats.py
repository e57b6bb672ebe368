"""Concats in a row along one axis are one Concat.

    concat(concat(a, b), c) = concat(a, b, c)

Converters write a chain where the model stacked one part after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.edit import attribute_int, become, is_op, rank, remove, rewrite_each, why_not_private
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FuseConcats:
    """Fuse a Concat with the ones that it alone reads, along the same axis."""

    name: ClassVar[str] = "fuse-concats"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        fused = rewrite_each(module.graph, ctx, {"Concat"}, _fuse)
        return PassResult(fused > 0, stats={"fused": fused})


def _fuse(node: ir.Node) -> bool:
    axis = _axis(node)
    parts, inner = list[ir.Value | None](), list[ir.Node]()
    for value in node.inputs:
        producer = None if value is None else value.producer()
        if value is None or producer is None or axis is None or not _is_part(value, producer, node, axis):
            parts.append(value)
            continue
        parts += producer.inputs
        inner.append(producer)
    if not inner:
        return False
    become(node, "Concat", parts, {"axis": attribute_int(node, "axis", 0)})
    for concat in inner:
        remove(concat)
    return True


def _is_part(value: ir.Value, producer: ir.Node, reader: ir.Node, axis: int) -> bool:
    if not is_op(producer, "Concat") or _axis(producer) != axis:
        return False
    return len(value.uses()) == 1 and why_not_private(value, reader) is None


def _axis(concat: ir.Node) -> int | None:
    """The axis counted from the front, if the rank is known or it is counted so."""
    axis, axes = attribute_int(concat, "axis", 0), rank(concat.outputs[0])
    if axis >= 0:
        return axis
    return None if axes is None else axis + axes
