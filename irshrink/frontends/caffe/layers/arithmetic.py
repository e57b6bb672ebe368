"""Scale, Bias, Power, Exp, Log and Eltwise."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import numpy as np

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.network import Layer


def scale(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """x times a factor that covers some of its axes, plus a bias of the same shape where there is one."""
    parameters = layer.parameters.scale_param
    x, factor, shape = _operand(graph, layer, inputs, parameters, "scale", 0)
    y = graph.one(layer, "Mul", [x, factor], x.shape)
    if not parameters.bias_term:
        return [y]
    offset = layer.blob(0 if len(inputs) > 1 else 1, [prod(shape)]).reshape(shape)
    return graph.node(layer, "Add", [y, graph.constant(layer, "bias", offset)], x.shape)


def bias(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """x plus an offset that covers some of its axes."""
    x, offset, _ = _operand(graph, layer, inputs, layer.parameters.bias_param, "bias", 0)
    return graph.node(layer, "Add", [x, offset], x.shape)


def _operand(
    graph: Graph, layer: Layer, inputs: Sequence[Value], parameters: object, what: str, blob: int
) -> tuple[Value, str, tuple[int, ...]]:
    """The first input, the other operand, and the other's shape for broadcasting.

    The other operand is the second input, or weights over ``num_axes`` axes from ``axis`` on.
    """
    x = inputs[0]
    axis = x.axis(parameters.axis, layer)  # type: ignore[attr-defined]
    if len(inputs) > 1:
        own = inputs[1].shape
        shape = (*own, *[1] * (x.rank - axis - len(own)))
        _require_broadcast(x, axis, own, layer)
        if shape == own:
            return x, inputs[1].name, shape
        target = graph.constant(layer, "shape", np.array(shape, np.int64))
        return x, graph.one(layer, "Reshape", [inputs[1], target], shape).name, shape
    number = parameters.num_axes  # type: ignore[attr-defined]
    covered = x.shape[axis:] if number == -1 else x.shape[axis : axis + number]
    shape = (*covered, *[1] * (x.rank - axis - len(covered)))
    return x, graph.constant(layer, what, layer.blob(blob, [prod(shape)]).reshape(shape)), shape


def _require_broadcast(x: Value, axis: int, own: Sequence[int], layer: Layer) -> None:
    if tuple(x.shape[axis : axis + len(own)]) != tuple(own):
        raise ModelError(
            f"layer '{layer.name}' ({layer.kind}): a blob of {list(own)} does not cover axes of "
            f"{list(x.shape)} from {axis} on."
        )


def power(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """(shift + scale x) ^ power."""
    parameters = layer.parameters.power_param
    y = _affine(graph, layer, inputs[0], parameters.scale, parameters.shift)
    if parameters.power != 1:
        y = graph.one(layer, "Pow", [y, _scalar(graph, layer, "power", parameters.power)], y.shape)
    return [y]


def exponential(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """base ^ (shift + scale x); base -1 is e."""
    parameters = layer.parameters.exp_param
    factor = 1.0 if parameters.base == -1 else _logarithm(layer, parameters.base)
    y = _affine(graph, layer, inputs[0], factor * parameters.scale, factor * parameters.shift)
    return graph.node(layer, "Exp", [y], y.shape)


def logarithm(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """log_base(shift + scale x); base -1 is e."""
    parameters = layer.parameters.log_param
    y = _affine(graph, layer, inputs[0], parameters.scale, parameters.shift)
    y = graph.one(layer, "Log", [y], y.shape)
    if parameters.base != -1:
        factor = 1.0 / _logarithm(layer, parameters.base)
        y = graph.one(layer, "Mul", [y, _scalar(graph, layer, "base", factor)], y.shape)
    return [y]


def _logarithm(layer: Layer, base: float) -> float:
    if base <= 0 or base == 1:
        raise ModelError(f"layer '{layer.name}' ({layer.kind}): base {base:g} must be positive and not 1.")
    return log(base)


def _affine(graph: Graph, layer: Layer, x: Value, factor: float, offset: float) -> Value:
    if factor != 1:
        x = graph.one(layer, "Mul", [x, _scalar(graph, layer, "scale", factor)], x.shape)
    if offset != 0:
        x = graph.one(layer, "Add", [x, _scalar(graph, layer, "shift", offset)], x.shape)
    return x


def _scalar(graph: Graph, layer: Layer, what: str, value: float) -> str:
    return graph.constant(layer, what, np.array(value, np.float32))


#: Caffe's EltwiseOp by number.
_PROD, _SUM, _MAX = range(3)


def eltwise(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """The product, the weighted sum or the maximum of equal shapes."""
    parameters = layer.parameters.eltwise_param
    shape = inputs[0].shape
    if any(value.shape != shape for value in inputs):
        shapes = ", ".join(str(list(value.shape)) for value in inputs)
        raise ModelError(f"layer '{layer.name}' (Eltwise) combines different shapes: {shapes}.")
    factors = list(parameters.coeff) or [1.0] * len(inputs)
    if len(factors) != len(inputs):
        raise ModelError(
            f"layer '{layer.name}' (Eltwise) has {len(inputs)} inputs, {len(factors)} coefficients."
        )
    operator = {_PROD: "Mul", _SUM: "Add", _MAX: "Max"}[parameters.operation]
    values = list(inputs)
    if parameters.operation == _SUM:
        values = [_affine(graph, layer, v, f, 0.0) for v, f in zip(values, factors, strict=True)]
    result = values[0]
    for value in values[1:]:
        result = graph.one(layer, operator, [result, value], shape)
    return [result]
