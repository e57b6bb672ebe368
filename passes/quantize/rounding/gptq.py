"""Rounding one input after the other, the others making up for it (GPTQ).

After input j of an output is rounded, the best change of the inputs not yet rounded is

    w -= (w_j - q_j) / U_jj * U_j,      U upper triangular, U^T U = H^-1

(Frantar et al., *GPTQ: accurate post-training quantization for generative pre-trained transformers*, ICLR
2023, algorithm 1; the rule is Optimal Brain Surgeon's, applied to rounding in Frantar and Alistarh, *Optimal
brain compression*, NeurIPS 2022). All outputs go through the inputs in the same order, here that of falling
H_jj (the "act-order" of the authors' code): what counts most is rounded while most is left to make up for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irshrink.passes.quantize.rounding.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]

#: Inputs rounded before the inputs behind them hear of it, in one matrix product.
BLOCK = 64


def gptq(problem: Problem) -> Array:
    """Integers by GPTQ; the nearest ones where H is diagonal."""
    rows, hessian = problem.rows, problem.hessian
    order = np.argsort(-np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order[:, np.newaxis, :], axis=2)
    hessian = np.take_along_axis(hessian, order[:, np.newaxis, :], axis=2)
    hessian = np.take_along_axis(hessian, order[:, :, np.newaxis], axis=1)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).swapaxes(1, 2)
    integers = np.empty_like(rows)
    for start in range(0, rows.shape[2], BLOCK):
        stop = min(start + BLOCK, rows.shape[2])
        errors = _round_block(problem, rows, upper, integers, slice(start, stop))
        rows[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    result = np.empty_like(integers)
    np.put_along_axis(result, np.broadcast_to(order[:, np.newaxis, :], result.shape), integers, axis=2)
    return result


def _round_block(problem: Problem, rows: Array, upper: Array, integers: Array, block: slice) -> Array:
    """Round the inputs of a block; what each was off by, over its U_jj, [g, o, inputs of the block]."""
    errors = np.empty_like(rows[:, :, block])
    for j in range(block.start, block.stop):
        wanted = rows[:, :, j : j + 1]
        nearest = problem.nearest(wanted)
        integers[:, :, j : j + 1] = nearest
        error = (wanted - nearest * problem.scale) / upper[:, j : j + 1, j : j + 1]
        errors[:, :, j - block.start : j - block.start + 1] = error
        rows[:, :, j : block.stop] -= error * upper[:, j : j + 1, j : block.stop]
    return errors
