"""What calibration data makes of a channel, where layers read it.

``mean-square`` is E[x_c^2] (He et al., ICCV 2017, call its root the response), ``apoz`` the share of values
that are not zero: 1 - APoZ of Hu et al., *Network trimming*, arXiv:1607.03250.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.graph.edit import Refusal
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene

Array = np.ndarray[Any, np.dtype[Any]]


def mean_square(scene: Scene, family: Family) -> Array:
    """
    Raises:
        Refusal: no layer reads the family.
    """
    total = np.zeros(scene.groups.count)
    for site in family.readers:
        diagonal = np.diagonal(scene.moments(site.node).fitted.hessian[0])
        np.add.at(total, site.groups, diagonal.reshape(len(site.groups), -1).mean(axis=1))
    if not family.readers:
        raise Refusal("no layer reads them")
    return np.asarray(total[family.members])


def share_alive(scene: Scene, family: Family) -> Array:
    """
    Raises:
        Refusal: no layer reads the family.
    """
    if not family.readers:
        raise Refusal("no layer reads them")
    total = np.zeros(scene.groups.count)
    for site in family.readers:
        np.add.at(total, site.groups, scene.alive(site))
    return np.asarray(total[family.members])
