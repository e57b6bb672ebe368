"""Normalizations that are put together from reductions and arithmetic in float32, in any memory order."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import positive, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.floating import binary_f32, reduce_f32, unary_f32
from irshrink.program.lower.rules.power import powered
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import AveragePoolF32, BinaryKind, Window
from irshrink.program.reference.dispatch import Array

_NO_INTEGER_FORM = "it has no integer form"
#: What a norm of 0 is divided by, so that 0 / 0 is 0.
_TINY = np.array(1.17549435e-38, np.float32)


def instance_normalization(lowering: Lowering, node: ir.Node) -> None:
    """Every channel of every image by its own mean and variance."""
    x = lowering.floating(node, 0)
    lowering.float_note(node, _NO_INTEGER_FORM)
    gamma, beta = (lowering.weights(node, i, what).array for i, what in ((1, "scales"), (2, "biases")))
    centred, deviation = _moments(lowering, node, x, tuple(range(2, x.rank)), _epsilon(node))
    lowering.bind(node.outputs[0], _scaled(lowering, node, (centred, deviation), gamma, beta))


def group_normalization(lowering: Lowering, node: ir.Node) -> None:
    """Groups of channels by their mean and variance; scales per channel, or (opset 18) per group."""
    x, groups = lowering.floating(node, 0), edit.attribute_int(node, "num_groups", 1)
    lowering.float_note(node, _NO_INTEGER_FORM)
    n, channels, *spatial = x.shape
    if groups < 1 or channels % groups:
        raise Refusal(f"{channels} channels are no {groups} groups", "The model is damaged; export it again.")
    split = lowering.builder.view_as(x, (n, groups, channels // groups, *spatial))
    centred, deviation = _moments(lowering, node, split, tuple(range(2, split.rank)), _epsilon(node))
    normal = binary_f32(lowering, node, "div", centred, deviation)
    y = lowering.builder.view_as(normal, x.shape)
    steps: tuple[tuple[BinaryKind, int, str], ...] = (("mul", 1, "scales"), ("add", 2, "biases"))
    for kind, index, what in steps:
        array = lowering.weights(node, index, what).array.reshape(-1)
        fits = array.size > 0 and channels % array.size == 0
        require(fits, f"its {what} are {array.size} for {channels} channels")
        whole = np.repeat(array, channels // array.size)
        y = binary_f32(lowering, node, kind, y, _per_channel(whole, x.rank))
    lowering.bind(node.outputs[0], y)


def mean_variance_normalization(lowering: Lowering, node: ir.Node) -> None:
    """``(x - mean) / (deviation + 1e-9)`` over the given axes."""
    x = lowering.floating(node, 0)
    lowering.float_note(node, _NO_INTEGER_FORM)
    axes = edit.attribute_ints(node, "axes") or (0, 2, 3)
    axes = tuple(positive(axis, x.rank) for axis in axes)
    centred, deviation = _moments(lowering, node, x, axes, 0.0)
    safe = binary_f32(lowering, node, "add", deviation, np.array(1e-9, np.float32))
    lowering.bind(node.outputs[0], binary_f32(lowering, node, "div", centred, safe))


def lp_normalization(lowering: Lowering, node: ir.Node) -> None:
    """``x / norm`` along one axis, for p of 1 and 2; where the norm is 0 the result is 0."""
    x, p = lowering.floating(node, 0), edit.attribute_int(node, "p", 2)
    lowering.float_note(node, _NO_INTEGER_FORM)
    if p not in (1, 2):
        raise Refusal(f"its p is {p}", "Use 1 or 2.")
    axis = positive(edit.attribute_int(node, "axis", -1), x.rank)
    norm = reduce_f32(lowering, node, x, "l1" if p == 1 else "sumsquare", (axis,))
    norm = norm if p == 1 else unary_f32(lowering, node, norm, "sqrt")
    safe = binary_f32(lowering, node, "max", norm, _TINY)
    lowering.bind(node.outputs[0], binary_f32(lowering, node, "div", x, safe))


def local_response_normalization(lowering: Lowering, node: ir.Node) -> None:
    """``x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta``."""
    x, size = lowering.floating(node, 0), edit.attribute_int(node, "size", 1)
    lowering.float_note(node, _NO_INTEGER_FORM)
    order = (0, *range(2, x.rank), 1)
    source = lowering.builder.dense(binary_f32(lowering, node, "mul", x, x), order)
    n, channels, *spatial = x.shape
    rows = (n, prod(spatial), channels, 1)
    before = (size - 1) // 2
    window = Window(kernel=(1, size), pads=(0, before, 0, size - 1 - before))
    tensor = lowering.emit(
        AveragePoolF32,
        node,
        [lowering.builder.reshaped(source, rows)],
        rows,
        window=window,
        count_padding=True,
    )
    mean = view_of(tensor, x.shape, order)
    alpha, bias = edit.attribute_float(node, "alpha", 1e-4), edit.attribute_float(node, "bias", 1.0)
    scaled = binary_f32(lowering, node, "mul", mean, np.array(alpha, np.float32))
    base = binary_f32(lowering, node, "add", scaled, np.array(bias, np.float32))
    divisor = powered(lowering, node, base, edit.attribute_float(node, "beta", 0.75))
    lowering.bind(node.outputs[0], binary_f32(lowering, node, "div", x, divisor))


def log_softmax(lowering: Lowering, node: ir.Node) -> None:
    """``d - log(sum(exp(d)))``, ``d = x - max``; before opset 13 over all axes from ``axis`` on."""
    x, flat = lowering.floating(node, 0), lowering.opset < 13
    lowering.float_note(node, _NO_INTEGER_FORM)
    axis = positive(edit.attribute_int(node, "axis", 1 if flat else -1), x.rank)
    axes = tuple(range(axis, x.rank)) if flat else (axis,)
    centred = binary_f32(lowering, node, "sub", x, reduce_f32(lowering, node, x, "max", axes))
    total = reduce_f32(lowering, node, unary_f32(lowering, node, centred, "exp"), "sum", axes)
    y = binary_f32(lowering, node, "sub", centred, unary_f32(lowering, node, total, "log"))
    lowering.bind(node.outputs[0], y)


def _moments(
    lowering: Lowering, node: ir.Node, x: View, axes: tuple[int, ...], epsilon: float
) -> tuple[View, View]:
    """``x - mean`` and ``sqrt(variance + epsilon)``."""
    mean = reduce_f32(lowering, node, x, "mean", axes)
    centred = binary_f32(lowering, node, "sub", x, mean)
    square = binary_f32(lowering, node, "mul", centred, centred)
    variance = reduce_f32(lowering, node, square, "mean", axes)
    if epsilon:
        variance = binary_f32(lowering, node, "add", variance, np.array(epsilon, np.float32))
    return centred, unary_f32(lowering, node, variance, "sqrt")


def _scaled(lowering: Lowering, node: ir.Node, moments: tuple[View, View], gamma: Array, beta: Array) -> View:
    """``centred * (gamma / deviation) + beta``: the division is one per channel."""
    centred, deviation = moments
    inverse = unary_f32(lowering, node, deviation, "reciprocal")
    factor = binary_f32(lowering, node, "mul", inverse, _per_channel(gamma, centred.rank))
    y = binary_f32(lowering, node, "mul", centred, factor)
    return binary_f32(lowering, node, "add", y, _per_channel(beta, centred.rank))


def _per_channel(array: Array, rank: int) -> Array:
    return array.reshape(-1, *(1,) * (rank - 2))


def _epsilon(node: ir.Node) -> float:
    return edit.attribute_float(node, "epsilon", 1e-5)
