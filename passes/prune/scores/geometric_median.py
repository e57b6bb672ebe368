"""How far a filter is from the others: one near their geometric median is one that they can stand in for.

The sum of the distances to all other filters of a layer is least for the filter next to the geometric median
(He et al., *Filter pruning via geometric median*, CVPR 2019), whatever its own norm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.graph.edit import Refusal, constant
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


def geometric_median(scene: Scene, family: Family) -> Array:
    """Sum of distances to the other channels by the weights that write them.

    Raises:
        Refusal: no layer writes all channels of the family by weights of its own.
    """
    total = np.zeros(len(family))
    written = {use for node in family.writers for use in node.inputs[1:2] if use is not None}
    for value, axis, groups in scene.constants(family):
        array = constant(value)
        if value not in written or array is None or not np.isin(family.members, groups).all():
            continue
        rows = np.moveaxis(array.astype(np.float64), axis, 0).reshape(len(groups), -1)
        filters = np.stack([rows[groups == member].reshape(-1) for member in family.members])
        squares = np.square(filters).sum(axis=1)
        distances = squares[:, None] + squares[None] - 2 * filters @ filters.T
        total += np.sqrt(np.maximum(distances, 0.0)).sum(axis=1)
    if not total.any():
        raise Refusal("no weights write all of its channels")
    return total
