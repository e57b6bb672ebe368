"""Take groups of channels out of a graph: rows of constants, sizes in operators, shapes of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.channels.adjust import ADJUSTMENTS
from irshrink.channels.groups import ChannelGroups
from irshrink.graph.edit import Refusal, constant, drop_unread_constants, register_constant, remove

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Kept:
    """Which indices of each axis stay."""

    groups: ChannelGroups
    gone: Array

    def mask(self, value: ir.Value | None, axis: int) -> Array | None:
        """What stays along ``axis``, bool [size]; None where everything does."""
        axes = {} if value is None else self.groups.values.get(value, {})
        if axis < 0 and value is not None and value.shape is not None:
            axis += len(value.shape)
        if axis not in axes or not self.gone[axes[axis]].any():
            return None
        stays: Array = ~self.gone[axes[axis]]
        return stays

    def touches(self, node: ir.Node) -> bool:
        """Whether an axis of something that ``node`` reads or makes shrinks."""
        for value in (*node.inputs, *node.outputs):
            axes = {} if value is None else self.groups.values.get(value, {})
            if any(self.mask(value, axis) is not None for axis in axes):
                return True
        return False

    def count(self, value: ir.Value, axis: int, size: int) -> int:
        """How many of ``size`` indices stay."""
        mask = self.mask(value, axis)
        return size if mask is None else int(mask.sum())


def remove_groups(graph: ir.Graph, groups: ChannelGroups, gone: Array) -> None:
    """Remove channels from ``graph``, in place.

    Args:
        groups: of ``graph`` as it is; they are of no use afterwards.
        gone: the groups to remove, bool [groups.count].

    Raises:
        Refusal: a group must stay, or nothing would be left of an axis; nothing was changed.
    """
    kept = Kept(groups, gone)
    _require_possible(kept)
    for node in tuple(graph):
        adjust = ADJUSTMENTS.get(node.op_type) if node.domain == "" else None
        if adjust is not None and kept.touches(node):
            adjust(node, kept)
    for value, axes in groups.values.items():
        masks = {axis: mask for axis in axes if (mask := kept.mask(value, axis)) is not None}
        if masks and constant(value) is not None:
            _cut(graph, value, masks)
        elif masks and value.shape is not None:
            dims = [int(masks[a].sum()) if a in masks else d for a, d in enumerate(value.shape)]
            value.shape = ir.Shape(dims)
    drop_unread_constants(graph)


def _require_possible(kept: Kept) -> None:
    for group in np.flatnonzero(kept.gone):
        if int(group) in kept.groups.blocked:
            raise Refusal(kept.groups.blocked[int(group)])
    for value, axes in kept.groups.values.items():
        for axis in axes:
            mask = kept.mask(value, axis)
            if mask is not None and not mask.any():
                raise Refusal(f"nothing would be left of '{value.name}'")


def _cut(graph: ir.Graph, value: ir.Value, masks: dict[int, Array]) -> None:
    """The rows that stay, in a constant of the same name."""
    array = constant(value)
    assert array is not None
    for axis, mask in masks.items():
        array = np.compress(mask, array, axis=axis)
    producer = value.producer()
    if producer is None:
        tensor = ir.tensor(np.ascontiguousarray(array), name=value.name)
        value.const_value, value.shape = tensor, ir.Shape(array.shape)
        return
    name, value.name = str(value.name), None
    value.replace_all_uses_with(register_constant(graph, array, name))
    remove(producer)
