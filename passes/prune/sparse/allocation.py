"""How many weights of each layer become 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from irshrink.passes.prune.sparse.fit import Zeros
from irshrink.passes.prune.sparse.pattern import Blocks, Pattern, SomeOf

Array = np.ndarray[Any, np.dtype[Any]]
Scope = Literal["output", "layer", "global"]


def allocated(scores: Sequence[Array], pattern: Pattern, sparsity: float, scope: Scope) -> list[Zeros]:
    """A share of the blocks of every output, of every layer, or of all layers.

    Args:
        scores: what weights of each layer are worth, [g, o, n]; of scope ``global`` in the same unit.
    """
    if isinstance(pattern, SomeOf):
        return [Zeros(pattern) for _ in scores]
    if scope == "output":
        each = [-(-one.shape[2] // pattern.inputs) for one in scores]
        return [Zeros(pattern, round(sparsity * blocks), each=True) for blocks in each]
    totals = [pattern.total(one.shape) for one in scores]
    if scope == "layer":
        return [Zeros(pattern, round(sparsity * total)) for total in totals]
    worth = np.concatenate([pattern.worth(one).reshape(-1) for one in scores])
    gone = np.zeros(len(worth), bool)
    gone[np.argsort(worth, kind="stable")[: round(sparsity * len(worth))]] = True
    parts = np.split(gone, np.cumsum(totals)[:-1])
    return [Zeros(pattern, int(part.sum())) for part in parts]


def below(scores: Sequence[Array], pattern: Blocks, threshold: float) -> list[Zeros]:
    """The blocks of each layer that are smaller than a threshold, by the root of their mean square."""
    return [Zeros(pattern, int((pattern.worth(one) < threshold**2).sum())) for one in scores]
