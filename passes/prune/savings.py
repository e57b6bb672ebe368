"""What a graph would cost without some groups of channels, from the sizes of its values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.analyses.cost import graph_macs
from irshrink.channels.groups import ChannelGroups
from irshrink.errors import RecipeError
from irshrink.graph.edit import attribute_int, is_constant, static_shape
from irshrink.pipeline import Context

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Part:
    """A node's multiplications, or a constant's bytes: proportional to what is left of some axes.

    Attributes:
        amount: with everything there.
        axes: the groups along each of these axes, int64 [size].
    """

    amount: float
    axes: tuple[Array, ...]

    def left(self, gone: Array) -> float:
        share = self.amount
        for groups in self.axes:
            share *= 1.0 - float(gone[groups].mean())
        return share


class Sizes:
    """A measure that falls as channels go.

    Args:
        parts: what it is the sum of.
    """

    def __init__(self, parts: Sequence[Part], count: int) -> None:
        self._parts = list(parts)
        self._touching: dict[int, list[Part]] = {}
        for part in parts:
            for group in np.unique(np.concatenate(part.axes)) if part.axes else ():
                self._touching.setdefault(int(group), []).append(part)
        self._count = count

    @property
    def count(self) -> int:
        """Of groups."""
        return self._count

    def total(self, gone: Array) -> float:
        """Of what is left without the groups ``gone``, bool [groups]."""
        return sum(part.left(gone) for part in self._parts)

    def saved(self, gone: Array, more: Array) -> float:
        """What goes with the groups numbered ``more`` besides those that are gone."""
        after = gone.copy()
        after[more] = True
        parts = {id(part): part for group in more for part in self._touching.get(int(group), ())}
        return sum(part.left(gone) - part.left(after) for part in parts.values())


def macs(graph: ir.Graph, groups: ChannelGroups) -> Sizes:
    """Multiply-accumulates of one inference; what has open shapes counts nothing."""
    found = graph_macs(graph)
    parts = [Part(float(count), _axes(node, groups)) for node, count in found.items() if count]
    return Sizes(parts, groups.count)


def weight_bytes(graph: ir.Graph, groups: ChannelGroups) -> Sizes:
    """Bytes of all constants that a node reads."""
    values = dict.fromkeys(v for node in graph for v in node.inputs if v is not None and is_constant(v))
    parts = []
    for value in values:
        tensor = ir.convenience.get_const_tensor(value)
        axes = groups.values.get(value, {})
        if tensor is not None:
            parts.append(Part(float(tensor.nbytes), tuple(axes.values())))
    return Sizes(parts, groups.count)


def target_costs(graph: ir.Graph, groups: ChannelGroups, ctx: Context) -> Sizes:
    """What the layers take on the target, each falling with what it multiplies or, without, what it writes.

    Raises:
        RecipeError: nothing here knows what layers take.
    """
    if ctx.costs is None:
        raise RecipeError("by = 'target' needs a target whose layers can be measured. Use by = 'macs'.")
    parts = []
    multiplied = graph_macs(graph)
    for node in graph:
        cost = ctx.costs.of_node(node)
        if cost is None:
            continue
        axes = _axes(node, groups) if node in multiplied else tuple(_written(node, groups))
        parts.append(Part(cost.amount, axes))
    return Sizes(parts, groups.count)


def _written(node: ir.Node, groups: ChannelGroups) -> list[Array]:
    return list(groups.values.get(node.outputs[0], {}).values())


def _axes(node: ir.Node, groups: ChannelGroups) -> tuple[Array, ...]:
    """The axes that a node's multiplications are proportional to."""
    values = groups.values
    if node.op_type == "ConvTranspose":
        named = [(node.inputs[0], 1), (node.inputs[1], 1)]
    elif node.op_type == "Conv":
        named = [(node.outputs[0], 1), (node.inputs[1], 1)]
    else:
        inner = 0 if attribute_int(node, "transA", 0) else _rank(node.inputs[0]) - 1
        named = [(node.outputs[0], axis) for axis in range(_rank(node.outputs[0]))]
        named.append((node.inputs[0], inner))
    found = (values.get(value, {}).get(axis) for value, axis in named if value is not None)
    return tuple(axis for axis in found if axis is not None)


def _rank(value: ir.Value | None) -> int:
    return len(static_shape(value) or ())


def left_of(groups: ChannelGroups, gone: Array) -> Mapping[str, tuple[Array | None, ...]]:
    """Indices that are left along each axis of every value that loses some, by its name."""
    found: dict[str, tuple[Array | None, ...]] = {}
    for value, axes in groups.values.items():
        if is_constant(value) or not any(gone[slots].any() for slots in axes.values()):
            continue
        rank = _rank(value)
        left: list[Array | None] = [None] * rank
        for axis, slots in axes.items():
            if gone[slots].any():
                left[axis] = np.flatnonzero(~gone[slots])
        found[str(value.name)] = tuple(left)
    return found
