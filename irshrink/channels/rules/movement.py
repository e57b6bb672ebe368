"""Operators that only move elements: where each index of an axis goes."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.channels.linker import Array, Linker
from irshrink.channels.stacked import taken_singly
from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    attribute_ints,
    attribute_string,
    constant,
    describe,
    input_of,
    is_op,
)
from irshrink.graph.slices import slice_windows


def transpose(linker: Linker, node: ir.Node) -> None:
    value, out = _data(node), node.outputs[0]
    rank = len(linker.shape(value))
    order = attribute_ints(node, "perm") or tuple(reversed(range(rank)))
    for axis, origin in enumerate(order):
        linker.give(out, axis, linker.slots(value, origin))


def concat(linker: Linker, node: ir.Node) -> None:
    """Along the axis side by side, across it together; what keeps its size stays."""
    values = [value for value in node.inputs if value is not None]
    out = node.outputs[0]
    rank = len(linker.shape(out))
    joined = attribute_int(node, "axis", 0) % rank
    for axis in range(rank):
        parts = [linker.slots(value, axis) for value in values]
        if axis == joined:
            linker.give(out, axis, _side_by_side(linker, node, values, parts))
            continue
        slots = parts[0]
        for value, part in zip(values[1:], parts[1:], strict=True):
            still = value if part is None else values[0]
            slots = linker.tie(slots, part, linker.reason(node, still))
        linker.give(out, axis, slots)


def split(linker: Linker, node: ir.Node) -> None:
    value = _data(node)
    if input_of(node, 1) is not None and constant(input_of(node, 1)) is None:
        raise Refusal(f"the sizes of {describe(node)} are computed")
    rank = len(linker.shape(value))
    cut = attribute_int(node, "axis", 0) % rank
    start = 0
    for out in node.outputs:
        size = linker.shape(out)[cut]
        for axis in range(rank):
            slots = linker.slots(value, axis)
            part = slots if slots is None or axis != cut else slots[start : start + size]
            linker.give(out, axis, part)
        start += size


def slice_(linker: Linker, node: ir.Node) -> None:
    value, out = _data(node), node.outputs[0]
    windows = slice_windows(node, linker.shape(value))
    for axis, window in enumerate(windows):
        slots = linker.slots(value, axis)
        if slots is not None and window.step not in (None, 1):
            linker.block(slots, f"{describe(node)} takes every {window.step}th of them")
        linker.give(out, axis, None if slots is None else slots[window])


def pad(linker: Linker, node: ir.Node) -> None:
    """Channels that are padded on can go like any other."""
    value, out = _data(node), node.outputs[0]
    amounts, axes = constant(input_of(node, 1)), constant(input_of(node, 3))
    if amounts is None or (axes is None and input_of(node, 3) is not None):
        raise Refusal(f"the pads of {describe(node)} are not constant")
    rank = len(linker.shape(value))
    touched = list(range(rank)) if axes is None else [int(a) % rank for a in axes]
    for axis in range(rank):
        slots = linker.slots(value, axis)
        if slots is None:
            continue
        place = touched.index(axis) if axis in touched else -1
        ends = (0, 0) if place < 0 else (int(amounts[place]), int(amounts[place + len(touched)]))
        if min(ends) < 0 or (any(ends) and attribute_string(node, "mode", "constant") != "constant"):
            linker.block(slots, f"{describe(node)} copies or cuts some of them")
            continue
        linker.give(out, axis, np.concatenate([linker.new(ends[0]), slots, linker.new(ends[1])]))


def constant_of_shape(linker: Linker, node: ir.Node) -> None:
    """One number everywhere: any index can go."""
    if constant(input_of(node, 0)) is None:
        raise Refusal(f"the shape of {describe(node)} is computed")
    for axis, size in enumerate(linker.shape(node.outputs[0])):
        linker.give(node.outputs[0], axis, linker.new(size))


def expand(linker: Linker, node: ir.Node) -> None:
    _require_target(node)
    linker.broadcast(node, [_data(node)], node.outputs[0])


def gather(linker: Linker, node: ir.Node) -> None:
    """Rows are taken by number: all stay, unless the numbers are constant, one row for one place."""
    value, out, index = _data(node), node.outputs[0], node.inputs[1]
    rank = len(linker.shape(value))
    taken = attribute_int(node, "axis", 0) % rank
    numbers = constant(index)
    wide = len(linker.shape(index)) if index is not None else 0
    for axis in range(rank):
        slots = linker.slots(value, axis)
        if axis != taken:
            linker.give(out, axis if axis < taken else axis + wide - 1, slots)
        elif slots is not None and numbers is not None and numbers.ndim == 1:
            linker.give(out, axis, slots[numbers])
        elif slots is not None:
            linker.block(slots, f"{describe(node)} takes them by number")


def reshape(linker: Linker, node: ir.Node) -> None:
    """Axes are merged and split in blocks of equal size.

    An axis that is split goes with the outermost of its parts (attention heads, not what is in each) that is
    not taken apart afterwards (query, key and value), and the other parts keep their sizes.
    """
    value, out = _data(node), node.outputs[0]
    _require_target(node)
    for sources, targets in _blocks(linker.shape(value), linker.shape(out)):
        for source in sources:
            slots = linker.slots(value, source)
            if slots is not None and len(slots) > 1:
                _lead(linker, node, slots, source, sources, targets)


def depth_to_space(linker: Linker, node: ir.Node) -> None:
    """``[N, b * b * C, H, W]`` to ``[N, C, b * H, b * W]``: all positions of a channel go together."""
    value, out = _data(node), node.outputs[0]
    linker.keep_positions(node, value)
    slots = linker.slots(value, 1)
    block = attribute_int(node, "blocksize", 1)
    if slots is None:
        return
    if attribute_string(node, "mode", "DCR") == "CRD":
        rows = slots.reshape(-1, block * block).T
    else:
        rows = slots.reshape(block * block, -1)
    linker.give(out, 1, linker.tie_rows(rows))


def space_to_depth(linker: Linker, node: ir.Node) -> None:
    """``[N, C, H, W]`` to ``[N, b * b * C, H / b, W / b]``."""
    linker.keep_positions(node, _data(node))
    slots = linker.slots(_data(node), 1)
    if slots is not None:
        linker.give(node.outputs[0], 1, np.tile(slots, attribute_int(node, "blocksize", 1) ** 2))


def _lead(
    linker: Linker,
    node: ir.Node,
    slots: Array,
    source: int,
    sources: dict[int, int],
    targets: dict[int, int],
) -> None:
    """Lead the slots of ``source``, one of a block of axes, to the outermost axis that tells them apart."""
    out = node.outputs[0]
    place = list(sources).index(source)
    form = [1] * place + [len(slots)] + [1] * (len(sources) - place - 1)
    numbers = np.broadcast_to(slots.reshape(form), tuple(sources.values())).reshape(tuple(targets.values()))
    for index, axis in enumerate(targets):
        rows = np.moveaxis(numbers, index, 0).reshape(numbers.shape[index], -1)
        if (rows == rows[:1]).all() or (index + 1 < len(targets) and taken_singly(out, axis)):
            continue
        known = linker.axes.get(out, {}).get(axis)
        first = linker.tie_rows(rows.T)
        if known is not None:
            linker.tie(known, first, describe(node))
        linker.give(out, axis, first)
        return


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[dict[int, int], dict[int, int]]]:
    """The smallest runs of axes that have as many elements before as after; sizes by axis."""
    blocks = []
    i = j = 0
    while i < len(before) and j < len(after):
        sources, targets = {i: before[i]}, {j: after[j]}
        while prod(sources.values()) != prod(targets.values()):
            grow_source = prod(sources.values()) < prod(targets.values())
            nxt, sizes, into = (i + 1, before, sources) if grow_source else (j + 1, after, targets)
            if nxt >= len(sizes):
                break
            into[nxt] = sizes[nxt]
            i, j = (nxt, j) if grow_source else (i, nxt)
        blocks.append((sources, targets))
        i, j = i + 1, j + 1
    return blocks


def _side_by_side(
    linker: Linker, node: ir.Node, values: list[ir.Value], parts: list[Array | None]
) -> Array | None:
    if all(part is None for part in parts):
        return None
    axis = attribute_int(node, "axis", 0)
    sizes = [linker.shape(value)[axis] for value in values]
    filled = [_stays(linker, node, n) if part is None else part for part, n in zip(parts, sizes, strict=True)]
    return np.concatenate(filled)


def _stays(linker: Linker, node: ir.Node, size: int) -> Array:
    slots = linker.new(size)
    linker.block(slots, f"{describe(node)} takes them from what keeps its size")
    return slots


def _require_target(node: ir.Node) -> None:
    if is_op(node, "Expand", "Reshape") and constant(input_of(node, 1)) is None:
        raise Refusal(f"the target of {describe(node)} is computed")


def _data(node: ir.Node) -> ir.Value:
    value = input_of(node, 0)
    if value is None:
        raise Refusal(f"{describe(node)} reads nothing")
    return value
