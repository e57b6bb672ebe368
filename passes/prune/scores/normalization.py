"""The scale that a normalization gives a channel, |gamma|: Liu et al., *Network slimming*, ICCV 2017."""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.graph.edit import Refusal, constant, is_op
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


def batchnorm_scale(scene: Scene, family: Family) -> Array:
    """
    Raises:
        Refusal: no normalization is left around the family: cleanup folds it into the weights.
    """
    total = np.zeros(scene.groups.count)
    for value, _, groups in scene.constants(family):
        scales = any(
            index == 1 and is_op(node, "BatchNormalization", "InstanceNormalization", "GroupNormalization")
            for node, index in value.uses()
        )
        array = constant(value)
        if scales and array is not None:
            np.add.at(total, groups, np.abs(array.astype(np.float64)))
    if not total[family.members].any():
        raise Refusal("no BatchNormalization is left around them; cleanup folds it into the weights")
    return np.asarray(total[family.members])
