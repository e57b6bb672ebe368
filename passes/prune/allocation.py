"""How much goes of each family: the cheapest channels for what they save, until enough is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from irshrink.passes.prune.ranking import Ranking
from irshrink.passes.prune.savings import Part, Sizes

Array = np.ndarray[Any, np.dtype[Any]]
#: What a ratio is of: the channels of each family, all channels together, multiply-accumulates, bytes of
#: weights, or what the layers take on the target.
By = Literal["layer", "global", "macs", "bytes", "target"]


@dataclass(frozen=True)
class Limits:
    """Attributes:
    least: channels that are left of every family.
    multiple: channels that are left of a family are a multiple of this, where they were before or the
        family is large enough to become one.
    """

    least: int
    multiple: int

    def next_chunk(self, size: int, gone: int) -> int:
        """How many channels go next of a family of ``size``, ``gone`` of them gone; 0 where none can."""
        left = size - gone
        step = self.multiple if size > self.multiple else 1
        chunk = left % step or step
        return chunk if left - chunk >= max(1, self.least) else 0


def same_share(rankings: Sequence[Ranking], ratio: float, limits: Limits, gone: Array) -> Array:
    """Of every family the same share."""
    gone = gone.copy()
    for ranking in rankings:
        size, taken = len(ranking.family), 0
        while (chunk := limits.next_chunk(size, taken)) and taken + chunk <= ratio * size + 1e-9:
            if taken + chunk > len(ranking.order):
                break
            taken += chunk
        gone[ranking.order[:taken]] = True
    return gone


def cheapest(rankings: Sequence[Ranking], sizes: Sizes, goal: float, limits: Limits, gone: Array) -> Array:
    """Of every family as much as costs least for what it saves, until ``sizes`` is at most ``goal``.

    Greedy: the channels that go next are those of the family with the least loss for what they save now;
    what a layer saves depends on what is left on its other side.

    Returns:
        bool [groups]: what is gone then; less than was asked for where nothing more can go.
    """
    gone = gone.copy()
    taken = [0] * len(rankings)
    left = sizes.total(gone)
    while left > goal:
        best, least, saved = -1, np.inf, 0.0
        for index, ranking in enumerate(rankings):
            more = _next(ranking, taken[index], limits)
            saves = sizes.saved(gone, more) if len(more) else 0.0
            if saves <= 0:
                continue
            price = float(ranking.losses[taken[index] : taken[index] + len(more)].sum()) / saves
            if price < least:
                best, least, saved = index, price, saves
        if best < 0:
            break
        more = _next(rankings[best], taken[best], limits)
        gone[more] = True
        taken[best] += len(more)
        left -= saved
    return gone


def _next(ranking: Ranking, taken: int, limits: Limits) -> Array:
    chunk = limits.next_chunk(len(ranking.family), taken)
    return ranking.order[taken : taken + chunk] if taken + chunk <= len(ranking.order) else ranking.order[:0]


def channel_count(rankings: Sequence[Ranking], count: int) -> Sizes:
    """How many channels are left of all families together."""
    return Sizes([Part(float(len(r.family)), (r.family.members,)) for r in rankings], count)
