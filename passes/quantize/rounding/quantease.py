"""Coordinate descent on the integers, from GPTQ's (QuantEase).

With all other weights of an output fixed, the error is a parabola in the one left, with its minimum at

    w_j = scale * q_j - (D H)_j / H_jj

so its best integer is the one nearest to that. The inputs are visited in turn, all outputs at once, until no
integer moves: the error never grows, and ends where no single weight can be changed for the better (Behdin et
al., *QuantEase: optimization-based quantization for language models*, arXiv:2309.01885, algorithm 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.passes.quantize.rounding.gptq import gptq
from irshrink.passes.quantize.rounding.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]

#: At most so many times over all inputs; few weights still move after the first few.
SWEEPS = 8


def quantease(problem: Problem) -> Array:
    """Integers that no change of one of them improves, or close to it."""
    return descend(problem, gptq(problem))


def descend(problem: Problem, start: Array) -> Array:
    """Coordinate descent from some integers; the error of no output grows."""
    integers = start.copy()
    gradient = (integers * problem.scale - problem.rows) @ problem.hessian
    scale, pruned = problem.scale[:, :, 0], problem.pruned
    for _ in range(SWEEPS):
        moved = 0
        for j in range(integers.shape[2]):
            curvature = problem.hessian[:, j, j][:, np.newaxis]
            best = np.rint(integers[:, :, j] - gradient[:, :, j] / (curvature * scale))
            best = np.where(pruned[:, :, j], 0.0, np.clip(best, problem.low, problem.high))
            step = best - integers[:, :, j]
            groups, outputs = np.nonzero(step)
            if len(groups) == 0:
                continue
            change = (step * scale)[groups, outputs, np.newaxis]
            gradient[groups, outputs] += change * problem.hessian[groups, j]
            integers[:, :, j] += step
            moved += len(groups)
        if moved == 0:
            break
    return np.asarray(integers)
