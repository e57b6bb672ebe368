"""Conv, ConvTranspose, Gemm, MatMul: operators that sum over channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.channels.linker import Array, Linker
from irshrink.graph.edit import Refusal, attribute_int, describe, input_of


def conv(linker: Linker, node: ir.Node) -> None:
    """X ``[N, C, ...]``, W ``[O, C / g, ...]``.

    Depthwise channels go one by one and the number of groups falls. Of other groups each gives up the same
    places, and their number stays.
    """
    value, weight = _images(linker, node)
    groups = attribute_int(node, "group", 1)
    channels, filters = linker.slots(value, 1), linker.slots(weight, 0)
    if groups > 1 and linker.shape(weight)[1] == 1:
        repeated = None if channels is None else np.repeat(channels, linker.shape(weight)[0] // groups)
        linker.tie(filters, repeated, linker.reason(node, value))
        _write(linker, node, filters)
        return
    columns = linker.slots(weight, 1)
    if groups > 1:
        inner = None if channels is None else linker.tie_rows(channels.reshape(groups, -1))
        linker.tie(columns, inner, linker.reason(node, value))
        if filters is not None:
            linker.tie_rows(filters.reshape(groups, -1))
    else:
        linker.tie(columns, channels, linker.reason(node, value))
        linker.read(node, channels)
    _write(linker, node, filters)


def conv_transpose(linker: Linker, node: ir.Node) -> None:
    """X ``[N, C, ...]``, W ``[C, O / g, ...]``; grouped as :func:`conv`."""
    value, weight = _images(linker, node)
    groups = attribute_int(node, "group", 1)
    channels = linker.slots(value, 1)
    linker.tie(linker.slots(weight, 0), channels, linker.reason(node, value))
    if linker.shape(weight)[0] == groups and linker.shape(weight)[1] == 1:
        _write(linker, node, linker.slots(weight, 0))
        return
    columns = linker.slots(weight, 1)
    if groups == 1:
        linker.read(node, channels)
        _write(linker, node, columns)
    else:
        if channels is not None:
            linker.tie_rows(channels.reshape(groups, -1))
        _write(linker, node, None if columns is None else np.tile(columns, groups))


def gemm(linker: Linker, node: ir.Node) -> None:
    """``A [M, K]`` times ``B [K, N]`` plus ``C``, either of A and B transposed by attribute."""
    value, weight = _operands(node)
    turned, turned_weight = attribute_int(node, "transA", 0), attribute_int(node, "transB", 0)
    _contract(linker, node, (value, 0 if turned else 1), (weight, 1 if turned_weight else 0))
    linker.give(node.outputs[0], 0, linker.slots(value, 1 if turned else 0))
    columns = linker.slots(weight, 0 if turned_weight else 1)
    linker.give(node.outputs[0], 1, columns)
    if linker.is_weight(weight):
        linker.write(node, columns)
    bias = input_of(node, 2)
    if bias is not None:
        linker.broadcast(node, [node.outputs[0], bias], node.outputs[0])


def matmul(linker: Linker, node: ir.Node) -> None:
    """``A [..., M, K]`` times ``B [..., K, N]``; the axes before broadcast."""
    left, right = _operands(node)
    if min(len(linker.shape(left)), len(linker.shape(right))) < 2:
        raise Refusal(f"{describe(node)} multiplies a vector")
    out = node.outputs[0]
    rank = len(linker.shape(out))
    _contract(linker, node, (left, -1), (right, -2))
    linker.broadcast(node, [left, right], out, skip=2)
    linker.give(out, rank - 2, linker.slots(left, -2))
    linker.give(out, rank - 1, linker.slots(right, -1))
    if linker.is_weight(right):
        linker.write(node, linker.slots(right, -1))
    elif linker.is_weight(left):
        linker.write(node, linker.slots(left, -2))


def _images(linker: Linker, node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Input and weights of a convolution, which leads samples along and looks over positions."""
    value, weight = _operands(node)
    linker.keep_positions(node, value)
    if len(weight.uses()) > 1:
        linker.keep_positions(node, weight)
    linker.give(node.outputs[0], 0, linker.slots(value, 0))
    return value, weight


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    value, weight = node.inputs[0], node.inputs[1]
    if value is None or weight is None:
        raise Refusal(f"{describe(node)} lacks an operand")
    return value, weight


def _contract(linker: Linker, node: ir.Node, one: tuple[ir.Value, int], other: tuple[ir.Value, int]) -> None:
    """The sum over K: what goes on one side goes on the other."""
    slots, others = linker.slots(*one), linker.slots(*other)
    still = one[0] if slots is None else other[0]
    linker.tie(slots, others, linker.reason(node, still))
    if slots is None or others is None:
        return
    if linker.is_weight(one[0]) or linker.is_weight(other[0]):
        linker.read(node, slots)
    else:
        linker.inexact.append((slots, f"{describe(node)} sums over them"))


def _write(linker: Linker, node: ir.Node, filters: Array | None) -> None:
    """The channels that come out, their bias with them."""
    bias = input_of(node, 2)
    if bias is not None:
        filters = linker.tie(filters, linker.slots(bias, 0), linker.reason(node, bias))
    linker.give(node.outputs[0], 1, filters)
    linker.write(node, filters)
