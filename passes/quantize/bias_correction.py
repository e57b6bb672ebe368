"""Taking the mean error of rounded weights out of the bias.

Rounding the weights of an operator shifts the mean of each output channel by

    E[W' x] - E[W x] = (W' - W) E[x],      W' the dequantized weights

which calibration data tells, and which the bias can take back at no cost (Nagel et al., *Data-free
quantization through weight equalization and bias correction*, ICCV 2019, section 4.2). E[x] is taken per
input channel; that padding lowers it at the border is neglected, as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_int, attribute_ints

Array = np.ndarray[Any, np.dtype[Any]]


def weight_shift(node: ir.Node, error: Array, mean: Array) -> Array:
    """``(W' - W) E[x]`` per output channel, float64 [channels].

    Args:
        node: Conv, ConvTranspose or Gemm.
        error: ``W' - W`` in the layout of the node's weights.
        mean: E[x] per input channel, float64.
    """
    if node.op_type == "Gemm":
        rows: Array = error if attribute_int(node, "transB", 0) else error.T
        return np.asarray(rows @ mean)
    groups = attribute_int(node, "group", 1)
    if node.op_type == "ConvTranspose":
        # [Ci, Co / groups, kernel]; an output meets one in so many taps as there are phases
        phases = float(np.prod(attribute_ints(node, "strides") or (1,)))
        summed = error.reshape(groups, error.shape[0] // groups, error.shape[1], -1).sum(axis=3)
        spread: Array = np.einsum("gio,gi->go", summed, mean.reshape(groups, -1)) / phases
        return np.asarray(spread.reshape(-1))
    channels, per_group = error.shape[:2]
    over_kernel = error.reshape(groups, channels // groups, per_group, -1).sum(axis=3)
    shift: Array = np.einsum("goi,gi->go", over_kernel, mean.reshape(groups, per_group))
    return np.asarray(shift.reshape(channels))
