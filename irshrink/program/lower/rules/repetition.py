"""Operators that repeat data: Expand and Tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import onnx_ir as ir

from irshrink.program.lower.fitting import broadcast
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Expand

_STATIC = "Export the model with static shapes, or fold constants."


def expand(lowering: Lowering, node: ir.Node) -> None:
    """NumPy broadcasting to a constant shape."""
    x = lowering.view(node.inputs[0])
    wanted = lowering.integers(node, 1, "sizes") or ()
    lowering.bind(node.outputs[0], expanded(lowering, node, x, broadcast(x.shape, wanted)))


def tile(lowering: Lowering, node: ir.Node) -> None:
    """Each axis behind a new one of size 1, which is expanded: [n] as [1, n], [r, n], [r * n]."""
    x = lowering.view(node.inputs[0])
    repeats = lowering.integers(node, 1, "repeats")
    if repeats is None or len(repeats) != x.rank:
        raise Refusal("its repeats are not one number for each axis", _STATIC)
    pairs = list(zip(repeats, x.shape, strict=True))
    split = lowering.builder.view_as(x, [size for _, n in pairs for size in (1, n)])
    y = expanded(lowering, node, split, [size for pair in pairs for size in pair])
    lowering.bind(node.outputs[0], lowering.builder.view_as(y, [r * n for r, n in pairs]))


def expanded(lowering: Lowering, node: ir.Node, x: View, shape: Sequence[int]) -> View:
    """``x`` broadcast to ``shape``; bytes are copied only where something is repeated."""
    if prod(shape) == 0:
        raise Refusal("its result is empty", _STATIC)
    x = lowering.builder.view_as(x, (1,) * (len(shape) - x.rank) + x.shape)
    if tuple(shape) == x.shape:
        return x
    order = x.order() or tuple(range(x.rank))
    source = lowering.builder.dense(x, order)
    tensor = lowering.emit_like(x, Expand, node, [source], [shape[axis] for axis in order])
    return replace(view_of(tensor, shape, order), stored=x.stored)
