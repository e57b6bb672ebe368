"""A Reduce keeps or drops its axes by itself, and over axes of one element it only drops them.

    unsqueeze(reduce(x, axes, keepdims=0), axes) = reduce(x, axes, keepdims=1)
    reduce(x, axes, keepdims=0)                  = reshape(x)                    all axes of size 1

The second holds for Max, Mean, Min, Prod and Sum. The Unsqueeze may be written as a Reshape, whose target
exporters compute from the shape of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    add_constant,
    attribute_int,
    base_name,
    become,
    constant,
    input_of,
    is_op,
    rank,
    remove,
    replace_value,
    rewrite_each,
    why_not_private,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_OF_ONE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
_REDUCES = (*_OF_ONE, "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
_RESHAPES = ("Reshape", "Unsqueeze")


@dataclass(frozen=True)
class FuseReduces:
    """Let a Reduce keep the axes that a Reshape puts back; write one over single elements as Squeeze."""

    name: ClassVar[str] = "fuse-reduces"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        kept = rewrite_each(module.graph, ctx, _RESHAPES, _keep)
        squeezed = rewrite_each(module.graph, ctx, _OF_ONE, _squeeze)
        return PassResult(kept + squeezed > 0, stats={"kept": kept, "squeezed": squeezed})


def _keep(node: ir.Node) -> bool:
    """``node`` reshapes what a Reduce before it made, to the axes that this had."""
    value, output = node.inputs[0], node.outputs[0]
    reduce = None if value is None else value.producer()
    if value is None or reduce is None or not is_op(reduce, *_REDUCES):
        return False
    axes = _axes(reduce)
    if axes is None or attribute_int(reduce, "keepdims", 1) or why_not_private(value, node) is not None:
        return False
    if not _puts_back(output.shape, reduce.inputs[0], axes):
        return False
    reduce.attributes.add(ir.AttrInt64("keepdims", 1))
    value.shape = output.shape
    replace_value(output, value)
    remove(node)
    return True


def _puts_back(shape: ir.Shape | None, source: ir.Value | None, axes: Sequence[int]) -> bool:
    """Whether a shape is that of ``source`` with ones on ``axes``.

    One size may be unknown: the number of elements decides it.
    """
    if shape is None or source is None or source.shape is None or shape.rank() != source.shape.rank():
        return False
    if any(shape[axis] != 1 for axis in axes):
        return False
    before, after = source.shape, shape
    others = [axis for axis in range(after.rank()) if axis not in axes]
    same = [axis for axis in others if isinstance(after[axis], int) and after[axis] == before[axis]]
    return len(others) - len(same) <= 1 and all(after[axis] != 0 for axis in same)


def _squeeze(node: ir.Node) -> bool:
    value, axes = node.inputs[0], _axes(node)
    if value is None or value.shape is None or axes is None or attribute_int(node, "keepdims", 1):
        return False
    if any(value.shape[axis] != 1 for axis in axes) or node.graph is None:
        return False
    dropped = add_constant(node.graph, np.array(axes, np.int64), f"{base_name(node)}_axes")
    become(node, "Squeeze", [value, dropped])
    return True


def _axes(reduce: ir.Node) -> list[int] | None:
    """The axes counted from the front, in order; None when they are not constant or not given."""
    value, source = input_of(reduce, 1), reduce.inputs[0]
    axes = constant(value)
    if axes is None or source is None or not rank(source) or source.shape is None or not axes.size:
        return None
    return sorted(int(axis) % source.shape.rank() for axis in axes.reshape(-1))
