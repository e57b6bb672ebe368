"""From a few measured members of a family to all of them.

One C function computes the members: loops over pixels, output channels and the length of each sum. With
pixels fixed, what it takes is a polynomial of how often the loops run,

    cost = a + b C + c K + d C K + e S C

with C turns of the loop over output channels, K of the one over a sum, and S strips. Loops take several
channels at a time, so C is ``outputs``, or that over 2, 4 or 8 rounded up, or whole blocks and single ones
after them; and K likewise. The coefficients are none negative and make relative errors small (non-negative
least squares; Lawson and Hanson, Solving Least Squares Problems, 1974); the way of counting turns is the one
that leaves the least of them. The stated error is that of members left out, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Turns = Callable[[Array], Array]

#: Predictions are never said to be better than this.
_LEAST_ERROR = 0.001


@dataclass(frozen=True)
class Loops:
    """How far the loops of a C function go for one member.

    Attributes:
        outputs: output channels that are computed.
        depth: products in one sum; 1 where there are none.
        strips: how often it begins anew.
    """

    outputs: int
    depth: int = 1
    strips: int = 1


@dataclass(frozen=True)
class Fit:
    """What predicts a family's costs on one C function.

    Attributes:
        outputs, depth: which of :data:`TURNS` counts the turns of either loop.
        coefficients: of the terms above, in that order.
        error: root mean square of relative errors of members left out.
    """

    outputs: int
    depth: int
    coefficients: tuple[float, ...]
    error: float

    def cost(self, loops: Loops) -> float:
        """Of one member."""
        return float((_terms([loops], self.outputs, self.depth) @ np.array(self.coefficients))[0])


def _blocks(size: int) -> Turns:
    """Blocks, the last one filled up or overlapping."""
    return lambda n: -(-n // size)


def _and_singles(size: int) -> Turns:
    """Whole blocks, and what is left one at a time."""
    return lambda n: n // size + n % size


TURNS: tuple[Turns, ...] = (
    _blocks(1), _blocks(2), _blocks(4), _blocks(8), _and_singles(2), _and_singles(4)
)  # fmt: skip


def fit(loops: Sequence[Loops], costs: Sequence[float]) -> Fit:
    """The prediction that fits measured members best; at least one."""
    wanted = np.asarray(costs, np.float64)
    coupled = len({one.depth for one in loops}) == 1
    ways = list(product(range(len(TURNS)), (0,) if coupled else range(len(TURNS))))
    tried = [(_solve(_terms(loops, c, k), wanted), c, k) for c, k in ways]
    (found, _), outputs, depth = min(tried, key=lambda one: round(one[0][1], 9))
    error = max(_LEAST_ERROR, _left_out(_terms(loops, outputs, depth), wanted))
    return Fit(outputs, depth, tuple(float(x) for x in found), error)


@dataclass(frozen=True)
class Line:
    """``slope * cost + offset``: what a layer takes whose C function knows its sizes, from what it would take
    otherwise. Compilers then save in the inner loops and around them."""

    slope: float = 1.0
    offset: float = 0.0
    error: float = 0.0

    def of(self, cost: float) -> float:
        return max(0.0, self.slope * cost + self.offset)


def line(given: Sequence[float], wanted: Sequence[float]) -> Line:
    """The line that fits best, by relative errors; through nothing where one point is given."""
    x, y = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    columns = np.stack([x, np.ones_like(x)], axis=1) if len(x) > 1 else x[:, None]
    found = np.linalg.lstsq(columns / y[:, None], np.ones(len(y)), rcond=None)[0]
    error = float(np.abs(columns @ found / y - 1).max())
    return Line(float(found[0]), float(found[1]) if len(x) > 1 else 0.0, error)


def _terms(loops: Sequence[Loops], outputs: int, depth: int) -> Array:
    given = np.array([(one.outputs, one.depth, one.strips) for one in loops], np.float64)
    c, k, strips = TURNS[outputs](given[:, 0]), TURNS[depth](given[:, 1]), given[:, 2]
    return np.stack([np.ones_like(c), c, k, c * k, (strips - 1) * c], axis=1)


def _solve(terms: Array, wanted: Array) -> tuple[Array, float]:
    """Coefficients, and the root mean square of relative errors."""
    from scipy.optimize import nnls

    scale = np.maximum(terms.max(axis=0), 1e-30)
    found, residual = nnls(terms / scale / wanted[:, None], np.ones(len(wanted)), maxiter=1000)
    solution: Any = found / scale
    return solution, float(residual) / len(wanted) ** 0.5


def _left_out(terms: Array, wanted: Array) -> float:
    if len(wanted) < 3:
        return 0.0
    errors = []
    for i in range(len(wanted)):
        others = np.arange(len(wanted)) != i
        found, _ = _solve(terms[others], wanted[others])
        errors.append(float(terms[i] @ found) / wanted[i] - 1)
    return float(np.sqrt(np.mean(np.square(errors))))
