"""Rounding one input after the other, the others making up for it (GPTQ).

The rule is that of :mod:`irshrink.calibration.elimination` (Frantar et al., *GPTQ: accurate post-training
quantization for generative pre-trained transformers*, ICLR 2023, algorithm 1; Frantar and Alistarh, *Optimal
brain compression*, NeurIPS 2022). All outputs go through the inputs in the same order, here that of falling
H_jj (the "act-order" of the authors' code): what counts most is rounded while most is left to make up for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from irshrink.calibration.elimination import eliminate, factor
from irshrink.passes.quantize.rounding.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]


def gptq(problem: Problem) -> Array:
    """Integers by GPTQ; the nearest ones where H is diagonal.

    Pruned weights are no inputs: outputs with the same zeros are settled together, each on its own part of H.
    """
    pruned = problem.pruned
    if not pruned.any():
        return _settled(problem)
    result = np.zeros_like(problem.rows)
    for group in range(len(pruned)):
        patterns, which = np.unique(pruned[group], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            outputs, inputs = np.flatnonzero(which.reshape(-1) == number), np.flatnonzero(~pattern)
            if len(inputs) == 0:
                continue
            part = replace(
                problem,
                rows=problem.rows[group][np.ix_(outputs, inputs)][np.newaxis],
                scale=problem.scale[group][outputs][np.newaxis],
                hessian=problem.hessian[group][np.ix_(inputs, inputs)][np.newaxis],
            )
            result[group][np.ix_(outputs, inputs)] = _settled(part)[0]
    return result


def _settled(problem: Problem) -> Array:
    rows, hessian = problem.rows, problem.hessian
    order = np.argsort(-np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order[:, np.newaxis, :], axis=2)
    hessian = np.take_along_axis(hessian, order[:, np.newaxis, :], axis=2)
    hessian = np.take_along_axis(hessian, order[:, :, np.newaxis], axis=1)
    integers = np.empty_like(rows)

    def settle(wanted: Array, j: int) -> Array:
        integers[:, :, j : j + 1] = problem.nearest(wanted)
        return np.asarray(integers[:, :, j : j + 1] * problem.scale)

    eliminate(rows, factor(hessian), settle)
    result = np.empty_like(integers)
    np.put_along_axis(result, np.broadcast_to(order[:, np.newaxis, :], result.shape), integers, axis=2)
    return result
