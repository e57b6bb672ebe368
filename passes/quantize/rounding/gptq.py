"""Rounding one input after the other, the others making up for it (GPTQ).

The rule is that of :mod:`irshrink.calibration.elimination` (Frantar et al., *GPTQ: accurate post-training
quantization for generative pre-trained transformers*, ICLR 2023, algorithm 1; Frantar and Alistarh, *Optimal
brain compression*, NeurIPS 2022). All outputs go through the inputs in the same order, here that of falling
H_jj (the "act-order" of the authors' code): what counts most is rounded while most is left to make up for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from irshrink.calibration.elimination import eliminate, factor
from irshrink.passes.quantize.rounding.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]

#: Numbers in the matrices of parts that are settled at the same time, and how much larger than the smallest
#: one the largest may be.
_TOGETHER, _PADDING = 4 * 2**20, 1.25


def gptq(problem: Problem) -> Array:
    """Integers by GPTQ; the nearest ones where H is diagonal.

    Pruned weights are no inputs: outputs with the same zeros are settled together, each on its own part of H.
    """
    if not problem.pruned.any():
        return _settled(problem)
    result = np.zeros_like(problem.rows)
    for parts in _batches(_parts(problem)):
        integers = _settled(_padded(problem, parts))
        for part, found in zip(parts, integers, strict=True):
            outputs, inputs = len(part.outputs), len(part.inputs)
            result[part.group][np.ix_(part.outputs, part.inputs)] = found[:outputs, :inputs]
    return result


@dataclass(frozen=True)
class _Part:
    """Outputs of a group that have the same zeros, and the inputs that they have."""

    group: int
    outputs: Array
    inputs: Array


def _parts(problem: Problem) -> list[_Part]:
    """All that have inputs, the smallest first."""
    found = []
    for group, pruned in enumerate(problem.pruned):
        patterns, which = np.unique(pruned, axis=0, return_inverse=True)
        by_pattern = np.argsort(which.reshape(-1), kind="stable")
        ends = np.cumsum(np.bincount(which.reshape(-1)))[:-1]
        for pattern, outputs in zip(patterns, np.split(by_pattern, ends), strict=True):
            if not pattern.all():
                found.append(_Part(group, outputs, np.flatnonzero(~pattern)))
    return sorted(found, key=lambda part: (len(part.inputs), len(part.outputs)))


def _batches(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Parts of nearly the same size that fit in memory together."""
    batch: list[_Part] = []
    outputs = 0
    for part in parts:
        inputs, outputs = len(part.inputs), max(outputs, len(part.outputs))
        padded = (len(batch) + 1) * inputs * (inputs + outputs)
        if batch and (padded > _TOGETHER or inputs > _PADDING * len(batch[0].inputs)):
            yield batch
            batch, outputs = [], len(part.outputs)
        batch.append(part)
    if batch:
        yield batch


def _padded(problem: Problem, parts: Sequence[_Part]) -> Problem:
    """One problem with a group for each part; what is added stands for itself, and is 0."""
    outputs = max(len(part.outputs) for part in parts)
    inputs = max(len(part.inputs) for part in parts)
    rows = np.zeros((len(parts), outputs, inputs))
    scale = np.ones((len(parts), outputs, 1))
    hessian = np.zeros((len(parts), inputs, inputs))
    for index, part in enumerate(parts):
        here, there = len(part.outputs), len(part.inputs)
        rows[index, :here, :there] = problem.rows[part.group][np.ix_(part.outputs, part.inputs)]
        scale[index, :here] = problem.scale[part.group][part.outputs]
        hessian[index, :there, :there] = problem.hessian[part.group][np.ix_(part.inputs, part.inputs)]
        hessian[index, range(there, inputs), range(there, inputs)] = 1.0
    return replace(problem, rows=rows, scale=scale, hessian=hessian)


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
