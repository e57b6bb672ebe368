"""Norms of all weights that go with a channel: those that write it and those that read it.

L1 is Li et al., *Pruning filters for efficient ConvNets*, ICLR 2017, L2 over a whole group Fang et al.,
*DepGraph*, CVPR 2023. Each constant counts relative to its own mean, or large layers would decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.graph.edit import constant
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


def l1_norm(scene: Scene, family: Family) -> Array:
    return _norm(scene, family, 1)


def l2_norm(scene: Scene, family: Family) -> Array:
    return np.sqrt(_norm(scene, family, 2))


def _norm(scene: Scene, family: Family, power: int) -> Array:
    """Sums of powers of magnitudes, [size]."""
    total = np.zeros(scene.groups.count)
    for value, axis, groups in scene.constants(family):
        array = constant(value)
        if array is None or array.dtype.kind != "f":
            continue
        magnitudes = np.abs(np.moveaxis(array.astype(np.float64), axis, 0).reshape(len(groups), -1)) ** power
        mean = magnitudes.mean()
        if mean > 0:
            np.add.at(total, groups, magnitudes.mean(axis=1) / mean)
    return np.asarray(total[family.members])
