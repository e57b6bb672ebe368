"""Mul, Add, Sub and Div by a constant are affine; the linear operator beside them can absorb them.

    (W x + b) * s + t  =  (s W) x + (s b + t)        the operator before
    W (s * x + t) + b  =  (W s) x + (b + W t)        the operator after, where it does not pad with zeros

with s and t scalar or per channel. Converters write BatchNormalization the first way, with constants of
shape [1, C, 1, 1] or [C]; exporters write the normalization of images the second way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Array,
    Refusal,
    attribute_int,
    constant,
    describe,
    rank,
    remove,
    replace_value,
    require_private,
    rewrite_each,
    same_shape,
    split_constant,
)
from irshrink.graph.linear import Float64, is_linear, linear_op, scale_and_shift_input, scale_and_shift_output
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_AFFINE = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass(frozen=True)
class FoldAffine:
    """Fold arithmetic with per-channel or scalar constants into Conv, ConvTranspose, Gemm and MatMul."""

    name: ClassVar[str] = "fold-affine"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        folded = 0
        while count := rewrite_each(module.graph, ctx, _AFFINE, _fold):
            folded += count  # a chain in front of an operator folds from its end
        return PassResult(folded > 0, stats={"folded": folded})


def _fold(node: ir.Node) -> bool:
    found = split_constant(node)
    if found is None or found[1].dtype.kind != "f" or (node.op_type == "Div" and found[2] == 1):
        return False  # c / x is not affine
    value, array, _ = found
    producer = value.producer()
    if is_linear(producer) and not (_adds(node) and _has_no_bias(producer)):
        _fold_after(node, producer, array)
        return True
    readers = [use.node for use in node.outputs[0].uses() if use.idx == 0 and is_linear(use.node)]
    if len(readers) != 1 or (_adds(node) and _has_no_bias(readers[0])):
        return False
    _fold_before(node, readers[0], value, array)
    return True


def _adds(node: ir.Node) -> bool:
    return node.op_type in ("Add", "Sub")


def _has_no_bias(node: ir.Node) -> bool:
    """MatMul and Add is how ONNX writes a dense layer on more than two axes."""
    return node.op_type == "MatMul" and rank(node.inputs[0]) != 2


def _fold_after(node: ir.Node, linear: ir.Node, array: Array) -> None:
    """``affine(linear(x))``: rescale the output channels."""
    value = linear.outputs[0]
    require_private(value, node)
    op = linear_op(linear)
    channels = _per_channel(array, op.outputs, op.channel_axis, rank(value))
    scale_and_shift_output(op, *_affine(node, channels))
    replace_value(node.outputs[0], value)
    remove(node)


def _fold_before(node: ir.Node, linear: ir.Node, value: ir.Value, array: Array) -> None:
    """``linear(affine(value))``: rescale the input channels."""
    output = node.outputs[0]
    require_private(output, linear)
    op = linear_op(linear)
    if not same_shape(value, output):
        raise Refusal(f"its constant of shape {list(array.shape)} widens its input")
    if attribute_int(linear, "transA", 0):
        raise Refusal(f"{describe(linear)} transposes its input")
    channels = _per_channel(array, op.inputs, op.channel_axis, rank(output))
    scale_and_shift_input(op, *_affine(node, channels))
    linear.replace_input_with(0, value)
    remove(node)


def _per_channel(array: Array, channels: int, axis: int, axes: int | None) -> Float64:
    """A constant that broadcasts along every axis but the channels', as ``[channels]``."""
    if axes is None:
        raise Refusal("the rank of its input is unknown")
    if array.ndim > axes:
        raise Refusal(f"its constant of shape {list(array.shape)} raises the rank of the result")
    aligned = array.reshape((1,) * (axes - array.ndim) + array.shape)
    channel_axis = axis % axes
    if aligned.size != aligned.shape[channel_axis] or aligned.shape[channel_axis] not in (1, channels):
        raise Refusal(f"its constant of shape {list(array.shape)} is not one number per channel")
    return np.broadcast_to(aligned.astype(np.float64).reshape(-1), (channels,))


def _affine(node: ir.Node, c: Float64) -> tuple[Float64, Float64]:
    """Scale and shift of ``x op c`` or ``c op x``."""
    one, zero = np.ones_like(c), np.zeros_like(c)
    if node.op_type == "Mul":
        return c, zero
    if node.op_type == "Div":
        with np.errstate(divide="ignore"):
            return one / c, zero
    if node.op_type == "Add":
        return one, c
    return (one, -c) if constant(node.inputs[0]) is None else (-one, c)
