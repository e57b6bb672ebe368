"""Channel groups: what must go together when a channel is removed from a model.

Removing a filter of a convolution removes a channel of what it writes, and so the columns of all weights
that read it, the entries of a normalization in between, the channels that are added to it, and in turn the
filters that write those. Instead of a list of such cases there is one formulation: every operator says how
the indices of its inputs and of its outputs correspond (:mod:`~irshrink.channels.linker`), and
groups are the connected components of the indices of all axes of all values. (Dependency graphs after
Fang et al., *DepGraph: Towards Any Structural Pruning*, CVPR 2023, at the grain of single indices.)

An operator that no rule knows keeps everything around it, and is the reason that it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.channels.linker import Linker
from irshrink.channels.rules.table import RULES
from irshrink.graph.components import components
from irshrink.graph.edit import Refusal, describe, is_constant, is_op

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Site:
    """A node that writes or reads channels by weights.

    Attributes:
        groups: the group of each of these channels, int64 [channels].
    """

    node: ir.Node
    groups: Array


@dataclass(frozen=True)
class ChannelGroups:
    """What :func:`channel_groups` finds.

    Attributes:
        count: of groups.
        families: number of the family of each group, int64 [count]: the channels that one operator writes,
            and those tied to them, are one family.
        blocked: why a group must stay, half a sentence, by group.
        inexact: why removing a group may change what the rest computes even when all weights that write and
            read it are zero, half a sentence, by group.
        writers: operators that write channels by their weights.
        readers: operators that sum over channels by their weights.
        values: the groups along each axis of the values and constants that have any, int64 [size] by axis.
    """

    count: int
    families: Array
    blocked: Mapping[int, str]
    inexact: Mapping[int, str]
    writers: tuple[Site, ...]
    readers: tuple[Site, ...]
    values: Mapping[ir.Value, Mapping[int, Array]]

    def free(self) -> Array:
        """Whether a group can be removed and some operator writes it, bool [count]."""
        found = np.zeros(self.count, bool)
        for site in self.writers:
            found[site.groups] = True
        found[list(self.blocked)] = False
        return found

    def members(self) -> list[Array]:
        """The free groups of each family that has any, ascending, families in the graph's order."""
        free = np.flatnonzero(self.free())
        families = self.families[free]
        return [free[families == family] for family in np.unique(families)]

    def constants(self) -> list[tuple[ir.Value, int, Array]]:
        """Every constant that loses rows with some group, the axis, and the group of each row."""
        return [
            (value, axis, groups)
            for value, axes in self.values.items()
            if is_constant(value)
            for axis, groups in axes.items()
        ]


def channel_groups(graph: ir.Graph) -> ChannelGroups:
    """Groups over all axes of all values of ``graph``; shapes must be static to be followed."""
    linker = Linker()
    for value in graph.inputs:
        linker.fixed[value] = f"'{value.name}' is an input of the model"
    for node in graph:
        _visit(linker, node)
    _block_ends(graph, linker)
    return _result(linker)


def _visit(linker: Linker, node: ir.Node) -> None:
    if is_op(node, "Constant"):
        return
    rule = RULES.get(node.op_type) if node.domain == "" else None
    try:
        if rule is None:
            raise Refusal(f"no rule says how {describe(node)} leads channels along")
        rule(linker, node)
        if all(value is None or linker.is_weight(value) for value in node.inputs):
            linker.weights.update(node.outputs)
        _explain(linker, node)
    except Refusal as e:
        reason = str(e) if describe(node) in str(e) else f"{e} at {describe(node)}"
        for value in node.inputs:
            if value is not None:
                linker.block_value(value, reason)
        for value in node.outputs:
            linker.axes.pop(value, None)
            linker.fixed[value] = reason


def _explain(linker: Linker, node: ir.Node) -> None:
    """What a node makes without slots has none for the reason that its inputs have."""
    reasons = [linker.fixed[v] for v in node.inputs if v is not None and v in linker.fixed]
    for value in node.outputs:
        if reasons and not linker.axes.get(value):
            linker.fixed[value] = reasons[0]


def _block_ends(graph: ir.Graph, linker: Linker) -> None:
    """Outputs of the model, and what subgraphs read."""
    for value in tuple(linker.axes):
        if value.is_graph_output():
            linker.block_value(value, f"'{value.name}' is an output of the model")
        inner = [use.node for use in value.uses() if use.node.graph is not graph]
        if inner:
            linker.block_value(value, f"{describe(inner[0])} inside another node reads it")


def _result(linker: Linker) -> ChannelGroups:
    groups = components(linker.count, linker.ties)
    count = int(groups.max(initial=-1)) + 1
    written = [groups[slots] for _, slots in linker.writers]
    values = {
        value: {axis: groups[slots] for axis, slots in sorted(axes.items())}
        for value, axes in linker.axes.items()
        if axes
    }
    return ChannelGroups(
        count=count,
        families=components(count, [np.stack([g[:-1], g[1:]]) for g in written]),
        blocked=_wholes(values) | _reasons(groups, linker.blocks),
        inexact=_reasons(groups, linker.inexact),
        writers=tuple(Site(node, groups[slots]) for node, slots in linker.writers),
        readers=tuple(Site(node, groups[slots]) for node, slots in linker.readers),
        values=values,
    )


def _wholes(values: Mapping[ir.Value, Mapping[int, Array]]) -> dict[int, str]:
    """Groups without which nothing would be left of some axis."""
    return {
        int(groups[0]): f"all {len(groups)} channels of '{value.name}' go together"
        for value, axes in values.items()
        for groups in axes.values()
        if len(groups) and (groups == groups[0]).all()
    }


def _reasons(groups: Array, found: Sequence[tuple[Array, str]]) -> dict[int, str]:
    """The first reason of each group."""
    reasons: dict[int, str] = {}
    for slots, reason in found:
        for group in np.unique(groups[slots]):
            reasons.setdefault(int(group), reason)
    return reasons
