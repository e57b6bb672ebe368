"""How much of a row of weights its integers span: all of it, or less at a smaller error.

Clipping the largest weights makes the step between integers smaller for all others. ``mse`` looks for the
span with the least squared error of the weights (Banner et al., *Post-training 4-bit quantization of
convolutional networks*, NeurIPS 2019, by search), ``output`` for the one with the least squared error of what
the layer computes, ``tr(D H D^T)`` (as LAPQ does for whole networks: Nahshan et al., arXiv:1911.07190). Where
weights make up for each other's rounding, they do so in the search as well: GPTQ stands there for all methods
that do, being the quickest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from irshrink.passes.quantize.rounding import Problem, Rounding
from irshrink.passes.quantize.rounding.gptq import gptq

Array = np.ndarray[Any, np.dtype[Any]]
WeightRange = Literal["max", "mse", "output"]

#: Shares of the full span that are tried, the largest first: a tie clips less.
SHARES = np.linspace(1.0, 0.4, 13)
#: Weights that are tried at the same time.
_TOGETHER = 4 * 2**20


def search_scale(
    problem: Problem, kind: WeightRange, rounding: Rounding, parts: int, per_channel: bool
) -> Array:
    """The scale of every output, [g, o, 1].

    Args:
        problem: with the scales of the full span.
        rounding: what the weights are rounded with later.
        parts: so many groups in a row are parts of the same outputs, and share their scales.
        per_channel: False for one scale in all.
    """
    if kind == "max":
        return problem.scale
    together = kind == "output" and rounding is not Problem.nearest
    if kind == "mse":
        size = problem.rows.shape[2]
        problem = replace(problem, hessian=np.broadcast_to(np.eye(size), (len(problem.rows), size, size)))
    best = np.ones_like(problem.scale)
    least = np.full(problem.scale.shape, np.inf)
    at_once = max(1, _TOGETHER // max(1, problem.rows.size)) if together else 1
    for first in range(0, len(SHARES), at_once):
        shares = SHARES[first : first + at_once]
        tried = _each(problem, shares)
        errors = tried.error(gptq(tried) if together else tried.nearest())
        outputs = problem.rows.shape[1]
        for index, share in enumerate(shares):
            error = _pooled(errors[:, index * outputs : (index + 1) * outputs], parts, per_channel)
            better = error < least
            best, least = np.where(better, share, best), np.where(better, error, least)
    return problem.scale * best


def _each(problem: Problem, shares: Array) -> Problem:
    """The outputs of a problem once for each share of their scales: all are settled in one go."""
    rows = np.tile(problem.rows, (1, len(shares), 1))
    scale = np.concatenate([problem.scale * share for share in shares], axis=1)
    return replace(problem, rows=rows, scale=scale)


def _pooled(error: Array, parts: int, per_channel: bool) -> Array:
    """Errors [g, o] summed over those that share a scale, [g, o, 1]."""
    if not per_channel:
        return np.full((*error.shape, 1), error.sum())
    groups, outputs = error.shape
    summed = error.reshape(groups // parts, parts, outputs).sum(axis=1, keepdims=True)
    return np.broadcast_to(summed, (groups // parts, parts, outputs)).reshape(groups, outputs, 1)
