"""Numbers the indices of every axis that can shrink, and ties those that must go together.

A *slot* is one index of one axis of one value: channel 3 of a feature map, row 3 of its weights. Constants
have slots on every axis (their rows can be cut out); inputs of the model have none; operators lead slots
along or make an axis one that keeps its size. What is known of an axis is an array of slots, or nothing,
and then a reason why there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Refusal, describe, is_constant, static_shape

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Linker:
    """What the rules fill in; see the module's docstring.

    Attributes:
        count: of slots.
        axes: the slots of a value by axis, int64 [size]; an axis that keeps its size is missing.
        weights: values that are computed from constants alone.
        fixed: why a value has no slots at all, half a sentence.
        ties: pairs of slots that go together, int64 [2, pairs] each.
        blocks: slots that must stay, with the reason.
        inexact: slots whose removal changes what others compute, even when they hold zeros; the reason.
        writers: nodes that make channels out of weights, and the slots of these channels.
        readers: nodes that sum over channels with weights, and the slots of these channels.
    """

    count: int = 0
    axes: dict[ir.Value, dict[int, Array]] = field(default_factory=dict)
    weights: set[ir.Value] = field(default_factory=set)
    fixed: dict[ir.Value, str] = field(default_factory=dict)
    ties: list[Array] = field(default_factory=list)
    blocks: list[tuple[Array, str]] = field(default_factory=list)
    inexact: list[tuple[Array, str]] = field(default_factory=list)
    writers: list[tuple[ir.Node, Array]] = field(default_factory=list)
    readers: list[tuple[ir.Node, Array]] = field(default_factory=list)

    def slots(self, value: ir.Value, axis: int) -> Array | None:
        """The slots along ``axis``; those of constants are made when they are first asked for."""
        shape = self.shape(value)
        axis %= max(len(shape), 1)
        known = self.axes.setdefault(value, {})
        if axis not in known and is_constant(value) and axis < len(shape):
            known[axis] = self.new(shape[axis])
        return known.get(axis)

    def is_weight(self, value: ir.Value) -> bool:
        """Whether no input of the model has a part in it."""
        return value in self.weights or is_constant(value)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """
        Raises:
            Refusal: it is not known.
        """
        shape = static_shape(value)
        if shape is None:
            raise Refusal(f"the shape of '{value.name}' is not known")
        return shape

    def new(self, size: int) -> Array:
        self.count += size
        return np.arange(self.count - size, self.count)

    def give(self, value: ir.Value, axis: int, slots: Array | None) -> None:
        """``value`` has these slots along ``axis``.

        Raises:
            Refusal: it has another size there.
        """
        shape = self.shape(value)
        if slots is None:
            return
        if shape[axis] != len(slots):
            raise Refusal(f"'{value.name}' has {shape[axis]} channels where {len(slots)} come in")
        self.axes.setdefault(value, {})[axis % len(shape)] = slots

    def tie(self, one: Array | None, other: Array | None, reason: str) -> Array | None:
        """Both go together, one to one; where one side keeps its size, the other stays for ``reason``.

        Returns:
            The slots of both, None where there are none.

        Raises:
            Refusal: they differ in number.
        """
        if one is None or other is None:
            for side in (one, other):
                if side is not None:
                    self.block(side, reason)
            return None
        if len(one) != len(other):
            raise Refusal(f"{len(one)} channels meet {len(other)}")
        self.ties.append(np.stack([one, other]))
        return one

    def tie_rows(self, rows: Array) -> Array:
        """All rows of ``rows``, [rows, slots], go together; returns the first."""
        first: Array = rows[0]
        self.ties.append(np.stack([np.broadcast_to(first, rows[1:].shape).reshape(-1), rows[1:].reshape(-1)]))
        return first

    def block(self, slots: Array | None, reason: str) -> None:
        if slots is not None and len(slots):
            self.blocks.append((slots, reason))

    def block_value(self, value: ir.Value, reason: str) -> None:
        """All of its axes keep their sizes."""
        if is_constant(value):
            for axis in range(len(static_shape(value) or ())):
                self.slots(value, axis)
        for slots in self.axes.get(value, {}).values():
            self.block(slots, reason)

    def keep_positions(self, node: ir.Node, value: ir.Value, first: int = 2) -> None:
        """The axes of ``value`` from ``first`` on are space, which ``node`` looks at as a whole."""
        for axis in range(first, len(self.shape(value))):
            self.block(self.slots(value, axis), f"{describe(node)} looks along it")

    def write(self, node: ir.Node, slots: Array | None) -> None:
        if slots is not None:
            self.writers.append((node, slots))

    def read(self, node: ir.Node, slots: Array | None) -> None:
        if slots is not None:
            self.readers.append((node, slots))

    def broadcast(self, node: ir.Node, values: Sequence[ir.Value], out: ir.Value, skip: int = 0) -> None:
        """``values`` meet element by element as NumPy broadcasts them, and make ``out``.

        Args:
            skip: how many axes at the right are none of this function's business.
        """
        rank = len(self.shape(out))
        for right in range(1 + skip, rank + 1):
            meeting = [v for v in values if len(self.shape(v)) >= right and self.shape(v)[-right] != 1]
            if meeting:
                self.give(out, rank - right, self._meet(node, meeting, right))

    def _meet(self, node: ir.Node, meeting: Sequence[ir.Value], right: int) -> Array | None:
        first, *others = meeting
        slots = self.slots(first, len(self.shape(first)) - right)
        for value in others:
            theirs = self.slots(value, len(self.shape(value)) - right)
            still = value if theirs is None else first
            slots = self.tie(slots, theirs, self.reason(node, still))
        return slots

    def reason(self, node: ir.Node, still: ir.Value) -> str:
        """Why ``node`` lets nothing go: it meets ``still``, which keeps its size."""
        why = self.fixed.get(still)
        return f"{describe(node)} reads '{still.name}' too, " + (
            f"which stays: {why}" if why else "which keeps its size"
        )
