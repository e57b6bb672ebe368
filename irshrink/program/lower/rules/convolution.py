"""Conv."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.chains import clamp_behind
from irshrink.program.lower.constants import Constant
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.int16 import wide_layer
from irshrink.program.lower.rules.layer import IntegerLayer, float_bias, integer_layer, weight_codes
from irshrink.program.lower.rules.windows import image, like_input, resolved_window
from irshrink.program.lower.view import View, channels_last, view_of
from irshrink.program.ops import ConvF32, ConvInt8, ConvInt16, Window
from irshrink.program.program import Quantization
from irshrink.program.reference.dispatch import Array

_TO_NHWC = (0, 2, 3, 1)


def conv(lowering: Lowering, node: ir.Node) -> None:
    """2-D and 1-D convolution, any strides, pads, dilations and groups."""
    x = lowering.real(node, 0)
    weight = _weight(lowering.weights(node, 1, "weights"))
    bias = None if edit.input_of(node, 2) is None else lowering.weights(node, 2, "biases")
    groups = edit.attribute_int(node, "group", 1)
    pixels = image(lowering, x)
    _check_channels(pixels, weight, groups)
    kernel = weight.array.shape[2:]
    geometry = resolved_window(
        node, kernel if x.rank == 4 else kernel[1:], (pixels.shape[2], pixels.shape[3])
    )
    y = convolved(lowering, node, pixels, (weight, bias), window=geometry, groups=groups)
    lowering.bind(node.outputs[0], like_input(lowering, y, x.rank))


def convolved(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    *,
    window: Window,
    groups: int,
) -> View:
    """Convolution of [N, Ci, H, W] by weights [Co, Ci / groups, kh, kw], biases [Co]; int8 if possible."""
    weight, bias = constants
    if lowering.builder.wide(x) is not None:
        found = _wide(lowering, node, x, constants, window=window, groups=groups)
        return found or _float(lowering, node, x, constants, window=window, groups=groups)
    layer = integer_layer(lowering.builder.quantization(x), weight, bias, lowering.sink(node))
    if isinstance(layer, IntegerLayer):
        return _integer(lowering, node, x, layer, window=window, groups=groups)
    lowering.float_note(node, layer)
    return _float(lowering, node, x, constants, window=window, groups=groups)


def _integer(
    lowering: Lowering, node: ir.Node, x: View, layer: IntegerLayer, *, window: Window, groups: int
) -> View:
    quantization = lowering.builder.quantization(x)
    assert isinstance(quantization, Quantization)
    shape = _output_shape(x, window, layer.weight.shape[0])
    tensor = lowering.emit_int8(
        ConvInt8,
        node,
        [lowering.builder.dense(x, channels_last(4))],
        [shape[axis] for axis in _TO_NHWC],
        sink=layer.sink,
        weight_scale=layer.scale,
        weight=_to_nhwc(layer.weight),
        weight_bits=layer.weight_bits,
        sparse=layer.sparse,
        huffman=layer.huffman,
        bias=layer.bias,
        window=window,
        groups=groups,
        input_zero_point=quantization.zero_point,
        requantization=layer.requantization,
    )
    return view_of(tensor, shape, _TO_NHWC)


def _wide(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    *,
    window: Window,
    groups: int,
) -> View | None:
    """Between int16 activations; None, with a note, where that cannot be."""
    sink = lowering.wide_sink(node)
    found = wide_layer(lowering.builder.wide(x), *constants, sink)
    if isinstance(found, str) or sink is None:
        lowering.float_note(node, str(found))
        return None
    weights, result = found
    shape = _output_shape(x, window, len(weights.weight))
    tensor = lowering.emit_int16(
        ConvInt16,
        node,
        [lowering.builder.dense(x, channels_last(4))],
        [shape[axis] for axis in _TO_NHWC],
        sink=sink,
        weight=_to_nhwc(weights.weight),
        bias=weights.bias.astype(np.int32),
        window=window,
        groups=groups,
        result=result,
    )
    return view_of(tensor, shape, _TO_NHWC)


def _float(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    *,
    window: Window,
    groups: int,
) -> View:
    weight, bias = constants
    clamp = clamp_behind(node.outputs[0], lowering.constants)
    lowering.absorbed.update(clamp.absorbed)
    shape = _output_shape(x, window, weight.array.shape[0])
    tensor = lowering.emit(
        ConvF32,
        node,
        [lowering.builder.dense(lowering.builder.as_float(x), channels_last(4))],
        [shape[axis] for axis in _TO_NHWC],
        also=clamp.absorbed,
        weight=_to_nhwc(weight.array),
        codes=weight_codes(_constant_to_nhwc(weight)),
        bias=float_bias(bias, weight.array.shape[0]),
        window=window,
        groups=groups,
        low=clamp.low,
        high=clamp.high,
    )
    return view_of(tensor, shape, _TO_NHWC)


def _weight(weight: Constant) -> Constant:
    """[Co, Ci / groups, kh, kw]; a one-dimensional kernel is one row."""
    rank = weight.array.ndim
    if rank not in (3, 4):
        raise Refusal(f"its kernel has {rank - 2} axes", "Only 1-D and 2-D convolutions run on the target.")
    if rank == 4:
        return weight
    co, ci, length = weight.array.shape
    codes = weight.codes
    if codes is not None:
        axis = codes.axis if codes.axis in (None, 0, 1) else 3
        codes = replace(codes, integers=codes.integers.reshape(co, ci, 1, length), axis=axis)
    return weight.moved(lambda array: array.reshape(co, ci, 1, length), codes)


def _check_channels(x: View, weight: Constant, groups: int) -> None:
    channels, (co, per_group) = x.shape[1], weight.array.shape[:2]
    if channels != per_group * groups or co % groups:
        raise Refusal(
            f"{channels} channels in {groups} groups do not fit weights {list(weight.array.shape)}",
            "The model is damaged; export it again.",
        )


def _output_shape(x: View, geometry: Window, channels: int) -> tuple[int, int, int, int]:
    height, width = geometry.output(x.shape[2], x.shape[3])
    shape = (x.shape[0], channels, height, width)
    if prod(shape) <= 0:
        raise Refusal("its window is larger than its input", "Give the model larger inputs.")
    return shape


def _constant_to_nhwc(weight: Constant) -> Constant:
    codes = weight.codes
    if codes is not None:
        axis = None if codes.axis is None else _TO_NHWC.index(codes.axis)
        codes = replace(codes, integers=_to_nhwc(codes.integers), axis=axis)
    return weight.moved(_to_nhwc, codes)


def _to_nhwc(weight: Array) -> Array:
    """[Co, Ci, kh, kw] as [Co, kh, kw, Ci]."""
    return np.ascontiguousarray(weight.transpose(_TO_NHWC))
