"""Channels that hold nothing, planted to be removed: what the model computes must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from irshrink.channels.groups import ChannelGroups
from irshrink.graph.edit import constant, is_op
from irshrink.testing.builder import ModelBuilder, Pick
from irshrink.testing.layers import LAYERS, conv, gemm, matmul
from irshrink.testing.models import STARTS, try_layer
from irshrink.testing.rare_layers import RARE_LAYERS, conv_transpose

Array = np.ndarray[Any, np.dtype[Any]]

_OPENING = (conv, gemm, matmul, conv_transpose)
_SUMS = ("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")


def closed_model(pick: Pick, steps: int) -> onnx.ModelProto:
    """A random model in which many channels can go: layers with weights at both ends, and any in between."""
    builder = ModelBuilder(pick)
    builder.input(pick(STARTS))
    for layer in _OPENING * 3:
        try_layer(builder, layer, pick(list(builder.shapes)))
    for _ in range(steps):
        recent = list(builder.shapes)[-4:]
        layer = pick([*LAYERS, *RARE_LAYERS, *_OPENING, *_OPENING])
        try_layer(builder, layer, pick([*recent, *recent, *builder.shapes]))
    read = {name for node in builder.nodes for name in node.input}
    made = [name for node in builder.nodes for name in node.output]
    ends = [_end(builder, name) for name in made if name in builder.shapes and name not in read]
    return onnx.shape_inference.infer_shapes(builder.model(ends))


def _end(builder: ModelBuilder, name: str) -> str:
    size = int(np.prod(builder.shapes[name]))
    flat = builder.op("Reshape", name, builder.ints([1, size]))
    weights = builder.rng.standard_normal((size, 3)).astype(np.float32)
    return builder.op("Gemm", flat, builder.constant(weights, own=True))


def pick_groups(groups: ChannelGroups, rng: np.random.Generator, share: float = 0.5) -> Array:
    """Groups at random whose removal must not change anything once they hold zeros, bool [count].

    Args:
        share: of each family; one at least goes, and one at least stays.
    """
    gone = np.zeros(groups.count, bool)
    for family in groups.members():
        exact = np.setdiff1d(family, list(groups.inexact))
        number = min(len(family) - 1, max(1, int(share * len(family))))
        gone[rng.permutation(exact)[:number]] = True
    for axes in groups.values.values():
        for found in axes.values():
            if gone[found].all():
                gone[found] = False
    return gone


def plant_zeros(groups: ChannelGroups, gone: Array) -> None:
    """Zeros in all that writes or reads these groups by weights, in place."""
    for value, axis, found in groups.constants():
        array = constant(value)
        if array is None or array.dtype.kind != "f" or not gone[found].any() or not _weighs(value):
            continue
        planted = array.copy()
        np.moveaxis(planted, axis, 0)[gone[found]] = 0
        value.const_value = tensor = ir.tensor(planted, name=value.name)
        producer = value.producer()
        if producer is not None:
            producer.attributes["value"] = ir.AttrTensor("value", tensor)


def _weighs(value: ir.Value) -> bool:
    """Whether every reader adds it or multiplies by it; zeros as a divisor are another matter."""
    return all(
        (is_op(node, *_SUMS) and (index > 0 or is_op(node, "MatMul")))
        or is_op(node, "Add", "Mul", "Sub")
        or (is_op(node, "BatchNormalization") and index in (1, 2))
        for node, index in value.uses()
    )
