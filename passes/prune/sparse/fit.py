"""Weights that stay, fitted to what the layer computed before: everything here sees it through one matrix.

With H the damped second moments of what a layer reads and W* the weights wanted (those of the layer, or what
compensates for the layers before it), weights W cost ``tr((W - W*) H (W - W*)^T)``.

- *Least squares on a mask* is the best that weights with given zeros can do: row by row, ``H_SS w_S = (H
  w*)_S`` for its support S.
- *SparseGPT* chooses zeros as it eliminates inputs, block by block, where ``w^2 / U_jj^2`` is smallest: what
  a zero costs when the inputs behind make up for it (Frantar and Alistarh, ICML 2023, algorithm 1).
- *ADMM* alternates between weights that may be anything and weights that have the zeros, ever more of them,
  until they agree (Boyd et al., 2011, section 9.1; Boza, *Fast and effective weight update for pruned large
  language models*, arXiv:2401.02938):

      Z = sparse(W + U),   U += W - Z,   W = (W* H + rho (Z - U)) (H + rho I)^-1

  with inputs scaled so that the diagonal of H is 1, which makes magnitudes scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.calibration.elimination import eliminate, factor, least_squares
from irshrink.passes.prune.sparse.pattern import Pattern, SomeOf

Array = np.ndarray[Any, np.dtype[Any]]

#: Inputs whose zeros SparseGPT chooses together.
_TOGETHER = 128
#: Turns of ADMM, and those of them in which the number of zeros still grows.
_TURNS, _GROWING = 40, 24


@dataclass(frozen=True)
class Wanted:
    """Attributes:
    rows: the weights wanted, float64 [g, o, n].
    hessian: float64 [g, n, n], symmetric and positive definite.
    """

    rows: Array
    hessian: Array

    def error(self, rows: Array) -> Array:
        """What weights cost, [g, o]."""
        off = rows - self.rows
        return np.asarray(((off @ self.hessian) * off).sum(axis=2))

    def on(self, keep: Array) -> Array:
        """The best weights that are 0 where ``keep`` is not; never worse than the wanted ones there."""
        return least_squares(self.rows, self.hessian, keep)


@dataclass(frozen=True)
class Zeros:
    """How many weights become 0, and how they lie.

    Attributes:
        removed: blocks of the pattern that become 0, of the layer or of each block of outputs; of no meaning
            for N of M.
        each: see there.
    """

    pattern: Pattern
    removed: int = 0
    each: bool = False

    def keep(self, scores: Array, share: float = 1.0) -> Array:
        """A mask of the weights that stay; of ``share`` of the zeros so far."""
        if isinstance(self.pattern, SomeOf):
            return self.pattern.keep(scores)
        return self.pattern.keep(scores, round(self.removed * share), self.each)


#: Takes what is wanted and how many zeros to weights that have them.
Method = Callable[[Wanted, Zeros], Array]


def sparsegpt(wanted: Wanted, zeros: Zeros) -> Array:
    """Zeros chosen while inputs are eliminated, then least squares on them."""
    upper = factor(wanted.hessian)
    inputs = wanted.rows.shape[2]
    keep = np.ones(wanted.rows.shape, bool)
    worth = np.diagonal(upper, axis1=1, axis2=2)[:, np.newaxis, :]
    width = _multiple(zeros.pattern, inputs)
    done = [0, 0]  # inputs that were looked at, blocks that were removed of them

    def begin(now: Array, columns: slice) -> None:
        done[0] += columns.stop - columns.start
        until = round(zeros.removed * done[0] / inputs)
        part = Zeros(zeros.pattern, until - done[1], zeros.each)
        done[1] = until
        keep[:, :, columns] = part.keep(np.square(now / worth[:, :, columns]))

    def settle(now: Array, column: int) -> Array:
        return np.where(keep[:, :, column : column + 1], now, 0.0)

    eliminate(wanted.rows, upper, settle, block=width, begin=begin)
    return wanted.on(keep)


def _multiple(pattern: Pattern, inputs: int) -> int:
    """Inputs to look at together: whole runs of the pattern."""
    run = pattern.of if isinstance(pattern, SomeOf) else pattern.inputs
    return min(inputs, max(1, _TOGETHER // run) * run)


def admm(wanted: Wanted, zeros: Zeros) -> Array:
    """Zeros that alternation settles on, then least squares on them."""
    size = np.sqrt(np.diagonal(wanted.hessian, axis1=1, axis2=2))[:, np.newaxis, :]
    scaled = wanted.hessian / (size * size.swapaxes(1, 2))
    start = wanted.rows * size
    target = start @ scaled
    inverse = np.linalg.inv(scaled + np.eye(scaled.shape[1]))
    now, dual = start, np.zeros_like(start)
    keep = np.ones(start.shape, bool)
    for turn in range(1, _TURNS + 1):
        share = 1 - (1 - min(1.0, turn / _GROWING)) ** 3
        keep = zeros.keep(np.square(now + dual), share)
        sparse = np.where(keep, now + dual, 0.0)
        dual = dual + now - sparse
        now = (target + sparse - dual) @ inverse
    return wanted.on(keep)
