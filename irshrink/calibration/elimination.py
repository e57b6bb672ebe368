"""Settling the weights of a layer one input after the other, those not yet settled making up for it.

After the weight of input j is moved from w_j to q_j, the change of the weights behind it that keeps the
output of the layer nearest is

    w -= (w_j - q_j) / U_jj * U_j,      U upper triangular, U^T U = H^-1

with H the second moments of the inputs. That is Optimal Brain Surgeon's rule (Hassibi and Stork, NeurIPS
1992) in an order that all outputs share, as GPTQ (Frantar et al., ICLR 2023) uses it for rounding and
SparseGPT (Frantar and Alistarh, ICML 2023) for zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Inputs settled before the inputs behind them hear of it, in one matrix product.
BLOCK = 64

#: Inputs from which on one matrix after the other is inverted, as a triangle.
_LARGE = 64

#: Takes the wanted weights of one input, [g, o, 1], and its number to those that are settled on.
Settle = Callable[[Array, int], Array]


def least_squares(rows: Array, hessian: Array, keep: Array) -> Array:
    """The weights nearest to ``rows`` of those that are 0 where ``keep`` is not: ``H_SS w_S = (H w*)_S``.

    Args:
        rows: w*, float64 [g, o, n].
        hessian: H, [g, n, n], by which differences count.
        keep: bool [g, o, n], S of every output.
    """
    from scipy.linalg.lapack import dposv

    found = np.zeros_like(rows)
    right = rows @ hessian
    for group in range(len(rows)):
        for output in range(rows.shape[1]):
            support = np.flatnonzero(keep[group, output])
            if len(support) == 0:
                continue
            square, wanted = hessian[group][np.ix_(support, support)], right[group, output, support]
            _, solution, failed = dposv(square, wanted)
            found[group, output, support] = np.linalg.solve(square, wanted) if failed else solution
    return found


def factor(hessian: Array) -> Array:
    """U of the formula, [g, n, n], for H positive definite.

    With R upper triangular and H = R R^T, Cholesky's factor of H from its end, U is the inverse of R.
    """
    last_first = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]
    if hessian.shape[1] < _LARGE:
        return np.asarray(np.triu(np.linalg.inv(last_first)))
    from scipy.linalg.lapack import dtrtri

    found = np.empty_like(last_first)
    for group, triangle in enumerate(last_first):
        found[group], failed = dtrtri(triangle)
        assert failed == 0, "H is positive definite"
    return found


def eliminate(
    rows: Array,
    upper: Array,
    settle: Settle,
    *,
    block: int = BLOCK,
    begin: Callable[[Array, slice], None] = lambda wanted, columns: None,
) -> Array:
    """Weights as ``settle`` leaves them, input after input, [g, o, n].

    Args:
        rows: the weights wanted, float64 [g, o, n].
        upper: see :func:`factor`.
        block: see :data:`BLOCK`.
        begin: called before each block with what is wanted of it now, [g, o, inputs], and its inputs.
    """
    wanted = rows.swapaxes(1, 2).copy(order="C")  # what belongs to an input lies together
    settled = np.empty_like(wanted)
    for start in range(0, rows.shape[2], block):
        stop = min(start + block, rows.shape[2])
        begin(wanted[:, start:stop].swapaxes(1, 2), slice(start, stop))
        errors = np.empty_like(wanted[:, start:stop])
        for j in range(start, stop):
            column = wanted[:, j, :, np.newaxis]
            settled[:, j] = settle(column, j)[:, :, 0]
            error = (wanted[:, j] - settled[:, j]) / upper[:, j, j, np.newaxis]
            errors[:, j - start] = error
            wanted[:, j:stop] -= upper[:, j, j:stop, np.newaxis] * error[:, np.newaxis]
        wanted[:, stop:] -= upper[:, start:stop, stop:].swapaxes(1, 2) @ errors
    return np.ascontiguousarray(settled.swapaxes(1, 2))
