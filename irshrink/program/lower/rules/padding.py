"""Pad: a constant border, or one of copies of the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import positive, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import quantize
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.movement import joined, sliced
from irshrink.program.lower.rules.repetition import expanded
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Pad

#: Amounts before and behind, by axis.
Borders = Mapping[int, tuple[int, int]]


def pad(lowering: Lowering, node: ir.Node) -> None:
    """Negative amounts crop. A constant border stays int8 when its number is a stored integer."""
    x = lowering.real(node, 0)
    borders = _borders(lowering, node, x.rank)
    x = _cropped(lowering, node, x, borders)
    grown = {axis: (max(before, 0), max(behind, 0)) for axis, (before, behind) in borders.items()}
    grown = {axis: amounts for axis, amounts in grown.items() if any(amounts)}
    mode = edit.attribute_string(node, "mode", "constant")
    if not grown:
        y = x
    elif mode == "constant":
        y = _constant(lowering, node, x, grown)
    else:
        y = x
        for axis, amounts in grown.items():
            y = _copies(lowering, node, y, axis, amounts, mode)
    lowering.bind(node.outputs[0], y)


def padded(lowering: Lowering, node: ir.Node, x: View, borders: Borders, stored: float) -> View:
    """A border of the stored number ``stored``."""
    order = x.order() or tuple(range(x.rank))
    shape = [size + sum(borders.get(axis, (0, 0))) for axis, size in enumerate(x.shape)]
    tensor = lowering.emit_like(
        x,
        Pad,
        node,
        [lowering.builder.dense(x, order)],
        [shape[axis] for axis in order],
        pads=tuple(borders.get(axis, (0, 0)) for axis in order),
        value=stored,
    )
    return view_of(tensor, shape, order)


def _borders(lowering: Lowering, node: ir.Node, rank: int) -> Borders:
    pads = edit.attribute_ints(node, "pads") or lowering.integers(node, 1, "pads") or ()
    axes = [positive(a, rank) for a in lowering.integers(node, 3, "axes") or range(rank)]
    half = len(pads) // 2
    require(len(pads) == 2 * len(axes), f"it has {len(pads)} pads for {len(axes)} axes")
    return dict(zip(axes, zip(pads[:half], pads[half:], strict=True), strict=True))


def _cropped(lowering: Lowering, node: ir.Node, x: View, borders: Borders) -> View:
    ranges = {
        axis: (max(-before, 0), x.shape[axis] - max(-behind, 0), 1)
        for axis, (before, behind) in borders.items()
        if min(before, behind) < 0
    }
    return sliced(lowering, node, x, ranges)


def _constant(lowering: Lowering, node: ir.Node, x: View, borders: Borders) -> View:
    number = lowering.constants.array(edit.input_of(node, 2))
    if number is None and edit.input_of(node, 2) is not None:
        raise Refusal("its border is computed at run time", "Make it a constant of the model.")
    if number is not None and number.size != 1:
        raise Refusal(f"its border is {number.size} numbers", "Give one.")
    value = edit.attribute_float(node, "value", 0.0) if number is None else float(number.item())
    held, sink = lowering.builder.quantization(x), lowering.sink(node)
    if held is None:
        return padded(lowering, node, x, borders, value)
    if value == 0.0 or (sink is not None and sink.quantization == held):
        return padded(lowering, node, x, borders, float(quantize(np.array(value, np.float32), held)))
    lowering.float_note(node, "its border is not a stored integer")
    return padded(lowering, node, lowering.builder.as_float(x), borders, value)


def _copies(
    lowering: Lowering, node: ir.Node, x: View, axis: int, amounts: tuple[int, int], mode: str
) -> View:
    """Along one axis: what lies before, the data, what lies behind."""
    size = x.shape[axis]
    limit = size - 1 if mode == "reflect" else size
    if mode != "edge" and max(amounts) > limit:
        raise Refusal(f"it pads by more than the {size} values that there are", "Pad by less.")

    def part(start: int, stop: int, step: int, repeats: int = 1) -> View:
        cut = sliced(lowering, node, x, {axis: (start, stop, step)})
        shape = [repeats * n if place == axis else n for place, n in enumerate(cut.shape)]
        return expanded(lowering, node, cut, shape) if repeats > 1 else cut

    before, behind = amounts
    ends: dict[str, tuple[tuple[int, int, int, int], tuple[int, int, int, int]]] = {
        "edge": ((0, 1, 1, before), (size - 1, size, 1, behind)),
        "reflect": ((before, 0, -1, 1), (size - 2, size - 2 - behind, -1, 1)),
        "wrap": ((size - before, size, 1, 1), (0, behind, 1, 1)),
    }
    if mode not in ends:
        raise Refusal(f"its mode is '{mode}'", "Use constant, reflect, edge or wrap.")
    first, last = ends[mode]
    parts = [part(*first)] if before else []
    return joined(lowering, node, [*parts, x, *([part(*last)] if behind else [])], axis)
