"""Connected components, numbered in the order of their first members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def components(count: int, ties: Iterable[Array]) -> Array:
    """The component of each of ``count`` things, int64 [count].

    Args:
        ties: what is tied to what, each int64 [2, ties].
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([np.zeros((2, 0), np.int64), *ties], axis=1)
    matrix = coo_matrix((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(count, count))
    labels = connected_components(matrix, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[inverse.reshape(-1)])
