"""What the layers that read a channel lose with it if nothing makes up for it: the diagonal of second order.

    sum over readers and their weights j of channel c:  |W_j|^2 E[x_j^2]

in shares of each reader's output energy: LeCun et al., *Optimal brain damage*, NeurIPS 1990, with the Hessian
of the layers' own outputs, which calibration data without labels gives (the Fisher diagonal of a layer whose
output has unit noise).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.graph.edit import Refusal
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


def second_order(scene: Scene, family: Family) -> Array:
    """
    Raises:
        Refusal: no layer reads the family.
    """
    if not family.readers:
        raise Refusal("no layer reads them")
    total = np.zeros(scene.groups.count)
    for site in family.readers:
        rows, hessian = scene.rows(site.node), scene.moments(site.node).fitted.hessian[0]
        energy = float(((rows @ hessian) * rows).sum()) or 1.0
        costs = np.square(rows).sum(axis=0) * np.diagonal(hessian) / energy
        np.add.at(total, site.groups, costs.reshape(len(site.groups), -1).sum(axis=1))
    return np.asarray(total[family.members])
