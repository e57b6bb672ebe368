"""Operators that move, cut, join and resize."""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.frontends.tflite.elementwise import Translation
from irshrink.frontends.tflite.flatbuffer import Operator
from irshrink.frontends.tflite.graph import TO_NCHW, TO_NHWC, GraphWriter

_FAR = 2**31 - 1


def reshape(graph: GraphWriter, op: Operator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: all shapes are static, so the output's says everything."""
    shape = graph.int64(graph.shape(op.outputs[0]))
    graph.define(op.outputs[0], graph.add("Reshape", graph.real(op.inputs[0]), shape))


def transpose(graph: GraphWriter, op: Operator) -> None:
    y = graph.add("Transpose", graph.real(op.inputs[0]), perm=graph.integers(op.inputs[1]))
    graph.define(op.outputs[0], y)


def concatenation(graph: GraphWriter, op: Operator) -> None:
    parts = (graph.real(index) for index in op.inputs)
    graph.define(op.outputs[0], graph.add("Concat", *parts, axis=op.options.Axis()))


def pack(graph: GraphWriter, op: Operator) -> None:
    axes = graph.int64([op.options.Axis()])
    parts = [graph.add("Unsqueeze", graph.real(index), axes, part="unsqueeze") for index in op.inputs]
    graph.define(op.outputs[0], graph.add("Concat", *parts, axis=op.options.Axis()))


def unpack(graph: GraphWriter, op: Operator) -> None:
    axis, axes = op.options.Axis(), graph.int64([op.options.Axis()])
    count = len(op.outputs)
    sizes = graph.int64([1] * count)
    parts = graph.add_all("Split", graph.real(op.inputs[0]), sizes, outputs=count, axis=axis)
    for index, part in zip(op.outputs, parts, strict=True):
        graph.define(index, graph.add("Squeeze", part, axes, part="squeeze"))


def split(graph: GraphWriter, op: Operator) -> None:
    """SPLIT: inputs (axis, x), equal parts."""
    (axis,) = graph.integers(op.inputs[0])
    _split(graph, op, op.inputs[1], axis)


def split_v(graph: GraphWriter, op: Operator) -> None:
    """SPLIT_V: inputs (x, sizes, axis); the outputs' shapes say the sizes."""
    (axis,) = graph.integers(op.inputs[2])
    _split(graph, op, op.inputs[0], axis)


def _split(graph: GraphWriter, op: Operator, x: int, axis: int) -> None:
    sizes = graph.int64([graph.shape(index)[axis] for index in op.outputs])
    parts = graph.add_all("Split", graph.real(x), sizes, outputs=len(op.outputs), axis=axis)
    for index, part in zip(op.outputs, parts, strict=True):
        graph.define(index, part)


def slice_(graph: GraphWriter, op: Operator) -> None:
    """SLICE: inputs (x, begin, size); a size of -1 goes to the end."""
    begin, size = graph.integers(op.inputs[1]), graph.integers(op.inputs[2])
    ends = [_FAR if n < 0 else first + n for first, n in zip(begin, size, strict=True)]
    y = graph.add("Slice", graph.real(op.inputs[0]), graph.int64(begin), graph.int64(ends))
    graph.define(op.outputs[0], y)


def strided_slice(graph: GraphWriter, op: Operator) -> None:
    """STRIDED_SLICE: inputs (x, begin, end, strides), bits of the masks by axis."""
    begin, end, strides = (graph.integers(index) for index in op.inputs[1:4])
    options = op.options
    if options.EllipsisMask() or options.NewAxisMask():
        raise ValueError("it has an ellipsis or a new axis; give every axis explicitly")
    shape, axes = graph.shape(op.inputs[0]), range(len(begin))
    for axis in axes:
        if options.ShrinkAxisMask() >> axis & 1:
            first = begin[axis] + (shape[axis] if begin[axis] < 0 else 0)
            begin[axis], end[axis], strides[axis] = first, first + 1, 1
            continue
        if options.BeginMask() >> axis & 1:
            begin[axis] = 0 if strides[axis] > 0 else _FAR
        if options.EndMask() >> axis & 1:
            end[axis] = _FAR if strides[axis] > 0 else -_FAR
    bounds = [graph.int64(numbers) for numbers in (begin, end, axes, strides)]
    y = graph.add("Slice", graph.real(op.inputs[0]), *bounds)
    if options.ShrinkAxisMask():
        y = graph.add("Reshape", y, graph.int64(graph.shape(op.outputs[0])), part="shape")
    graph.define(op.outputs[0], y)


def gather(graph: GraphWriter, op: Operator) -> None:
    if op.options.BatchDims():
        raise ValueError("it gathers by batch; only one set of indices for all can be read")
    x, indices = (graph.real(index) for index in op.inputs[:2])
    graph.define(op.outputs[0], graph.add("Gather", x, indices, axis=op.options.Axis()))


def pad(graph: GraphWriter, op: Operator) -> None:
    """PAD and PADV2: inputs (x, [[before, after], ...], number); stored zero points stand for 0."""
    borders = graph.integers(op.inputs[1])
    inputs = [graph.real(op.inputs[0]), graph.int64([*borders[::2], *borders[1::2]])]
    if len(op.inputs) > 2:
        inputs.append(graph.real(op.inputs[2]))
    graph.define(op.outputs[0], graph.add("Pad", *inputs))


def mirror_pad(graph: GraphWriter, op: Operator) -> None:
    if op.options.Mode() != 0:
        raise ValueError("it pads symmetrically; use REFLECT")
    borders = graph.integers(op.inputs[1])
    pads = graph.int64([*borders[::2], *borders[1::2]])
    graph.define(op.outputs[0], graph.add("Pad", graph.real(op.inputs[0]), pads, mode="reflect"))


def tile(graph: GraphWriter, op: Operator) -> None:
    repeats = graph.int64(graph.integers(op.inputs[1]))
    graph.define(op.outputs[0], graph.add("Tile", graph.real(op.inputs[0]), repeats))


def broadcast_to(graph: GraphWriter, op: Operator) -> None:
    shape = graph.int64(graph.shape(op.outputs[0]))
    graph.define(op.outputs[0], graph.add("Expand", graph.real(op.inputs[0]), shape))


def shape(graph: GraphWriter, op: Operator) -> None:
    """SHAPE: all shapes are static."""
    dtype = np.dtype(graph.tensor(op.outputs[0]).dtype)
    graph.define(op.outputs[0], graph.constant(np.array(graph.shape(op.inputs[0]), dtype)))


def blocks(op_type: str) -> Translation:
    """SPACE_TO_DEPTH and DEPTH_TO_SPACE; both number the block before the channel, as ONNX's DCR."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        x = graph.transposed(graph.real(op.inputs[0]), TO_NCHW)
        y = graph.add(op_type, x, blocksize=op.options.BlockSize())
        graph.define(op.outputs[0], graph.transposed(y, TO_NHWC))

    return translate


def resize(mode: str) -> Translation:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR to the size of the output."""

    def translate(graph: GraphWriter, op: Operator) -> None:
        options, output = op.options, graph.shape(op.outputs[0])
        coordinates = "asymmetric"
        if options.AlignCorners():
            coordinates = "align_corners"
        elif options.HalfPixelCenters():
            coordinates = "half_pixel"
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
        if mode == "nearest":
            rounded = options.AlignCorners() or options.HalfPixelCenters()
            attributes["nearest_mode"] = "round_prefer_ceil" if rounded else "floor"
        if mode == "nearest" and options.HalfPixelCenters() and not options.AlignCorners():
            attributes["nearest_mode"] = "floor"
            attributes["coordinate_transformation_mode"] = "tf_half_pixel_for_nn"
        sizes = graph.int64([output[axis] for axis in TO_NCHW])
        x = graph.transposed(graph.real(op.inputs[0]), TO_NCHW)
        y = graph.add("Resize", x, "", "", sizes, **attributes)
        graph.define(op.outputs[0], graph.transposed(y, TO_NHWC))

    return translate
