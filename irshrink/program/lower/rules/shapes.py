"""Operators that only change the view: no byte moves."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.graph.dropout import training_mode
from irshrink.program.lower.fitting import positive, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View

_STATIC = "Export the model with static shapes, or fold constants."


def identity(lowering: Lowering, node: ir.Node) -> None:
    """Identity and its kin."""
    lowering.bind(node.outputs[0], lowering.view(node.inputs[0]))


def dropout(lowering: Lowering, node: ir.Node) -> None:
    """Dropout, which passes its input on at inference."""
    training = training_mode(node)
    if training is not False:
        how = "is computed" if training is None else "is true"
        raise Refusal(f"it drops at random (training_mode {how})", "Export the model for inference.")
    lowering.bind(node.outputs[0], lowering.view(node.inputs[0]))


def transpose(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    permutation = edit.attribute_ints(node, "perm") or tuple(reversed(range(x.rank)))
    require(sorted(permutation) == list(range(x.rank)), f"{list(permutation)} is no order of {x.rank} axes")
    lowering.bind(node.outputs[0], x.transposed(permutation))


def reshape(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    wanted = lowering.integers(node, 1, "sizes")
    if wanted is None:
        raise Refusal("its sizes are missing", _STATIC)
    copies = not edit.attribute_int(node, "allowzero", 0)
    require(not copies or 0 not in wanted[x.rank :], f"its sizes {list(wanted)} copy from {x.rank} axes")
    shape = [x.shape[i] if size == 0 and copies else size for i, size in enumerate(wanted)]
    if -1 in shape:
        known = -prod(shape)
        shape[shape.index(-1)] = prod(x.shape) // known if known else 0
    bind_shape(lowering, node, x, shape)


def flatten(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    axis = edit.attribute_int(node, "axis", 1)
    axis = axis if axis == x.rank else positive(axis, x.rank)
    bind_shape(lowering, node, x, [prod(x.shape[:axis]), prod(x.shape[axis:])])


def squeeze(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    axes = axes_of(lowering, node)
    gone = {i for i, size in enumerate(x.shape) if size == 1}
    if axes is not None:
        gone = {positive(axis, x.rank) for axis in axes}
    bind_shape(lowering, node, x, [size for i, size in enumerate(x.shape) if i not in gone])


def unsqueeze(lowering: Lowering, node: ir.Node) -> None:
    x = lowering.view(node.inputs[0])
    axes = axes_of(lowering, node) or ()
    rank = x.rank + len(axes)
    new = {positive(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise Refusal(f"its axes {list(axes)} name one twice", "Export the model again.")
    sizes = iter(x.shape)
    bind_shape(lowering, node, x, [1 if i in new else next(sizes) for i in range(rank)])


def bind_shape(lowering: Lowering, node: ir.Node, x: View, shape: Sequence[int]) -> None:
    if prod(shape) != prod(x.shape):
        raise Refusal(f"{list(x.shape)} does not fit {list(shape)}", _STATIC)
    lowering.bind(node.outputs[0], lowering.builder.view_as(x, shape))


def axes_of(lowering: Lowering, node: ir.Node) -> tuple[int, ...] | None:
    return edit.attribute_ints(node, "axes") or lowering.integers(node, 1, "axes")


def reduced_axes(lowering: Lowering, node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """Axes to reduce, ascending; None when there are none and the node does nothing."""
    axes = axes_of(lowering, node)
    if not axes:
        return None if edit.attribute_int(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({positive(axis, rank) for axis in axes}))
