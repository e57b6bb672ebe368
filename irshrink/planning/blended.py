"""Samples between samples, for models that know those they are judged on by heart.

A model that was trained on the samples answers nearly all of them rightly, far from its decision boundaries,
and a compressed one does, too: what it loses shows on data that neither has seen. Convex combinations of two
samples lie where such data lies, nearer to the boundaries (Zhang et al., *mixup: beyond empirical risk
minimization*, ICLR 2018). They have no labels; what the original believes of its own answers stands in for
them (:mod:`irshrink.judge`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Of the other sample. With so much of it trained LeNets are expected to lose about as much on MNIST's
#: training images as they lose on its test images (docs/planning.md); with 0.15 twice as much.
SHARE = 0.1


def can_be_blended(samples: Samples) -> bool:
    """Whether what is between two samples is one: all inputs are real numbers."""
    return len(samples) > 1 and all(np.dtype(spec.dtype).kind == "f" for spec in samples.inputs)


def blended(samples: Samples) -> list[dict[str, Array]]:
    """Each sample with some of the one that is half of all samples further on, in which the last wrap around.

    Neighbours in a sorted set are of one class; those are not.
    """
    feeds = list(samples.feeds())
    half = len(feeds) // 2
    return [
        {
            name: (array * (1 - SHARE) + feeds[(index + half) % len(feeds)][name] * SHARE).astype(array.dtype)
            for name, array in one.items()
        }
        for index, one in enumerate(feeds)
    ]
