"""Weights of the layers that read removed channels, changed so that they make up for them.

The best weights for the inputs that stay follow from second moments of all inputs alone, without running
anything again: the layer's own output is what they are fitted to. How strongly they are pulled towards the
old weights is chosen on samples held back (:func:`irshrink.calibration.regression.repaired`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.moments import Moments
from irshrink.calibration.patches import from_rows
from irshrink.calibration.regression import Regression, repaired
from irshrink.graph.edit import constant, is_op, set_constant
from irshrink.graph.linear import LinearOp, bias_name, linear_op
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Compensation:
    """A layer that reads fewer channels.

    Attributes:
        weights, bias: for the inputs and outputs that stay, [1, o, n] and [o]; Gemm's alpha and beta in them.
        error: relative squared error of its output on samples held back.
    """

    node: ir.Node
    weights: Array
    bias: Array
    error: float

    def store(self) -> None:
        """Give them to the node, after the channels were cut out of what it has."""
        node, weight = self.node, constant(self.node.inputs[1])
        assert weight is not None, "readers have constant weights"
        set_constant(node, 1, from_rows(node, self.weights, weight.shape).astype(weight.dtype), "weight")
        for applied in ("alpha", "beta"):
            if is_op(node, "Gemm"):
                node.attributes.pop(applied, None)
        if not is_op(node, "MatMul"):
            set_constant(node, 2, self.bias.astype(weight.dtype), bias_name(node))


def compensations(scene: Scene, families: Sequence[Family], gone: Array) -> list[Compensation]:
    """For every layer that will lose inputs.

    Args:
        gone: bool [groups].
    """
    sites = {site.node: site.groups for family in families for site in family.readers}
    return [_settle(scene, node, groups, gone) for node, groups in sites.items() if gone[groups].any()]


def _settle(scene: Scene, node: ir.Node, read: Array, gone: Array) -> Compensation:
    """Args:
    read: the group of each input channel.
    """
    rows, op = scene.rows(node), linear_op(node)
    inputs = np.flatnonzero(np.repeat(~gone[read], rows.shape[1] // len(read)))
    outputs = _outputs(scene, op, gone)
    moments = scene.moments(node)
    fitted, held = (_without(one, rows[outputs], inputs) for one in (moments.fitted, moments.held))
    start = rows[np.newaxis][:, outputs[:, np.newaxis], inputs]
    found = repaired(fitted, held, start, np.zeros((1, len(outputs))), not is_op(node, "MatMul"))
    bias = np.zeros(op.outputs) if op.bias is None else op.bias
    return Compensation(node, found.weights, bias[outputs] + found.bias.reshape(-1), found.after)


def _outputs(scene: Scene, op: LinearOp, gone: Array) -> Array:
    """Which outputs of the layer stay."""
    value = op.node.outputs[0]
    axes = scene.groups.values.get(value, {})
    groups = axes.get(op.channel_axis % len(value.shape or ()))
    return np.arange(op.outputs) if groups is None else np.flatnonzero(~gone[groups])


def _without(moments: Moments, rows: Array, inputs: Array) -> Regression:
    """Sums over pairs of the inputs that stay and the layer's output with all of them, biases left out."""
    total, second = moments.total[0], moments.second[0]
    output = rows @ second
    return Regression(
        count=moments.count,
        x=total[np.newaxis, inputs],
        t=(rows @ total)[np.newaxis],
        xx=second[np.ix_(inputs, inputs)][np.newaxis],
        tx=output[np.newaxis, :, inputs],
        tt=(output * rows).sum(axis=1)[np.newaxis],
    )
