"""Layers that move numbers or change shapes, and those that do nothing in inference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.network import Layer


def same(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """Dropout: training scales, so that inference need not."""
    return [inputs[0]]


def split(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """The same blob under several names."""
    return [inputs[0]] * len(layer.tops)


def concat(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """Blobs one after the other along an axis."""
    parameters = layer.parameters.concat_param
    x = inputs[0]
    axis = x.axis(parameters.concat_dim if parameters.HasField("concat_dim") else parameters.axis, layer)
    for value in inputs:
        if (*value.shape[:axis], *value.shape[axis + 1 :]) != (*x.shape[:axis], *x.shape[axis + 1 :]):
            shapes = ", ".join(str(list(value.shape)) for value in inputs)
            raise ModelError(f"layer '{layer.name}' (Concat): shapes differ beside axis {axis}: {shapes}.")
    shape = list(x.shape)
    shape[axis] = sum(value.shape[axis] for value in inputs)
    return graph.node(layer, "Concat", inputs, shape, axis=axis)


def slices(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """A blob cut along an axis, at ``slice_point`` or into equal parts."""
    (x,) = inputs
    parameters = layer.parameters.slice_param
    axis = x.axis(parameters.slice_dim if parameters.HasField("slice_dim") else parameters.axis, layer)
    extent, number = x.shape[axis], len(layer.tops)
    points = [0, *parameters.slice_point, extent]
    if not parameters.slice_point and extent % number == 0:
        points = [extent // number * i for i in range(number + 1)]
    sizes = [after - before for before, after in pairwise(points)]
    if len(sizes) != number or min(sizes) < 1:
        raise ModelError(
            f"layer '{layer.name}' (Slice): {extent} along axis {axis} cannot be cut into {number} so."
        )
    shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
    lengths = graph.constant(layer, "sizes", np.array(sizes, np.int64))
    return graph.node(layer, "Split", [x, lengths], *shapes, axis=axis)


def flatten(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """Axes from ``axis`` to ``end_axis`` as one."""
    (x,) = inputs
    parameters = layer.parameters.flatten_param
    first, last = x.axis(parameters.axis, layer), x.axis(parameters.end_axis, layer)
    if last < first:
        raise ModelError(f"layer '{layer.name}' (Flatten): end_axis is before axis.")
    return [
        _reshape(graph, layer, x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))
    ]


def reshape(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """``num_axes`` axes from ``axis`` on become ``shape``: 0 keeps a size, -1 takes what is left."""
    (x,) = inputs
    parameters = layer.parameters.reshape_param
    axis = parameters.axis if parameters.axis >= 0 else x.rank + parameters.axis + 1
    end = x.rank if parameters.num_axes == -1 else axis + parameters.num_axes
    wanted = list(parameters.shape.dim)
    kept_exist = all(axis + i < x.rank for i, d in enumerate(wanted) if d == 0)
    if (
        not 0 <= axis <= end <= x.rank
        or wanted.count(-1) > 1
        or min(wanted, default=0) < -1
        or not kept_exist
    ):
        raise ModelError(f"layer '{layer.name}' (Reshape): {wanted} is no shape for {list(x.shape)}.")
    middle = [x.shape[axis + i] if d == 0 else d for i, d in enumerate(wanted)]
    shape = [*x.shape[:axis], *middle, *x.shape[end:]]
    known = prod(d for d in shape if d != -1)
    shape = [prod(x.shape) // max(known, 1) if d == -1 else d for d in shape]
    if prod(shape) != prod(x.shape):
        raise ModelError(f"layer '{layer.name}' (Reshape): {list(x.shape)} does not fit into {shape}.")
    return [_reshape(graph, layer, x, shape)]


def _reshape(graph: Graph, layer: Layer, x: Value, shape: Sequence[int]) -> Value:
    if tuple(shape) == x.shape:
        return x
    return graph.one(layer, "Reshape", [x, graph.constant(layer, "shape", np.array(shape, np.int64))], shape)


def permute(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """Axes in another order; those that are not named follow (SSD's layer)."""
    (x,) = inputs
    order = list(layer.parameters.permute_param.order)
    order += [axis for axis in range(x.rank) if axis not in order]
    if sorted(order) != list(range(x.rank)):
        raise ModelError(f"layer '{layer.name}' (Permute): {order} is no order of {x.rank} axes.")
    return graph.node(layer, "Transpose", [x], [x.shape[axis] for axis in order], perm=order)


def crop(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """The first blob cut to the size of the second from ``axis`` on, starting at ``offset``."""
    x, like = inputs
    parameters = layer.parameters.crop_param
    axes = list(range(x.axis(parameters.axis, layer), x.rank))
    offsets = list(parameters.offset) or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    fits = like.rank == x.rank and len(offsets) == len(axes)
    ends = [offset + like.shape[axis] for offset, axis in zip(offsets, axes, strict=False)] if fits else []
    if not fits or any(o < 0 or e > x.shape[a] for o, e, a in zip(offsets, ends, axes, strict=True)):
        raise ModelError(
            f"layer '{layer.name}' (Crop): {list(like.shape)} does not fit into {list(x.shape)} so."
        )
    shape = (*x.shape[: axes[0]], *(like.shape[axis] for axis in axes))
    bounds = [
        graph.constant(layer, what, np.array(values, np.int64))
        for what, values in (("starts", offsets), ("ends", ends), ("axes", axes))
    ]
    return graph.node(layer, "Slice", [x, *bounds], shape)


def tile(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """A blob repeated along an axis."""
    (x,) = inputs
    parameters = layer.parameters.tile_param
    axis, number = x.axis(parameters.axis, layer), parameters.tiles
    repeats = [number if i == axis else 1 for i in range(x.rank)]
    shape = [d * r for d, r in zip(x.shape, repeats, strict=True)]
    return graph.node(
        layer, "Tile", [x, graph.constant(layer, "repeats", np.array(repeats, np.int64))], shape
    )
