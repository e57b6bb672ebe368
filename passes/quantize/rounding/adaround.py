"""Learning whether each weight is rounded down or up (AdaRound).

The weights are ``scale * clip(floor(w / scale) + h(v), low, high)`` with the rectified sigmoid

    h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)

and v is found by gradient descent on the layer's squared error plus a term that grows until h is 0 or 1:

    tr(D H D^T) + lambda * sum 1 - |2 h - 1|^beta,      beta falling from 20 to 2

(Nagel et al., *Up or down? Adaptive rounding for post-training quantization*, ICML 2020, equations 21 to 25).
There the squared error is taken over batches of inputs; it depends on them through H alone, so that one step
here sees all of them. Adam (Kingma and Ba, ICLR 2015) with the defaults of both papers but for fewer, larger
steps. The error is divided by that of nearest rounding, which makes lambda mean the same in every layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.passes.quantize.rounding.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 300
#: Steps at first without the second term, as a share of all.
WARM_UP = 0.2
RATE = 0.05
LAMBDA = 0.01
BETA = (20.0, 2.0)
#: Ends of the sigmoid before it is clipped.
LOW, HIGH = -0.1, 1.1


def adaround(problem: Problem) -> Array:
    """Integers from floor and ceiling, learned; where the result is worse than the nearest, the nearest."""
    floor = np.floor(problem.rows / problem.scale)
    fraction = np.clip(problem.rows / problem.scale - floor, 0.01, 0.99)
    v = np.log((fraction - LOW) / (HIGH - fraction)).astype(np.float32)
    h = _descend(problem, floor, v)
    learned = np.clip(floor + (h >= 0.5), problem.low, problem.high)
    learned = np.where(problem.pruned, 0.0, learned)
    nearest = problem.nearest()
    worse = problem.error(learned) > problem.error(nearest)
    return np.where(worse[:, :, np.newaxis], nearest, learned)


def _descend(problem: Problem, floor: Array, v: Array) -> Array:
    """h after the last step of Adam."""
    scale, hessian = problem.scale.astype(np.float32), problem.hessian.astype(np.float32)
    rows, base = problem.rows.astype(np.float32), floor.astype(np.float32)
    usual = problem.error(problem.nearest()).mean() or 1.0
    weight = np.float32(1 / (usual * problem.rows.shape[2]))
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, STEPS + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * np.float32(HIGH - LOW) + np.float32(LOW)
        h = np.clip(stretched, 0, 1)
        reached = np.clip(base + h, problem.low, problem.high)
        gradient = 2 * weight * ((reached * scale - rows) @ hessian) * scale
        gradient *= (base + h >= problem.low) & (base + h <= problem.high)
        gradient += _pull(h, step)
        gradient *= ((stretched > 0) & (stretched < 1)) * np.float32(HIGH - LOW) * sigmoid * (1 - sigmoid)
        first = first * np.float32(0.9) + gradient * np.float32(0.1)
        second = second * np.float32(0.999) + np.square(gradient) * np.float32(0.001)
        size = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        v = v - np.float32(size) * first / (np.sqrt(second) + np.float32(1e-12))
    return np.asarray(np.clip((HIGH - LOW) / (1 + np.exp(-v)) + LOW, 0, 1))


def _pull(h: Array, step: int) -> Array:
    """The gradient of the term that drives h to 0 or 1."""
    done = (step / STEPS - WARM_UP) / (1 - WARM_UP)
    if done <= 0:
        return np.zeros_like(h)
    beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - done)
    off = 2 * h - 1
    return np.asarray(-LAMBDA * 2 * beta * np.sign(off) * np.abs(off) ** np.float32(beta - 1), np.float32)
