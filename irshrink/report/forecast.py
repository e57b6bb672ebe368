"""How good a search's predictions were: predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Pairs = list[tuple[float, float]]


def pairs(plan: Mapping[str, Any], quantity: str) -> Pairs:
    """(predicted, measured) of all plans that were tried after something was known about them."""
    return [
        (float(one["expected"][quantity]), float(one["figures"][quantity]))
        for one in plan["evaluations"]
        if one["expected"] and one["figures"] and one["purpose"] != "extreme"
    ]


def rank_correlation(found: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, ties by their mean rank; None for fewer than three pairs, or where one side is constant."""
    if len(found) < 3:
        return None
    ranks = [_ranks([pair[side] for pair in found]) for side in (0, 1)]
    spreads = [float(one.std()) for one in ranks]
    if min(spreads) == 0:
        return None
    first, second = ((one - one.mean()) / spread for one, spread in zip(ranks, spreads, strict=True))
    return float(np.mean(first * second))


def worst_error(found: Sequence[tuple[float, float]]) -> float | None:
    """Largest error of a prediction, relative to what was measured."""
    errors = [abs(expected - given) / abs(given) for expected, given in found if given]
    return max(errors, default=None)


def _ranks(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    given = np.asarray(values, np.float64)
    below = (given[None, :] < given[:, None]).sum(axis=1)
    equal = (given[None, :] == given[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2, np.float64)
