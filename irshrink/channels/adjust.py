"""What operators say of sizes, said again after channels went: groups, targets, bounds, numbers of rows.

Every function here is called before shapes change, and leaves its node alone when none of its axes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from irshrink.channels.rules.recurrent import GATES
from irshrink.graph.edit import attribute_int, base_name, constant, input_of, set_constant, static_shape
from irshrink.graph.slices import slice_windows

if TYPE_CHECKING:
    from irshrink.channels.remove import Kept

Array = np.ndarray[Any, np.dtype[Any]]


def _convolution(node: ir.Node, kept: Kept) -> None:
    """A depthwise convolution has as many groups as channels; others keep their number of groups."""
    value, weight = node.inputs[0], node.inputs[1]
    groups = attribute_int(node, "group", 1)
    shape = _shape(weight)
    depthwise = shape[1] == 1 if node.op_type == "Conv" else shape[1] == 1 and shape[0] == groups
    if value is not None and groups > 1 and depthwise:
        node.attributes["group"] = ir.AttrInt64("group", kept.count(value, 1, groups))


def _target(node: ir.Node, kept: Kept) -> None:
    """The target of a Reshape or of an Expand; 0 and -1 say the same as before."""
    out = node.outputs[0]
    given = constant(node.inputs[1])
    sizes = _shape(out)
    if given is None or all(kept.mask(out, axis) is None for axis in range(len(sizes))):
        return
    skipped = len(sizes) - len(given)
    wanted = [
        int(d)
        if d in (-1, 0) or (d == 1 and node.op_type == "Expand")
        else kept.count(out, axis, sizes[axis])
        for axis, d in enumerate(given.tolist(), start=skipped)
    ]
    set_constant(node, 1, np.array(wanted, np.int64), f"{base_name(node)}_shape")


def _shape_given(node: ir.Node, kept: Kept) -> None:
    """The shape of a ConstantOfShape."""
    out = node.outputs[0]
    sizes = _shape(out)
    wanted = [kept.count(out, axis, size) for axis, size in enumerate(sizes)]
    if wanted != list(sizes):
        set_constant(node, 0, np.array(wanted, np.int64), f"{base_name(node)}_shape")


def _pad(node: ir.Node, kept: Kept) -> None:
    """Fewer channels are padded on."""
    value, out = node.inputs[0], node.outputs[0]
    amounts, axes = constant(node.inputs[1]), constant(input_of(node, 3))
    sizes = _shape(value)
    touched = range(len(sizes)) if axes is None else [int(a) % len(sizes) for a in axes]
    if amounts is None:
        return
    wanted = amounts.copy()
    for place, axis in enumerate(touched):
        mask = kept.mask(out, axis)
        if mask is not None and amounts[place] + amounts[place + len(touched)]:
            start = int(amounts[place])
            wanted[place] = mask[:start].sum()
            wanted[place + len(touched)] = mask[start + sizes[axis] :].sum()
    if (wanted != amounts).any():
        set_constant(node, 1, wanted, f"{base_name(node)}_pads")


def _split(node: ir.Node, kept: Kept) -> None:
    axis = attribute_int(node, "axis", 0)
    shapes = [_shape(out) for out in node.outputs]
    if kept.mask(node.inputs[0], axis) is None:
        return
    pairs = zip(node.outputs, shapes, strict=True)
    sizes = [kept.count(out, axis % len(shape), shape[axis]) for out, shape in pairs]
    node.attributes.pop("num_outputs", None)
    set_constant(node, 1, np.array(sizes, np.int64), f"{base_name(node)}_sizes")


def _slice(node: ir.Node, kept: Kept) -> None:
    """The same channels, counted anew."""
    value = node.inputs[0]
    shape = _shape(value)
    masks = [kept.mask(value, axis) for axis in range(len(shape))]
    if all(mask is None for mask in masks):
        return
    bounds = []
    for axis, (window, mask) in enumerate(zip(slice_windows(node, shape), masks, strict=True)):
        start, stop = window.start, window.stop
        if mask is not None:
            start, stop = int(mask[:start].sum()), int(mask[:stop].sum())
        if mask is not None or (window.start, window.stop, window.step) != (0, shape[axis], 1):
            bounds.append((start, stop, axis, window.step))
    names = ("starts", "ends", "axes", "steps")
    for index, (name, column) in enumerate(zip(names, zip(*bounds, strict=True), strict=True), start=1):
        set_constant(node, index, np.array(column, np.int64), f"{base_name(node)}_{name}")


def _gather(node: ir.Node, kept: Kept) -> None:
    """The rows that stay have new numbers, and the places for others are gone."""
    axis = attribute_int(node, "axis", 0)
    mask, numbers = kept.mask(node.inputs[0], axis), constant(node.inputs[1])
    if mask is None or numbers is None:
        return
    renamed = (np.cumsum(mask) - 1)[numbers[mask[numbers]]]
    set_constant(node, 1, renamed.astype(numbers.dtype), f"{base_name(node)}_rows")


def _resize(node: ir.Node, kept: Kept) -> None:
    """Target sizes count channels as well; factors do not."""
    out, sizes = node.outputs[0], constant(input_of(node, 3))
    if sizes is None:
        return
    wanted = [kept.count(out, axis, int(size)) for axis, size in enumerate(sizes)]
    if wanted != sizes.tolist():
        set_constant(node, 3, np.array(wanted, np.int64), f"{base_name(node)}_sizes")


def _squeeze(node: ir.Node, kept: Kept) -> None:
    """One that drops whatever has one index says which that are, before others have one."""
    if input_of(node, 1) is None and "axes" not in node.attributes:
        ones = [axis for axis, size in enumerate(_shape(node.inputs[0])) if size == 1]
        set_constant(node, 1, np.array(ones, np.int64), f"{base_name(node)}_axes")


def _recurrent(node: ir.Node, kept: Kept) -> None:
    recurrence = node.inputs[2]
    units = _shape(recurrence)[2]
    if recurrence is not None and kept.mask(recurrence, 2) is not None:
        node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", kept.count(recurrence, 2, units))


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    shape = static_shape(value)
    assert shape is not None, "channels are only followed where shapes are known"
    return shape


ADJUSTMENTS: Mapping[str, Callable[[ir.Node, Kept], None]] = {
    **dict.fromkeys(GATES, _recurrent),
    "ConstantOfShape": _shape_given,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Expand": _target,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _target,
    "Resize": _resize,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Split": _split,
}
