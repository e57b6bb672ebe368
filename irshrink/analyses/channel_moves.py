"""Where channels go in operators that only move or gather values: Reshape, Transpose, Concat, Slice, ...

The operator is applied to numbers that name channels instead of to values: an output whose number is the
same along all axes but one has channels along that one, and the numbers say which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    attribute_ints,
    attribute_string,
    constant,
    describe,
    input_of,
    is_op,
    static_shape,
)
from irshrink.graph.slices import slice_windows

Array = np.ndarray[Any, np.dtype[Any]]
#: Axis of the channels of a value, and their numbers.
Numbers = tuple[int, Array]

_RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
MOVES = (*_RESHAPES, *_REDUCTIONS, "Concat", "Expand", "Pad", "Slice", "Split", "Transpose")
#: No channel: a constant, or a value whose channels are not known.
NONE = -1


def moved(node: ir.Node, numbers: Mapping[ir.Value, Numbers]) -> list[Array]:
    """The numbers of all outputs of ``node``, in the shapes of the outputs, int64; -1 for no channel.

    Args:
        node: one of :data:`MOVES`.
        numbers: axis and channel numbers of inputs that have channels.

    Raises:
        Refusal: a shape, or what decides about the movement, is not constant.
    """
    shapes = [static_shape(value) for value in node.outputs]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        raise Refusal(f"the shape of what {describe(node)} computes is not known")
    if is_op(node, "Concat"):
        axis = attribute_int(node, "axis", 0)
        return [np.concatenate([_spread(node, value, numbers) for value in node.inputs], axis=axis)]
    ids = _spread(node, node.inputs[0], numbers)
    if is_op(node, *_RESHAPES):
        return [ids.reshape(known[0])]
    if is_op(node, "Transpose"):
        return [ids.transpose(attribute_ints(node, "perm"))]
    if is_op(node, "Expand"):
        return [np.broadcast_to(ids, known[0])]
    if is_op(node, "Split"):
        axis = attribute_int(node, "axis", 0)
        ends = np.cumsum([shape[axis] for shape in known])[:-1]
        return list(np.split(ids, ends, axis=axis))
    return [
        _pad(node, ids)
        if is_op(node, "Pad")
        else ids[slice_windows(node, ids.shape)]
        if is_op(node, "Slice")
        else _reduce(node, ids)
    ]


def channel_axis(ids: Array, preferred: int, node: ir.Node) -> Numbers:
    """The axis along which the numbers of a value count channels, and the numbers there.

    Args:
        preferred: the axis to take where several would do.

    Raises:
        Refusal: no axis does: ``node`` mixes channels with positions.
    """
    for axis in sorted(range(ids.ndim), key=lambda a: a != preferred):
        rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        if rows.size and (rows == rows[:, :1]).all():
            return axis, rows[:, 0]
    raise Refusal(f"{describe(node)} mixes channels with positions")


def _spread(node: ir.Node, value: ir.Value | None, numbers: Mapping[ir.Value, Numbers]) -> Array:
    """The numbers of a value in its shape."""
    shape = static_shape(value)
    if value is None or shape is None:
        raise Refusal(f"the shape of what {describe(node)} reads is not known")
    if value not in numbers:
        return np.full(shape, NONE)
    axis, ids = numbers[value]
    return np.broadcast_to(ids.reshape(-1, *[1] * (len(shape) - axis - 1)), shape)


def _pad(node: ir.Node, ids: Array) -> Array:
    """Zeros scale along with anything, and so do copies of the border."""
    pads, axes = constant(input_of(node, 1)), constant(input_of(node, 3))
    fill = constant(input_of(node, 2))
    if pads is None or (input_of(node, 3) is not None and axes is None):
        raise Refusal(f"the pads of {describe(node)} are not constant")
    mode = attribute_string(node, "mode", "constant")
    if mode == "constant" and input_of(node, 2) is not None and (fill is None or fill.any()):
        raise Refusal(f"{describe(node)} pads with something other than 0")
    widths = [[0, 0] for _ in range(ids.ndim)]
    touched = range(ids.ndim) if axes is None else [int(a) % ids.ndim for a in axes]
    for place, axis in enumerate(touched):
        widths[axis] = [int(pads[place]), int(pads[place + len(pads) // 2])]
    if any(width < 0 for pair in widths for width in pair):
        raise Refusal(f"{describe(node)} cuts instead of padding")
    # A channel of zeros may have any scale, that of its neighbour as well.
    padded: Array = np.pad(ids, widths, mode="edge" if mode == "constant" else mode)  # type: ignore[call-overload]
    return padded


def _reduce(node: ir.Node, ids: Array) -> Array:
    given = constant(input_of(node, 1))
    axes = attribute_ints(node, "axes")
    if given is not None:
        axes = tuple(int(a) for a in given.reshape(-1))
    elif input_of(node, 1) is not None:
        raise Refusal(f"the axes of {describe(node)} are not constant")
    axes = axes or tuple(range(ids.ndim))
    kept = bool(attribute_int(node, "keepdims", 1))
    low = ids.min(axis=axes, keepdims=kept)
    if (low != ids.max(axis=axes, keepdims=kept)).any():
        raise Refusal(f"{describe(node)} mixes channels")
    return np.asarray(low)
