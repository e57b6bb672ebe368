"""Requantization by one integer multiplication, where that is provably the same function.

The contract is ``clip(rint(f(f(acc) * m)) + zy, low, high)``, a step function of ``acc`` that never falls:
for every result ``r`` there is a smallest accumulator ``T[r]`` that gives at least ``r``. The integer form

    floor(acc * M / 2^(31 + shift) + 1/2) >= r    if and only if    acc * M >= (2 r - 1) * 2^(30 + shift)

never falls either, so the two are equal for all accumulators when they step at the same 255 places:

    T[r] * M >= (2 r - 1) * 2^(30 + shift)        and        (T[r] - 1) * M < (2 r - 1) * 2^(30 + shift)

Every ``r`` bounds M from both sides; any whole number that satisfies all of them will do. Steps outside the
accumulators that a layer can reach bind nothing. Ties of dyadic multipliers have no solution, because
``rint`` rounds them to even: such layers keep the float form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Requantization

Int64 = NDArray[np.int64]

#: The narrowing shifts of vector instruction sets: int32 to int16 by an immediate.
LARGEST_SHIFT = 16
#: Accumulators that float32 holds exactly; beyond, no integer form is looked for.
_EXACT = 1 << 24


@dataclass(frozen=True, eq=False)
class IntegerScale:
    """``floor(acc * multiplier / 2^(31 + shift) + 1/2)``; int32 multipliers, one per channel."""

    multiplier: NDArray[np.int32]
    shift: int


def reachable(weight: NDArray[np.int8], bias: NDArray[np.int32]) -> tuple[Int64, Int64]:
    """The smallest and the largest accumulator of every channel; ``weight`` [channel, ...]."""
    w = weight.reshape(len(weight), -1).astype(np.int64)
    low, high = -128 * w, 127 * w
    start = bias.astype(np.int64)
    return start + np.minimum(low, high).sum(1), start + np.maximum(low, high).sum(1)


def integer_scale(form: Requantization, low: Int64, high: Int64) -> IntegerScale | None:
    """The integer form for accumulators in [low, high], one a channel; None if there is none."""
    multiplier = np.broadcast_to(form.multiplier, low.shape).astype(np.float32)
    shift = min(LARGEST_SHIFT, floor(-log2(float(multiplier.max()))))
    if shift < 1 or low.min() < -_EXACT or high.max() > _EXACT:
        return None
    results = np.arange(form.low - form.zero_point + 1, form.high - form.zero_point + 1, dtype=np.int64)
    steps = _steps(multiplier, results)
    if steps is None:
        return None
    bounds = _bounds(steps, (2 * results - 1) << (30 + shift), low[:, None], high[:, None])
    if bounds is None:
        return None
    least, most = bounds
    nominal = np.rint(multiplier.astype(np.float64) * 2.0 ** (31 + shift)).astype(np.int64)
    chosen = np.clip(nominal, least, most)
    if np.any(least > most) or np.any(chosen > np.iinfo(np.int32).max) or np.any(chosen < 1):
        return None
    return IntegerScale(chosen.astype(np.int32), shift)


def _steps(multiplier: NDArray[np.float32], results: Int64) -> Int64 | None:
    """T[channel, r]: the smallest accumulator whose product rounds to at least r."""
    guess = np.ceil((results[None] - 0.5) / multiplier[:, None].astype(np.float64))
    if np.abs(guess).max() > 2 * _EXACT:
        # far beyond what is reachable: such steps bind nothing, wherever they are exactly
        guess = np.clip(guess, -2 * _EXACT, 2 * _EXACT)
    offsets = np.arange(-3, 4)
    candidates = guess[:, :, None] + offsets
    products = candidates.astype(np.float32) * multiplier[:, None, None]
    reached = np.rint(products) >= results[None, :, None]
    far = np.abs(guess) >= 2 * _EXACT
    if np.any(~far & (reached[:, :, 0] | ~reached[:, :, -1])):
        return None
    first = np.argmax(reached, axis=2) + offsets[0]
    return guess.astype(np.int64) + np.where(far, 0, first)


def _bounds(steps: Int64, thresholds: Int64, low: Int64, high: Int64) -> tuple[Int64, Int64] | None:
    """The least and the largest M of every channel that put every reachable step where it belongs."""
    at_least, below = np.clip(steps, low, high + 1), np.clip(steps - 1, low - 1, high)
    least = np.ones(len(steps), np.int64)
    most = np.full(len(steps), np.iinfo(np.int32).max, np.int64)
    c = np.broadcast_to(thresholds[None], steps.shape)
    # at_least * M >= c, for steps that are reached
    lower, upper, possible = _divide(at_least, c, at_least <= high)
    # below * M <= c - 1, which is (-below) * M >= 1 - c, for steps that something lies below
    lower2, upper2, possible2 = _divide(-below, 1 - c, below >= low)
    if not (possible and possible2):
        return None
    for bound in (lower, lower2):
        least = np.maximum(least, bound.max(1))
    for bound in (upper, upper2):
        most = np.minimum(most, bound.min(1))
    return least, most


def _divide(a: Int64, c: Int64, binding: Any) -> tuple[Int64, Int64, bool]:
    """Bounds of M by ``a * M >= c`` where binding, for M >= 1; and whether those with a = 0 hold."""
    least, most = np.ones_like(a), np.full_like(a, np.iinfo(np.int32).max)
    up, down = binding & (a > 0), binding & (a < 0)
    least[up] = -((-c[up]) // a[up])
    most[down] = (-c[down]) // (-a[down])
    return least, most, not bool(np.any(binding & (a == 0) & (c > 0)))
