"""Operators that reduce axes, normalize over them, or slide windows over space."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.channels.linker import Linker
from irshrink.channels.rules.pointwise import along
from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    attribute_ints,
    constant,
    describe,
    input_of,
    is_op,
)

#: What a channel adds to these can go with it.
_SUMS = ("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare")


def windows(linker: Linker, node: ir.Node) -> None:
    """Pools: samples and channels stay what they are, positions change."""
    value = node.inputs[0]
    if value is None or any(out.uses() for out in node.outputs[1:]):
        raise Refusal(f"{describe(node)} tells positions of elements")
    for axis in (0, 1):
        linker.give(node.outputs[0], axis, linker.slots(value, axis))
    linker.keep_positions(node, value)


def resize(linker: Linker, node: ir.Node) -> None:
    """Axes that keep their size lead their channels along."""
    value, out = node.inputs[0], node.outputs[0]
    if value is None:
        raise Refusal(f"{describe(node)} reads nothing")
    if input_of(node, 3) is not None and constant(input_of(node, 3)) is None:
        raise Refusal(f"the sizes of {describe(node)} are computed")
    for axis, (before, after) in enumerate(zip(linker.shape(value), linker.shape(out), strict=True)):
        slots = linker.slots(value, axis)
        if before == after:
            linker.give(out, axis, slots)
        else:
            linker.block(slots, f"{describe(node)} interpolates along it")


def reduce(linker: Linker, node: ir.Node) -> None:
    """A sum over channels is smaller without some; a maximum would miss what is gone."""
    value, out = node.inputs[0], node.outputs[0]
    if value is None:
        raise Refusal(f"{describe(node)} reads nothing")
    rank = len(linker.shape(value))
    gone = {axis % rank for axis in _axes(node, rank)}
    kept = bool(attribute_int(node, "keepdims", 1))
    place = 0
    for axis in range(rank):
        slots = linker.slots(value, axis)
        if axis not in gone:
            linker.give(out, place, slots)
        elif slots is not None and is_op(node, *_SUMS):
            linker.inexact.append((slots, f"{describe(node)} sums over them"))
        else:
            linker.block(slots, f"{describe(node)} reduces over them")
        place += axis not in gone or kept


def over_axis(linker: Linker, node: ir.Node) -> None:
    """Softmax and others that look along one axis: its indices stay."""
    value = node.inputs[0]
    if value is None:
        raise Refusal(f"{describe(node)} reads nothing")
    rank = len(linker.shape(value))
    axis = attribute_int(node, "axis", -1) % rank
    linker.block(linker.slots(value, axis), f"{describe(node)} works along them")
    along(linker, node)


def batch_norm(linker: Linker, node: ir.Node) -> None:
    """Scale, bias, mean and variance by channel; also InstanceNormalization's two."""
    value = node.inputs[0]
    along(linker, node)
    assert value is not None
    if not is_op(node, "BatchNormalization"):
        linker.keep_positions(node, value)
    for option in node.inputs[1:]:
        if option is not None:
            linker.tie(linker.slots(value, 1), linker.slots(option, 0), linker.reason(node, value))


def layer_norm(linker: Linker, node: ir.Node) -> None:
    """Mean and variance are taken over what is there."""
    value = node.inputs[0]
    if value is None or any(out.uses() for out in node.outputs[1:]):
        raise Refusal(f"{describe(node)} tells its means")
    rank = len(linker.shape(value))
    for axis in range(attribute_int(node, "axis", -1) % rank, rank):
        slots = linker.slots(value, axis)
        if slots is not None:
            linker.inexact.append((slots, f"{describe(node)} averages over them"))
    linker.broadcast(node, [v for v in node.inputs if v is not None], node.outputs[0])


def group_norm(linker: Linker, node: ir.Node) -> None:
    """Each group of channels gives up the same places, and averages over what stays."""
    batch_norm(linker, node)
    value = node.inputs[0]
    slots = None if value is None else linker.slots(value, 1)
    if slots is not None:
        linker.tie_rows(slots.reshape(attribute_int(node, "num_groups", 1), -1))
        linker.inexact.append((slots, f"{describe(node)} averages over them"))


def _axes(node: ir.Node, rank: int) -> tuple[int, ...]:
    if is_op(node, "GlobalAveragePool", "GlobalMaxPool"):
        return tuple(range(2, rank))
    given = constant(input_of(node, 1))
    if given is None and input_of(node, 1) is not None:
        raise Refusal(f"the axes of {describe(node)} are not constant")
    axes = attribute_ints(node, "axes") if given is None else tuple(int(a) for a in given.reshape(-1))
    if not axes and attribute_int(node, "noop_with_empty_axes", 0):
        return ()
    return axes or tuple(range(rank))
