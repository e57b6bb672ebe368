"""Faults that ruin quantized models, planted on purpose: what `irshrink explain` must name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


def plant_outlier(proto: onnx.ModelProto, factor: float = 300.0) -> str:
    """Make one channel of a float model large and its reader's weights small by as much.

    The model computes the same. It is done to the first convolution with a bias that one other alone reads,
    behind a Relu or nothing.

    Returns:
        The name of the value with the large channel.

    Raises:
        ValueError: there is none.
    """
    for node in proto.graph.node:
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        value, reader = _behind(proto, node.output[0])
        if reader is None or reader.op_type != "Conv" or reader.input[0] != value:
            continue
        for name in node.input[1:3]:
            _scale(tensor(proto, name), (0,), factor)
        groups = next((a.i for a in reader.attribute if a.name == "group"), 1)
        _scale(tensor(proto, reader.input[1]), (0,) if groups > 1 else (slice(None), 0), 1 / factor)
        return value
    raise ValueError("no convolution is read by one other alone")


def scale_grid(proto: onnx.ModelProto, factor: float, number: int | None = None) -> str:
    """Make the scale of one activation larger or smaller; its zero point stays.

    Args:
        number: which of the scales, the middle one when not given.

    Returns:
        The name of the value that is rounded.
    """
    made = {out for node in proto.graph.node for out in node.output}
    rounding = [n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made]
    by_scale = list({node.input[1]: node for node in reversed(rounding)}.values())[::-1]
    node = by_scale[len(by_scale) // 2 if number is None else number]
    scale = tensor(proto, node.input[1])
    _put(scale, numpy_helper.to_array(scale) * np.float32(factor))
    return str(node.input[0])


def clip_bias(proto: onnx.ModelProto, number: int | None = None, share: float = 0.25) -> str:
    """Clip the bias of a layer to a share of its largest code; returns the name of the initializer."""
    bias = _bias(proto, number)
    codes = numpy_helper.to_array(bias)
    limit = int(np.abs(codes).max() * share)
    _put(bias, np.clip(codes, -limit, limit))
    return bias.name


def saturate_bias(proto: onnx.ModelProto, number: int | None = None) -> str:
    """Set one channel of a bias to the end of int32; returns the name of the initializer."""
    bias = _bias(proto, number)
    codes = numpy_helper.to_array(bias).copy()
    codes[0] = np.iinfo(np.int32).max
    _put(bias, codes)
    return bias.name


def tensor(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """An initializer by name.

    Raises:
        ValueError: there is none.
    """
    found: list[onnx.TensorProto] = [t for t in proto.graph.initializer if t.name == name]
    if not found:
        raise ValueError(f"no initializer is named '{name}'")
    return found[0]


def _bias(proto: onnx.ModelProto, number: int | None) -> onnx.TensorProto:
    kind = onnx.TensorProto.INT32
    found: list[onnx.TensorProto] = [
        t for t in proto.graph.initializer if t.data_type == kind and len(t.dims) == 1
    ]
    return found[len(found) // 2 if number is None else number]


def _behind(proto: onnx.ModelProto, value: str) -> tuple[str, onnx.NodeProto | None]:
    """The only reader of a value, or of what a Relu makes of it; and what it reads."""
    readers = [node for node in proto.graph.node if value in node.input]
    if len(readers) != 1:
        return value, None
    return _behind(proto, readers[0].output[0]) if readers[0].op_type == "Relu" else (value, readers[0])


def _scale(weights: onnx.TensorProto, where: tuple[Any, ...], by: float) -> None:
    array = numpy_helper.to_array(weights).copy()
    array[where] *= by
    _put(weights, array)


def _put(old: onnx.TensorProto, array: Array) -> None:
    old.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), old.name))
