"""Bits for every layer under a budget: the multiple-choice knapsack, solved exactly.

Each layer takes one of its candidates; losses of layers add up, and so do bytes:

    minimize  sum loss[l, c] x[l, c]    so that    sum_c x[l, c] = 1,    sum bytes[l, c] x[l, c] <= limit

with every x 0 or 1 (Yao et al., *HAWQ-V3: dyadic neural network quantization*, ICML 2021, section 3.4; Dong
et al., *HAWQ-V2*, NeurIPS 2020, for losses that add up). Dynamic programming over the layers keeps the
choices so far that no other one beats in bytes and loss (Nemhauser and Ullmann, *Discrete dynamic programming
and capital allocation*, 1969), and of them those that can still end below the best choice known: whatever
the other layers take, the total is at least

    loss + sum of the others' min_c (loss + price bytes) - price (limit - bytes)

(Fisher, *The Lagrangian relaxation method for solving integer programming problems*, 1981). Bytes are whole
numbers throughout, so a limit is kept to the byte (docs/decisions/0029-mixed-precision.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: Halvings of the price of a byte: enough for any two numbers that a float64 tells apart.
_HALVINGS = 120
#: Sums of losses this near, relatively, are not told apart when choices are ruled out.
_SAME = 1e-12


@dataclass(frozen=True)
class Candidate:
    """One way to store the weights of a layer.

    Attributes:
        bits: of a weight; 32 is float.
        nbytes: what is stored, scales and biases included.
        loss: what the network is expected to lose, in any unit that adds up over layers; at least 0.
    """

    bits: int
    nbytes: int
    loss: float


Layers = Sequence[Sequence[Candidate]]
Choice = tuple[Candidate, ...]


@dataclass(frozen=True)
class _States:
    """Choices for the first layers: sums, the candidate of the last layer, and which choice it continues."""

    nbytes: Array
    loss: Array
    taken: Array
    before: Array


def smallest(layers: Layers) -> int:
    """Bytes of the smallest choice there is."""
    return sum(min(candidate.nbytes for candidate in candidates) for candidates in layers)


def total_bytes(choice: Sequence[Candidate]) -> int:
    return sum(candidate.nbytes for candidate in choice)


def total_loss(choice: Sequence[Candidate]) -> float:
    return sum(candidate.loss for candidate in choice)


def assign(layers: Layers, limit: int) -> Choice | None:
    """The choice with the least loss that takes at most ``limit`` bytes, and of those the smallest.

    Args:
        layers: the candidates of each layer, at least one each.

    Returns:
        One candidate a layer, or None where even the smallest choice is larger.
    """
    kept = [_undominated(candidates) for candidates in layers]
    least = smallest(kept)
    if least > limit:
        return None
    price, known = _price(kept, limit)
    bounds = [min(c.loss + price * c.nbytes for c in candidates) for candidates in kept]
    to_come = [sum(bounds) - done for done in accumulate(bounds)]
    lightest = [least - done for done in accumulate(candidates[0].nbytes for candidates in kept)]
    states = _States(*(np.zeros(1, kind) for kind in (np.int64, np.float64, np.int64, np.int64)))
    trail = []
    most = known + _SAME * (known + price * limit)
    for candidates, rest, light in zip(kept, to_come, lightest, strict=True):
        states = _extended(states, candidates)
        fits = states.nbytes + light <= limit
        bound = states.loss + rest - price * (limit - states.nbytes)
        states = _pareto(_pick(states, np.flatnonzero(fits & (bound <= most))))
        trail.append(states)
    return _walk_back(kept, trail)


def _undominated(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those that lose at least as much as a smaller one, smallest first."""
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.nbytes, c.loss, c.bits)):
        if not found or candidate.loss < found[-1].loss:
            found.append(candidate)
    return found


def _price(layers: Layers, limit: int) -> tuple[float, float]:
    """A price of a byte at which the layers, each on its own, take about ``limit``; and a loss within it."""
    low, high = 0.0, 1.0
    while total_bytes(_at_price(layers, high)) > limit:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total_bytes(_at_price(layers, middle)) > limit else (low, middle)
    return high, total_loss(_filled(layers, _at_price(layers, high), limit))


def _at_price(layers: Layers, price: float) -> list[Candidate]:
    return [min(candidates, key=lambda c: (c.loss + price * c.nbytes, c.nbytes)) for candidates in layers]


def _filled(layers: Layers, choice: list[Candidate], limit: int) -> list[Candidate]:
    """The choice with what is left of the limit spent, on the largest gains first."""
    left = limit - total_bytes(choice)
    filled = list(choice)
    better = [
        (c.loss - now.loss, i, c) for i, now in enumerate(choice) for c in layers[i] if c.loss < now.loss
    ]
    for _, index, candidate in sorted(better, key=lambda one: (one[0], one[1])):
        more = candidate.nbytes - filled[index].nbytes
        if candidate.loss < filled[index].loss and more <= left:
            filled[index], left = candidate, left - more
    return filled


def _extended(states: _States, candidates: Sequence[Candidate]) -> _States:
    """Every choice continued by every candidate."""
    count, width = len(states.nbytes), len(candidates)
    nbytes, loss = (np.array([getattr(c, key) for c in candidates]) for key in ("nbytes", "loss"))
    return _States(
        (states.nbytes[:, np.newaxis] + nbytes).reshape(-1),
        (states.loss[:, np.newaxis] + loss).reshape(-1),
        np.tile(np.arange(width), count),
        np.repeat(np.arange(count), width),
    )


def _pick(states: _States, chosen: Array) -> _States:
    return _States(*(part[chosen] for part in (states.nbytes, states.loss, states.taken, states.before)))


def _pareto(states: _States) -> _States:
    """Without choices that lose at least as much as a smaller one; ordered by bytes, losses fall."""
    states = _pick(states, np.lexsort((states.loss, states.nbytes)))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(states.loss)[:-1]])
    return _pick(states, np.flatnonzero(states.loss < best_before))


def _walk_back(layers: Layers, trail: Sequence[_States]) -> Choice:
    """The last of the states has the least loss: what it took, layer by layer."""
    choice = []
    at = len(trail[-1].loss) - 1 if trail else 0
    for candidates, states in zip(reversed(layers), reversed(trail), strict=True):
        choice.append(candidates[int(states.taken[at])])
        at = int(states.before[at])
    return tuple(reversed(choice))
