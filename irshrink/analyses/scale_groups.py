"""Scale groups: channels that can be scaled together without changing what the model computes.

Dividing channel c of a value by s > 0 and multiplying what reads it by s changes nothing as long as
everything in between is positively homogeneous, f(s x) = s f(x): Relu, pools, residual additions,
concatenations. Channels that such operators tie together are one group, a connected component; layers with
weights write and read them. (Nagel et al., *Data-free quantization through weight equalization and bias
correction*, ICCV 2019, section 4.1, for pairs of layers; Meller et al., *Same, same but different*, ICML
2019, for whole networks.)

An operator that does not scale along blocks the groups around it, and is the reason that they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.analyses.channel_moves import MOVES, channel_axis, moved
from irshrink.graph.components import components
from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    constant,
    describe,
    input_of,
    is_op,
    scalar,
    static_shape,
)
from irshrink.graph.linear import is_linear, linear_op

Array = np.ndarray[Any, np.dtype[Any]]

#: f(s x) = s f(x) for s > 0, channel by channel, and where the channels are stays the same.
_HOMOGENEOUS = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "Relu",
        "Resize",
    }
)


@dataclass(frozen=True)
class Site:
    """A node that has to change when channels are scaled.

    Attributes:
        groups: the group of each of the channels that it writes (or reads), int64 [channels].
    """

    node: ir.Node
    groups: Array


@dataclass(frozen=True)
class Channels:
    """The channels of a value: along which axis they are counted, and the group of each, int64 [channels]."""

    axis: int
    groups: Array


@dataclass(frozen=True)
class ScaleGroups:
    """What :func:`scale_groups` finds.

    Attributes:
        count: of groups.
        families: number of the family of each group: groups that meet in a value are of one family.
        blocked: why a group cannot be scaled, half a sentence, by group.
        writers: linear operators and LayerNormalizations that write channels: divide what they write.
        readers: linear operators: multiply what they read.
        shifts: additions of a constant, which must be divided as well.
        clips: Clip nodes with an upper bound, which stays where it is when the channels are scaled.
        values: the channels of the values that have any.
    """

    count: int
    families: Array
    blocked: dict[int, str]
    writers: tuple[Site, ...]
    readers: tuple[Site, ...]
    shifts: tuple[Site, ...]
    clips: tuple[Site, ...]
    values: dict[ir.Value, Channels]

    def free(self) -> Array:
        """Whether a group can be scaled, and someone writes and someone reads it, bool [count]."""
        ends = [np.zeros(self.count, bool), np.zeros(self.count, bool)]
        for end, sites in zip(ends, (self.writers, self.readers), strict=True):
            for site in sites:
                end[site.groups] = True
        found: Array = ends[0] & ends[1]
        found[list(self.blocked)] = False
        return found


def scale_groups(graph: ir.Graph) -> ScaleGroups:
    """Groups over all channels of the graph; shapes must be static to be followed."""
    finder = _Finder(graph)
    for node in graph:
        finder.visit(node)
    finder.block_ends()
    return finder.result()


@dataclass
class _Finder:
    """Numbers every channel of every value, ties the numbers, and remembers who is around."""

    graph: ir.Graph
    count: int = 0
    axes: dict[ir.Value, int] = field(default_factory=dict)
    slots: dict[ir.Value, Array] = field(default_factory=dict)
    ties: list[Array] = field(default_factory=list)
    blocks: list[tuple[Array, str]] = field(default_factory=list)
    writers: list[tuple[ir.Node, Array]] = field(default_factory=list)
    readers: list[tuple[ir.Node, Array]] = field(default_factory=list)
    shifts: list[tuple[ir.Node, Array]] = field(default_factory=list)
    clips: list[tuple[ir.Node, Array]] = field(default_factory=list)

    def visit(self, node: ir.Node) -> None:
        varying = [value for value in node.inputs if value is not None and constant(value) is None]
        try:
            if is_linear(node):
                self._linear(node)
            elif is_op(node, "LayerNormalization"):
                self._layer_norm(node)
            elif not any(value in self.slots for value in varying):
                return
            elif is_op(node, *MOVES):
                self._move(node, varying)
            elif is_op(node, "Add", "Sub"):
                self._add(node, varying)
            elif is_op(node, "Mul", "Div"):
                self._multiply(node)
            elif is_op(node, *_HOMOGENEOUS) or _is_rectifier(node):
                self._follow(node)
            else:
                raise Refusal(f"{describe(node)} does not scale along")
        except Refusal as reason:
            for value in varying:
                self._block(value, str(reason))

    def block_ends(self) -> None:
        """Outputs of the model, and what subgraphs read."""
        for value in self.slots:
            if value.is_graph_output():
                self._block(value, f"'{value.name}' is an output of the model")
            inner = [use.node for use in value.uses() if use.node.graph is not self.graph]
            if inner:
                self._block(value, f"{describe(inner[0])} inside another node reads it")

    def result(self) -> ScaleGroups:
        groups = components(self.count, self.ties)
        count = int(groups.max(initial=-1)) + 1
        numbered = {value: groups[slots] for value, slots in self.slots.items()}
        blocked: dict[int, str] = {}
        for slots, reason in self.blocks:
            for group in np.unique(groups[slots]):
                blocked.setdefault(int(group), reason)

        def sites(found: Sequence[tuple[ir.Node, Array]]) -> tuple[Site, ...]:
            return tuple(Site(node, groups[slots]) for node, slots in found)

        return ScaleGroups(
            count=count,
            families=components(count, [np.stack([g[:-1], g[1:]]) for g in numbered.values()]),
            blocked=blocked,
            writers=sites(self.writers),
            readers=sites(self.readers),
            shifts=sites(self.shifts),
            clips=sites(self.clips),
            values={value: Channels(self.axes[value], g) for value, g in numbered.items()},
        )

    def _linear(self, node: ir.Node) -> None:
        """Reads its input's channels and writes new ones."""
        value, output = node.inputs[0], node.outputs[0]
        shape = static_shape(output)
        op = linear_op(node)
        if shape is None:
            raise Refusal(f"the shape of what {describe(node)} computes is not known")
        if attribute_int(node, "transA", 0):
            raise Refusal(f"{describe(node)} transposes its input")
        self.writers.append((node, self._new(output, op.channel_axis % len(shape), op.outputs)))
        if value is None or value not in self.slots:
            return
        own = static_shape(value)
        if (
            own is None
            or self.axes[value] != op.channel_axis % len(own)
            or len(self.slots[value]) != op.inputs
        ):
            self._block(value, f"{describe(node)} reads another axis of it")
            return
        self.readers.append((node, self.slots[value]))

    def _layer_norm(self, node: ir.Node) -> None:
        """What it computes is multiplied by constants; what it reads must not be scaled."""
        value, shape = node.inputs[0], static_shape(node.outputs[0])
        if value is not None:
            self._block(value, f"{describe(node)} does not scale along")
        weight = constant(input_of(node, 1))
        shift = input_of(node, 2)
        if shape is None or weight is None or weight.shape != shape[-1:] or len(node.outputs) > 1:
            return
        if shift is not None and constant(shift) is None:
            return
        self.writers.append((node, self._new(node.outputs[0], len(shape) - 1, shape[-1])))

    def _move(self, node: ir.Node, varying: Sequence[ir.Value]) -> None:
        numbers = {value: (self.axes[value], self.slots[value]) for value in varying if value in self.slots}
        for output, ids in zip(node.outputs, moved(node, numbers), strict=True):
            axis, along = channel_axis(ids, self.axes[next(iter(numbers))], node)
            self._tie(self._new(output, axis, len(along)), along, describe(node))

    def _follow(self, node: ir.Node) -> None:
        """The first input's channels are the output's; a slope or a limit besides is constant."""
        value, output = node.inputs[0], node.outputs[0]
        if value is None or value not in self.slots or any(o.uses() for o in node.outputs[1:]):
            raise Refusal(f"{describe(node)} does not scale along")
        axis, slots = self.axes[value], self.slots[value]
        shape = static_shape(output)
        if shape is None or len(shape) <= axis or shape[axis] != len(slots):
            raise Refusal(f"{describe(node)} changes the number of channels")
        if is_op(node, *_OVER_SPACE) and axis != 1:
            raise Refusal(f"{describe(node)} mixes channels")
        self._tie(self._new(output, axis, len(slots)), slots, describe(node))
        if is_op(node, "Clip") and input_of(node, 2) is not None:
            self.clips.append((node, slots))

    def _add(self, node: ir.Node, varying: Sequence[ir.Value]) -> None:
        """Both sides scale alike; a constant side is scaled."""
        output, shape = node.outputs[0], static_shape(node.outputs[0])
        known = [value for value in varying if value in self.slots]
        if shape is None or len(known) < len(varying):
            raise Refusal(f"{describe(node)} adds what cannot be scaled")
        aligned = {self._from_right(value) for value in known}
        if len(aligned) != 1 or shape[next(iter(aligned))[0]] != next(iter(aligned))[1]:
            raise Refusal(f"{describe(node)} adds along other axes")
        axis, channels = aligned.pop()
        if len(varying) == 1:
            self.shifts.append((node, self.slots[varying[0]]))
        made = self._new(output, axis + len(shape), channels)
        for value in known:
            self._tie(made, self.slots[value], describe(node))

    def _multiply(self, node: ir.Node) -> None:
        """One factor carries the scale, the one with all the channels; the other stays as it is."""
        output = node.outputs[0]
        shape = static_shape(output)
        sides = node.inputs[:1] if is_op(node, "Div") else node.inputs
        carriers = [v for v in sides if v is not None and v in self.slots and static_shape(v) == shape]
        if not carriers or node.inputs[0] is node.inputs[1]:
            raise Refusal(f"{describe(node)} does not scale along")
        carrier = carriers[0]
        slots = self.slots[carrier]
        self._tie(self._new(output, self.axes[carrier], len(slots)), slots, describe(node))
        for value in node.inputs:
            if value is not None and value is not carrier:
                self._block(value, f"{describe(node)} multiplies by it")

    def _from_right(self, value: ir.Value) -> tuple[int, int]:
        """The axis of the channels, counted from the right as broadcasting does, and how many there are."""
        shape = static_shape(value)
        assert shape is not None, "values with channels have shapes"
        return self.axes[value] - len(shape), len(self.slots[value])

    def _new(self, value: ir.Value, axis: int, channels: int) -> Array:
        self.axes[value] = axis
        self.slots[value] = np.arange(self.count, self.count + channels)
        self.count += channels
        return self.slots[value]

    def _tie(self, made: Array, origin: Array, who: str) -> None:
        """Origin -1 is a channel that comes from somewhere that cannot be scaled."""
        known = origin >= 0
        self.ties.append(np.stack([made[known], origin[known]]))
        if not known.all():
            self.blocks.append((made[~known], f"{who} takes it from what cannot be scaled"))

    def _block(self, value: ir.Value, reason: str) -> None:
        if value in self.slots:
            self.blocks.append((self.slots[value], reason))


#: Operators over windows or whole images, whose channels are axis 1 whatever is there.
_OVER_SPACE = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")


def _is_rectifier(node: ir.Node) -> bool:
    """PRelu with constant slopes; a Clip from 0 (or from nowhere) on, its upper bound is looked at later."""
    if is_op(node, "PRelu"):
        return constant(input_of(node, 1)) is not None
    if not is_op(node, "Clip"):
        return False
    lower, upper = input_of(node, 1), input_of(node, 2)
    return (lower is None or scalar(lower) == 0.0) and (upper is None or (scalar(upper) or 0.0) > 0.0)
