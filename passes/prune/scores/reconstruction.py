"""Output reconstruction: what the next layers lose without a channel, after they did their best without it.

A layer with weights W reads x with second moments H. Without the inputs c, its other weights changed for the
best, its squared error grows by

    tr(W_c ([H^-1]_cc)^-1 W_c^T),      W <- W - W_c ([H^-1]_cc)^-1 [H^-1]_c:

(Hassibi and Stork, *Second order derivatives for network pruning: optimal brain surgeon*, NeurIPS 1992, for
blocks of weights; it is what ThiNet and He et al., both ICCV 2017, search for by greedy selection and LASSO).
A channel is a block of inputs: the taps of a kernel, the positions of a flattened map. The cheapest channel
is taken out, the inverse becomes that of the inputs left, and the next one is asked for. Between changes of
the whole inverse only a pool of the cheapest channels is looked at, whose own part of it is kept exact: of
two channels that can stand in for each other only one goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Changes of a whole inverse, at most, until no candidate is left; so many candidates are looked at for each
#: one that goes.
ROUNDS, POOL = 96, 4


@dataclass
class Reader:
    """A layer that reads channels, while they are taken away.

    Attributes:
        rows: its weights, float64 [o, n].
        inverse: of its damped second moments, float64 [n, n].
        blocks: its inputs of each candidate, int64 [candidates, b].
        worth: what a unit of its squared error counts.
    """

    rows: Array
    inverse: Array
    blocks: Array
    worth: float = 1.0

    def costs(self, candidates: Array) -> Array:
        """What its error grows by without each one of some candidates, [len(candidates)]."""
        blocks = self.blocks[candidates]
        inner = self.inverse[blocks[:, :, None], blocks[:, None, :]]
        weights = self.rows[:, blocks].transpose(1, 2, 0)  # [candidates, b, o]
        if blocks.shape[1] == 1:
            return np.asarray(self.worth * np.square(weights[:, 0]).sum(axis=1) / inner[:, 0, 0])
        return np.asarray(self.worth * (weights * np.linalg.solve(inner, weights)).sum(axis=(1, 2)))

    def part(self, candidates: Array) -> Reader:
        """The same for some candidates alone, numbered from 0, as long as only they go."""
        blocks = self.blocks[candidates]
        inputs = blocks.reshape(-1)
        inner = self.inverse[np.ix_(inputs, inputs)]
        return Reader(self.rows[:, inputs], inner, np.arange(inputs.size).reshape(blocks.shape), self.worth)

    def remove(self, candidates: Array) -> None:
        """Take them out together."""
        block = self.blocks[candidates].reshape(-1)
        across = self.inverse[block]
        factor = np.linalg.solve(across[:, block], across)  # ([H^-1]_cc)^-1 [H^-1]_c:
        self.rows -= self.rows[:, block] @ factor
        self.inverse -= across.T @ factor
        self.rows[:, block] = 0.0


def eliminate(
    readers: Sequence[Reader], left: Array, most: int, in_order: bool = False
) -> tuple[Array, Array]:
    """Take out the cheapest candidate again and again; the readers' weights are those after the last one.

    Args:
        left: the candidates that there are, numbers of rows of the readers' blocks.
        in_order: take them out as ``left`` has them, whatever they cost.

    Returns:
        Those that went, in order, int64 [most], and what each one cost, float64 [most].
    """
    order: list[int] = []
    costs: list[float] = []
    at_once = -(-len(left) // ROUNDS)
    while len(order) < most:
        count = min(at_once, most - len(order))
        pool = left[:count] if in_order else _cheapest(readers, left, POOL * count)
        places, paid = _one_by_one([reader.part(pool) for reader in readers], len(pool), count, in_order)
        for reader in readers:
            reader.remove(pool[places])
        order += [int(one) for one in pool[places]]
        costs += paid
        left = left[~np.isin(left, pool[places])]
    return np.array(order, np.int64), np.array(costs)


def _cheapest(readers: Sequence[Reader], left: Array, count: int) -> Array:
    found = np.sum([reader.costs(left) for reader in readers], axis=0)
    return left[np.sort(np.argsort(found, kind="stable")[:count])]


def _one_by_one(
    readers: Sequence[Reader], candidates: int, count: int, in_order: bool
) -> tuple[list[int], list[float]]:
    left = np.arange(candidates)
    places: list[int] = []
    costs: list[float] = []
    for _ in range(count):
        found = np.sum([reader.costs(left) for reader in readers], axis=0)
        cheapest = 0 if in_order else int(np.argmin(found))
        costs.append(max(0.0, float(found[cheapest])))
        places.append(int(left[cheapest]))
        for reader in readers:
            reader.remove(left[cheapest : cheapest + 1])
        left = np.delete(left, cheapest)
    return places, costs
