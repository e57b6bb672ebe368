"""How important a channel is: one family of scores a file, and the table of their names.

All but ``reconstruction`` give a number for each channel, from weights alone or from calibration data; the
channels with the least go first. ``reconstruction`` looks at what is left after each one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene
from irshrink.passes.prune.scores.activation import mean_square, share_alive
from irshrink.passes.prune.scores.geometric_median import geometric_median
from irshrink.passes.prune.scores.magnitude import l1_norm, l2_norm
from irshrink.passes.prune.scores.normalization import batchnorm_scale
from irshrink.passes.prune.scores.second_order import second_order

Array = np.ndarray[Any, np.dtype[Any]]
ScoreName = Literal[
    "reconstruction",
    "second-order",
    "l1",
    "l2",
    "geometric-median",
    "batchnorm-scale",
    "mean-square",
    "apoz",
]
#: Importance of the channels of a family, float64 [size], none negative.
#: Raises Refusal where a family has nothing to look at.
Score = Callable[[Scene, Family], Array]

SCORES: Mapping[ScoreName, Score] = {
    "second-order": second_order,
    "l1": l1_norm,
    "l2": l2_norm,
    "geometric-median": geometric_median,
    "batchnorm-scale": batchnorm_scale,
    "mean-square": mean_square,
    "apoz": share_alive,
}
#: What cannot be told from weights alone.
NEED_DATA = frozenset({"reconstruction", "second-order", "mean-square", "apoz"})
