"""Statistics of BatchNormalizations that are left, moved as far as those of their input moved.

A normalization expects a mean and a variance. After a change before it, its input has others; what training
found is corrected by the difference that calibration data shows between the original and the changed model,

    mean' = mean + (m_now - m_before),      variance' = variance * v_now / v_before

and not replaced by calibration data's own, which are few (re-estimation: Wang et al., *EagleEye*, ECCV 2020,
section 3.3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.calibrate import each_sample
from irshrink.graph.edit import constant, is_op, set_constant
from irshrink.module import Module, Original
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: A variance changes by at most this factor.
LARGEST_CHANGE = 16.0


def move_statistics(module: Module, original: Original, samples: Samples) -> int:
    """Change the mean and the variance of each BatchNormalization in order; returns how many there are."""
    known = {str(v.name) for node in original.module.graph for v in node.outputs}
    nodes = [node for node in module.graph if is_op(node, "BatchNormalization") and _can_move(node, known)]
    for node in nodes:
        name = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        before, now = (
            _statistics(one, samples, name, left)
            for one, left in ((original.module, original), (module, None))
        )
        mean, variance = constant(node.inputs[3]), constant(node.inputs[4])
        assert mean is not None
        assert variance is not None
        ratio = np.divide(now[1], before[1], out=np.ones_like(now[1]), where=before[1] > 0)
        ratio = np.clip(ratio, 1 / LARGEST_CHANGE, LARGEST_CHANGE)
        set_constant(node, 3, (mean + now[0] - before[0]).astype(mean.dtype), "mean")
        set_constant(node, 4, (variance * ratio).astype(variance.dtype), "variance")
    return len(nodes)


def _can_move(node: ir.Node, known: set[str]) -> bool:
    source = node.inputs[0]
    stored = all(constant(value) is not None for value in node.inputs[3:5])
    return source is not None and str(source.name) in known and stored and len(node.outputs) == 1


def _statistics(module: Module, samples: Samples, name: str, left: Original | None) -> tuple[Array, Array]:
    """Mean and variance of each channel of a value, axis 1."""
    total = square = np.zeros(())
    count = 0
    for arrays in each_sample(module, samples, [name]):
        array = arrays[name] if left is None else left.restricted(name, arrays[name])
        rows = np.moveaxis(array.astype(np.float64), 1, 0).reshape(array.shape[1], -1)
        count += rows.shape[1]
        total, square = total + rows.sum(axis=1), square + np.square(rows).sum(axis=1)
    mean = total / count
    return mean, np.maximum(square / count - np.square(mean), 0.0)
