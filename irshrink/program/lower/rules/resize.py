"""Resize and Upsample: copies of the nearest pixel, or weighted sums of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor, inf, prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink
from irshrink.program.lower.fitting import choice, positive, require
from irshrink.program.lower.interpolation import (
    MODES,
    ROUNDINGS,
    Axis,
    Kernel,
    fixed_point,
    nearest,
    outside,
    taps,
)
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import OUT_OF_RANGE, fits_int32, layer_multiplier, usable
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.repetition import expanded
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Float32, Int32, Requantization, ResampleF32, ResampleInt8, Take
from irshrink.program.program import Quantization

#: Bits behind the point of an interpolation's weights in int8.
WEIGHT_BITS = 11

#: Indices and weights of every output along an axis.
Taps = tuple[Int32, NDArray[np.float64]]


def resize(lowering: Lowering, node: ir.Node) -> None:
    """By constant sizes or scales, in any of the modes of opset 19."""
    x = lowering.real(node, 0)
    axes = _axes(lowering, node, x)
    mode = choice(node, "mode", "nearest", ("cubic", "linear", "nearest"))
    extrapolates = any(outside(axis, axis.coordinates()).any() for axis in axes.values())
    if extrapolates and edit.attribute_float(node, "extrapolation_value", 0.0) != 0.0:
        raise Refusal("it extrapolates with something other than 0", "Use extrapolation_value 0.")
    if mode == "nearest" and not extrapolates:
        y = _nearest(lowering, node, x, axes)
    else:
        y = _interpolated(lowering, node, x, {place: _taps(node, axis) for place, axis in axes.items()})
    lowering.bind(node.outputs[0], y)


def upsample(lowering: Lowering, node: ir.Node) -> None:
    """What Resize was called before opset 10."""
    resize(lowering, node)


def _axes(lowering: Lowering, node: ir.Node, x: View) -> dict[int, Axis]:
    """The axes that change, by their place."""
    places = edit.attribute_ints(node, "axes") or tuple(range(x.rank))
    places = tuple(positive(axis, x.rank) for axis in places)
    old = node.op_type == "Upsample" or len(node.inputs) == 2
    sizes = None if old else lowering.integers(node, 3, "sizes")
    default = "asymmetric" if old else "half_pixel"
    mode = choice(node, "coordinate_transformation_mode", default, MODES)
    roi = None if old else lowering.constants.array(edit.input_of(node, 1))
    found: dict[int, Axis] = {}
    require(not sizes or len(sizes) == len(places), f"it has {len(sizes or ())} sizes for {len(places)} axes")
    scales = _scales(lowering, node, old) if not sizes else _fitted(node, sizes, x, places)
    require(len(scales) == len(places), f"it has {len(scales)} scales for {len(places)} axes")
    require(all(0.0 < scale < inf for scale in scales), f"its scales are {list(scales)}")
    for i, (place, scale) in enumerate(zip(places, scales, strict=True)):
        size = x.shape[place]
        length = sizes[i] if sizes and _stretches(node) else floor(size * scale)
        if sizes and not _stretches(node):
            length = floor(size * scale + 0.5)
        region = (0.0, 1.0)
        if roi is not None and roi.size == 2 * len(places):
            region = float(roi[i]), float(roi[i + len(places)])
        if length < 1:
            raise Refusal("its result is empty", "Resize by less.")
        cropped = mode == "tf_crop_and_resize" and region != (0.0, 1.0)
        if length != size or scale != 1.0 or cropped:
            found[place] = Axis(size, length, scale, mode, *region)
    return found


def _scales(lowering: Lowering, node: ir.Node, old: bool) -> tuple[float, ...]:
    listed = node.attributes.get("scales")
    if listed is not None:
        return tuple(listed.as_floats())
    array = lowering.constants.array(edit.input_of(node, 1 if old else 2))
    if array is None:
        raise Refusal("its scales are computed at run time", "Fold constants, or export static shapes.")
    return tuple(float(number) for number in array.reshape(-1))


def _stretches(node: ir.Node) -> bool:
    return edit.attribute_string(node, "keep_aspect_ratio_policy", "stretch") == "stretch"


def _fitted(node: ir.Node, sizes: Sequence[int], x: View, places: Sequence[int]) -> tuple[float, ...]:
    """Scales that give these sizes; one for all axes where the aspect ratio is kept."""
    each = [float(np.float32(n) / np.float32(x.shape[p])) for n, p in zip(sizes, places, strict=True)]
    if _stretches(node):
        return tuple(each)
    smaller = edit.attribute_string(node, "keep_aspect_ratio_policy", "stretch") == "not_larger"
    return ((min if smaller else max)(each),) * len(each)


def _nearest(lowering: Lowering, node: ir.Node, x: View, axes: dict[int, Axis]) -> View:
    """Copies; whole repetitions need no table."""
    mode = choice(node, "nearest_mode", "round_prefer_floor", ROUNDINGS)
    if node.op_type == "Upsample":
        mode = "floor"
    indices = {place: nearest(axis.coordinates(), mode, axis.size) for place, axis in axes.items()}
    repeats = [len(indices[place]) // size if place in indices else 1 for place, size in enumerate(x.shape)]
    if all(
        taken == tuple(i for i in range(x.shape[place]) for _ in range(repeats[place]))
        for place, taken in indices.items()
    ):
        pairs = list(zip(x.shape, repeats, strict=True))
        split = lowering.builder.view_as(x, [n for size, _ in pairs for n in (size, 1)])
        y = expanded(lowering, node, split, [n for pair in pairs for n in pair])
        return lowering.builder.view_as(y, [size * times for size, times in pairs])
    order = x.order() or tuple(range(x.rank))
    shape = [len(indices[place]) if place in indices else size for place, size in enumerate(x.shape)]
    tensor = lowering.emit_like(
        x,
        Take,
        node,
        [lowering.builder.dense(x, order)],
        [shape[place] for place in order],
        indices=tuple(indices.get(place) for place in order),
    )
    return replace(view_of(tensor, shape, order), stored=x.stored)


def _taps(node: ir.Node, axis: Axis) -> Taps:
    mode = edit.attribute_string(node, "mode", "nearest")
    if mode == "nearest":
        rounding = choice(node, "nearest_mode", "round_prefer_floor", ROUNDINGS)
        indices = np.array(nearest(axis.coordinates(), rounding, axis.size), np.int32)[:, None]
        inside = ~outside(axis, axis.coordinates())
        return indices, inside[:, None].astype(np.float64)
    kernel = Kernel(
        radius=2 if mode == "cubic" else 1,
        a=edit.attribute_float(node, "cubic_coeff_a", -0.75),
        antialias=bool(edit.attribute_int(node, "antialias", 0)),
        exclude_outside=bool(edit.attribute_int(node, "exclude_outside", 0)),
    )
    return taps(axis, kernel)


def _interpolated(lowering: Lowering, node: ir.Node, x: View, found: dict[int, Taps]) -> View:
    """Two neighbouring axes at once, else one after the other (in float)."""
    order = x.order() or tuple(range(x.rank))
    groups = _groups(found, order)
    sink = lowering.sink(node)
    reason = _why_float(lowering.builder.quantization(x), sink, len(groups))
    if reason is not None:
        lowering.float_note(node, reason)
        x = lowering.builder.as_float(x)
    for first, last in groups:
        pair = (found[order[first]], found[order[last]] if last != first else None)
        x = _resampled(lowering, node, x, order, (first, last), pair, None if reason else sink)
    return x


def _groups(found: dict[int, Taps], order: Sequence[int]) -> list[tuple[int, int]]:
    """Places in memory of the axes to resize, pairs of neighbours together."""
    places = [place for place, axis in enumerate(order) if axis in found]
    groups: list[tuple[int, int]] = []
    while places:
        first = places.pop(0)
        if places and places[0] == first + 1:
            groups.append((first, places.pop(0)))
        else:
            groups.append((first, first))
    return groups


def _why_float(held: Quantization | None, sink: Sink | None, steps: int) -> str | None:
    if held is None or sink is None:
        return f"its {'input' if held is None else 'output'} is not quantized"
    if steps > 1:
        return "it resizes axes that do not lie side by side"
    multiplier = _multiplier(held, sink)
    return None if usable(multiplier) else OUT_OF_RANGE


def _multiplier(held: Quantization, sink: Sink) -> Float32:
    steps = layer_multiplier(held.scale, np.ones(1, np.float32), sink.quantization.scale)
    return np.asarray(steps * np.float32(2.0 ** (-2 * WEIGHT_BITS)), np.float32)


def _resampled(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    order: Sequence[int],
    places: tuple[int, int],
    pair: Sequence[Taps | None],
    sink: Sink | None,
) -> View:
    """One operator: the axes before as images, the two as rows and columns, those behind as channels."""
    builder, (first, last) = lowering.builder, places
    sizes = [x.shape[axis] for axis in order]
    middle = (sizes[first], sizes[last] if last != first else 1)
    physical = (prod(sizes[:first]), *middle, prod(sizes[last + 1 :]))
    rows, columns = (
        taps if taps is not None else (np.arange(n, dtype=np.int32)[:, None], np.ones((n, 1)))
        for taps, n in zip(pair, middle, strict=True)
    )
    shape = (physical[0], len(rows[0]), len(columns[0]), physical[3])
    source = builder.reshaped(builder.dense(x, order), physical)
    tables: dict[str, Any] = {"rows": rows[0], "columns": columns[0]}
    held = builder.quantization(x)
    if sink is None or held is None:
        weights: dict[str, Any] = {
            "row_weights": rows[1].astype(np.float32),
            "column_weights": columns[1].astype(np.float32),
        }
        tensor = lowering.emit(ResampleF32, node, [source], shape, **tables, **weights)
    else:
        fixed: dict[str, Any] = {
            "row_weights": fixed_point(rows[1], WEIGHT_BITS),
            "column_weights": fixed_point(columns[1], WEIGHT_BITS),
        }
        _require_room(*fixed.values())
        y = sink.quantization
        form = Requantization(
            multiplier=_multiplier(held, sink), zero_point=y.zero_point, low=sink.low, high=sink.high
        )
        tensor = lowering.emit_int8(
            ResampleInt8, node, [source], shape, sink=sink, **tables, **fixed,
            input_zero_point=held.zero_point, requantization=form,
        )  # fmt: skip
    grown = list(x.shape)
    grown[order[first]] = shape[1]
    if last != first:
        grown[order[last]] = shape[2]
    return view_of(tensor, grown, order)


def _require_room(rows: Int32, columns: Int32) -> None:
    """The sum of magnitudes bounds every partial sum; only a steep cubic kernel could exceed it."""
    largest = [int(np.abs(weights.astype(np.int64)).sum(axis=1).max()) for weights in (rows, columns)]
    bound = 255 * largest[0] * largest[1]
    if not fits_int32(-bound, bound):
        raise Refusal("its cubic coefficient is too steep for int8", "Keep it in float: keep_float.")
